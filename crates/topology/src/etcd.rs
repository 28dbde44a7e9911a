//! The registry of many machines: etcd, version 3.4 or later.
//!
//! A key is etcd's key under the address's prefix, a revision is etcd's `mod_revision`, a commit is
//! one transaction, and a key that ends with its writer is put under a lease. Everything is read
//! through the quorum, never from one member's memory.
//!
//! etcd speaks gRPC. The transport is ours ([`link`]), because the certificates, deadlines and
//! choice of a member are ours; the messages are written by hand ([`proto`]), so that no build needs
//! a compiler of Protocol Buffers.

mod address;
mod client;
mod leases;
mod link;
mod proto;
mod watcher;

use std::fmt;
use std::time::Duration;

use tokio::sync::watch;
use tonic::Code;

use crate::limits;
use crate::registry::{Expect, Outcome, Registry, RegistryError, Revision, Versioned, View, Write};
use address::Address;
use client::{Again, Client, Failed};
use leases::Leases;
use proto::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RangeResponse, Request, RequestOp,
    TxnRequest, TxnResponse,
};

/// Every write of a member's key is one for the disks of a quorum, so what only counts up is told
/// with this much between.
const QUIET: Duration = Duration::from_millis(100);

/// A registry in an etcd cluster. Clones share one connection.
#[derive(Clone, Debug)]
pub struct EtcdRegistry {
    client: Client,
    leases: Leases,
}

impl EtcdRegistry {
    /// Reads an address, what follows `etcd:`; connects when it is first asked something.
    ///
    /// # Errors
    /// It is no address; the sentence says what to write.
    pub fn open(rest: &str) -> Result<Self, RegistryError> {
        let address = Address::parse(rest).map_err(|why| {
            RegistryError::Unusable(format!("the registry `etcd:{}` cannot be: {why}", shown(rest)))
        })?;
        Ok(Self { client: Client::new(address), leases: Leases::default() })
    }

    /// etcd's key range for a prefix of ours.
    fn range(&self, prefix: &str) -> (Vec<u8>, Vec<u8>) {
        let key = self.key(prefix);
        let mut end = key.clone();
        // The next text that does not begin so. Keys are ASCII, so the last byte can rise.
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        (key, end)
    }

    fn key(&self, key: &str) -> Vec<u8> {
        format!("{}{key}", self.client.address().prefix).into_bytes()
    }

    async fn transaction(
        &self,
        expect: &[Expect],
        writes: &[Write],
    ) -> Result<TxnResponse, Failed> {
        let revisions = expect.iter().map(|expected| Compare {
            target: Compare::MOD,
            key: self.key(&expected.key),
            mod_revision: Some(expected.revision.map_or(0, |r| r.0.try_into().unwrap_or(i64::MAX))),
            ..Compare::default()
        });
        let values = expect.iter().filter(|expected| expected.value.is_some());
        let values = values.map(|expected| Compare {
            target: Compare::VALUE,
            key: self.key(&expected.key),
            value: expected.value.clone(),
            ..Compare::default()
        });
        let compare = revisions.chain(values);
        let mut success = Vec::with_capacity(writes.len());
        for write in writes {
            let key = self.key(&write.key);
            let request = match (&write.value, write.ttl) {
                (None, _) => Request::Delete(DeleteRangeRequest { key }),
                (Some(value), ttl) => {
                    let lease = match ttl {
                        Some(ttl) => self.leases.of(&self.client, &write.key, ttl).await?,
                        None => 0,
                    };
                    Request::Put(PutRequest { key, value: value.clone(), lease })
                }
            };
            success.push(RequestOp { request: Some(request) });
        }
        let wish = TxnRequest { compare: compare.collect(), success };
        // Done twice, a commit that changes what it expects would answer `conflict` for itself.
        let changes = |e: &Expect| writes.iter().any(|w| w.key == e.key);
        let again = if expect.iter().any(changes) { Again::Never } else { Again::Safe };
        self.client.call("/etcdserverpb.KV/Txn", wish, again).await
    }
}

impl Registry for EtcdRegistry {
    async fn get(&self, key: &str) -> Result<Option<Versioned>, RegistryError> {
        let wish = RangeRequest { key: self.key(key), ..RangeRequest::default() };
        let asked = self.client.call("/etcdserverpb.KV/Range", wish, Again::Safe).await;
        let answer: RangeResponse = asked.map_err(|failed| self.client.error(failed))?;
        Ok(answer
            .kvs
            .into_iter()
            .next()
            .map(|kv| Versioned { value: kv.value, revision: revision(kv.mod_revision) }))
    }

    async fn list(&self, prefix: &str) -> Result<View, RegistryError> {
        Ok(self.read_all(prefix).await?.view)
    }

    async fn commit(&self, expect: &[Expect], writes: &[Write]) -> Result<Outcome, RegistryError> {
        limits::check(expect, writes)?;
        let stays = writes.iter().any(|write| write.ttl.is_none());
        let failpoint = |name: &str, why: &str| {
            let fails = stays && ops::failpoint::hit(name);
            let error = || self.client.error(Failed::Unknown(format!("{why}: a failpoint")));
            if fails { Err(error()) } else { Ok(()) }
        };
        failpoint("registry-silent", "it is silent")?;
        let mut done = self.transaction(expect, writes).await;
        if matches!(&done, Err(Failed::Refused(status)) if status.code() == Code::NotFound) {
            // A lease ended behind our back; nothing was written. New ones, once.
            writes.iter().for_each(|write| self.leases.forget(&write.key));
            done = self.transaction(expect, writes).await;
        }
        let answer = done.map_err(|failed| self.client.error(failed))?;
        failpoint("registry-answer-lost", "its answer was lost")?;
        if !answer.succeeded {
            return Ok(Outcome::Conflict);
        }
        let without = writes.iter().filter(|write| write.ttl.is_none() || write.value.is_none());
        without.for_each(|write| self.leases.forget(&write.key));
        Ok(Outcome::Committed(revision(answer.header.unwrap_or_default().revision)))
    }

    async fn watch(&self, prefix: &str) -> Result<watch::Receiver<View>, RegistryError> {
        watcher::start(self.clone(), prefix).await
    }

    fn quiet(&self) -> Duration {
        QUIET
    }
}

impl fmt::Display for EtcdRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.client.address().fmt(f)
    }
}

/// An address for a message: without what may be a secret in the wrong place.
fn shown(rest: &str) -> &str {
    let end = rest.find('?').unwrap_or(rest.len());
    if rest.contains('@') { "..." } else { &rest[..end] }
}

/// etcd's revisions are signed and never negative.
fn revision(number: i64) -> Revision {
    Revision(u64::try_from(number).unwrap_or(0))
}

/// Our key of etcd's; `None` for what cannot be ours.
fn key_of(prefix: &str, key: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(key).ok()?;
    Some(text.strip_prefix(prefix)?.to_owned())
}
