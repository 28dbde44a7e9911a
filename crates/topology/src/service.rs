//! The typed view of one service, and what its members and tools write.
//!
//! Keys under `services/<service>/`: `record`, `member/<cluster>/<shard>/node`,
//! `member/<cluster>/<shard>/sidecar`, `proxy/<id>`, `lease/<cluster>/<shard>`,
//! `promisers/<cluster>/<shard>`, `journal/<op>`, `operation`, `maintenance`, `auto`, `drill`, `note/<what>`. All values
//! are JSON.

mod operator;
mod view;

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;
use tokio::sync::watch;

use crate::any::AnyRegistry;
use crate::members::{Lease, NodeMember, Promisers, ProxyMember, SidecarMember};
use crate::record::{FreezeId, Record, ShardName, is_name};
use crate::registry::{Expect, Outcome, Registry, RegistryError, Revision, View, Write};

pub use view::ServiceView;

/// How long a member's key lasts after it was written.
pub const MEMBER_TTL: Duration = Duration::from_secs(5);
/// How often a member writes its key at the least, changed or not.
pub const MEMBER_BEAT: Duration = Duration::from_secs(1);
/// How many journals of operations are kept; the oldest go first.
pub const JOURNALS_MAX: usize = 32;

/// A registry that did not answer at the start is asked again after this, and later each time up to
/// [`OPEN_AGAIN_MAX`].
const OPEN_AGAIN_MIN: Duration = Duration::from_millis(100);
const OPEN_AGAIN_MAX: Duration = Duration::from_secs(2);

/// One service in a registry. Clones share one watch.
#[derive(Clone, Debug)]
pub struct Service {
    registry: AnyRegistry,
    name: Arc<str>,
    view: watch::Receiver<Arc<ServiceView>>,
}

/// What became of a cancel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// This call ended the freeze; the record is now this.
    Ended(Record),
    /// The freeze was over already: committed or cancelled by someone else; the record is this.
    WasOver(Record),
}

impl Service {
    /// Watches a service, which need not have a record yet.
    ///
    /// # Errors
    /// The registry does not answer; a process that is to outlast that uses [`Service::open_patient`].
    pub async fn open(registry: AnyRegistry, service: &str) -> Result<Self, RegistryError> {
        let prefix = prefix(service)?;
        let raw = registry.watch(&prefix).await?;
        let first = raw.borrow().clone();
        let view = view::follow(service, &first, std::future::ready(raw));
        Ok(Self { registry, name: service.into(), view })
    }

    /// The same for a process that does not end because a registry is silent: until that answers for
    /// the first time, the service looks as one without a record and without members, and a line in the
    /// log says why.
    ///
    /// # Errors
    /// It is no name for a service.
    pub fn open_patient(registry: AnyRegistry, service: &str) -> Result<Self, RegistryError> {
        let prefix = prefix(service)?;
        let asked = registry.clone();
        let raw = async move {
            let mut pause = OPEN_AGAIN_MIN;
            loop {
                match asked.watch(&prefix).await {
                    Ok(raw) => return raw,
                    Err(why) => tracing::warn!("waiting for the registry, and asking again: {why}"),
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(OPEN_AGAIN_MAX);
            }
        };
        let view = view::follow(service, &View::default(), raw);
        Ok(Self { registry, name: service.into(), view })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The registry that it is in.
    pub fn registry(&self) -> &AnyRegistry {
        &self.registry
    }

    /// The service as it is, and again after each change.
    pub fn watch(&self) -> watch::Receiver<Arc<ServiceView>> {
        self.view.clone()
    }

    /// The service as last seen.
    pub fn view(&self) -> Arc<ServiceView> {
        self.view.borrow().clone()
    }

    /// The whole service, read now: an error where the registry does not answer. For acting on what
    /// members say, where a view that stands still would do harm.
    pub async fn read_view(&self) -> Result<ServiceView, RegistryError> {
        let prefix = format!("services/{}/", self.name);
        let raw = self.registry.list(&prefix).await?;
        Ok(ServiceView::of(&prefix, &raw))
    }

    /// The record, read now: for deciding after an unknown outcome.
    pub async fn read_record(&self) -> Result<Option<(Record, Revision)>, RegistryError> {
        let Some(found) = self.registry.get(&self.key("record")).await? else { return Ok(None) };
        let record =
            view::parse_record(&self.name, &found.value).map_err(RegistryError::Unusable)?;
        Ok(Some((record, found.revision)))
    }

    /// Writes the first record of the service; a conflict where there is one.
    pub async fn create_record(&self, record: &Record) -> Result<Outcome, RegistryError> {
        self.write_record(None, record).await
    }

    /// Replaces the record, if it still has the revision that the caller read.
    pub async fn swap_record(
        &self,
        expected: Revision,
        record: &Record,
    ) -> Result<Outcome, RegistryError> {
        self.write_record(Some(expected), record).await
    }

    async fn write_record(
        &self,
        revision: Option<Revision>,
        record: &Record,
    ) -> Result<Outcome, RegistryError> {
        record.validate().map_err(RegistryError::Unusable)?;
        let key = self.key("record");
        let write = Write { key: key.clone(), value: Some(json(record)), ttl: None };
        self.registry.commit(&[Expect { key, revision, value: None }], &[write]).await
    }

    /// Ends this freeze without a commit, unless it is over. Who calls it when the deadline passes
    /// may do so from anywhere: a commit swaps the same record, so one of the two fails.
    pub async fn cancel(&self, freeze: FreezeId) -> Result<Cancelled, RegistryError> {
        /// The record changes only by operations; this many conflicts in a row are no accident.
        const TRIES_MAX: u32 = 32;
        for _ in 0..TRIES_MAX {
            // Before the record is read: whatever nodes act under was in the registry by then.
            let highest = self.view().highest_epoch();
            let Some((record, revision)) = self.read_record().await? else {
                return Err(RegistryError::Unusable(format!(
                    "service `{}` has no record",
                    self.name
                )));
            };
            if let Some((shard, epoch)) = highest.filter(|(_, epoch)| *epoch > record.epoch) {
                return Err(RegistryError::Unusable(format!(
                    "the record of service `{}` is at epoch {}, and the node of {shard} acts under epoch {epoch}: the registry was set back (an old backup?), and the epoch after the record's was taken by somebody else. Nothing was changed; see `godwit-switchover registry check`",
                    self.name, record.epoch
                )));
            }
            if record.freeze().is_none_or(|f| f.id != freeze) {
                return Ok(Cancelled::WasOver(record));
            }
            let ended = record.cancelled();
            if let Outcome::Committed(_) = self.swap_record(revision, &ended).await? {
                return Ok(Cancelled::Ended(ended));
            }
        }
        Err(RegistryError::Unusable(format!(
            "the record of service `{}` changed {TRIES_MAX} times while freeze {freeze} was to be cancelled; nothing was changed: try again",
            self.name
        )))
    }

    /// Writes the record once more as it is, if it still has this revision: a swap that expects the
    /// revision and may still be on its way fails from then on. The revision that the record has now.
    pub async fn outdate(&self, expected: Revision) -> Result<Revision, RegistryError> {
        let Some((record, revision)) = self.read_record().await? else {
            return Err(RegistryError::Unusable(format!("service `{}` has no record", self.name)));
        };
        if revision != expected {
            return Ok(revision);
        }
        match self.swap_record(revision, &record).await? {
            Outcome::Committed(revision) => Ok(revision),
            Outcome::Conflict => {
                let now = self.read_record().await?;
                Ok(now.map_or(Revision::default(), |(_, revision)| revision))
            }
        }
    }

    /// Writes a node's key.
    pub async fn put_node(&self, node: &NodeMember, ttl: Duration) -> Result<(), RegistryError> {
        self.put(self.member_key(&node.shard, "node"), node, ttl).await
    }

    /// Writes a sidecar's key.
    pub async fn put_sidecar(
        &self,
        sidecar: &SidecarMember,
        ttl: Duration,
    ) -> Result<(), RegistryError> {
        self.put(self.member_key(&sidecar.shard, "sidecar"), sidecar, ttl).await
    }

    /// Writes a proxy's key.
    pub async fn put_proxy(&self, proxy: &ProxyMember, ttl: Duration) -> Result<(), RegistryError> {
        if !is_name(&proxy.id) {
            return Err(RegistryError::Unusable(format!(
                "`{}` is no id for a proxy: up to 63 letters, digits, `-` and `_`",
                proxy.id
            )));
        }
        self.put(self.key(&format!("proxy/{}", proxy.id)), proxy, ttl).await
    }

    /// Removes a node's key: it is leaving.
    pub async fn remove_node(&self, shard: &ShardName) -> Result<(), RegistryError> {
        self.remove(self.member_key(shard, "node")).await
    }

    /// Removes a sidecar's key.
    pub async fn remove_sidecar(&self, shard: &ShardName) -> Result<(), RegistryError> {
        self.remove(self.member_key(shard, "sidecar")).await
    }

    /// Removes a proxy's key.
    pub async fn remove_proxy(&self, id: &str) -> Result<(), RegistryError> {
        self.remove(self.key(&format!("proxy/{id}"))).await
    }

    /// Renews a lease, if the record still has the revision that the holder last read, and the bytes
    /// that were read at it: a registry that was set back gives a revision again, to another record.
    /// The holder counts the lease from before this call, on its own clock. `promisers` is written with it:
    /// whom the holder asks from now on, where that has changed.
    pub async fn renew_lease(
        &self,
        lease: &Lease,
        record_revision: Revision,
        promisers: Option<&Promisers>,
    ) -> Result<Outcome, RegistryError> {
        let value = {
            let view = self.view.borrow();
            match &view.record {
                Some((_, revision)) if *revision == record_revision => view.record_bytes.to_vec(),
                // The holder has yet to see what is known here already.
                _ => return Ok(Outcome::Conflict),
            }
        };
        let expect =
            Expect { key: self.key("record"), revision: Some(record_revision), value: Some(value) };
        let mut writes = vec![Write {
            key: self.key(&format!("lease/{}", lease.shard)),
            value: Some(json(lease)),
            ttl: Some(Duration::from_millis(lease.lease_ms)),
        }];
        if let Some(promisers) = promisers {
            let key = self.key(&format!("promisers/{}", promisers.shard));
            writes.push(Write { key, value: Some(json(promisers)), ttl: None });
        }
        self.registry.commit(&[expect], &writes).await
    }

    /// Writes what an operation has done so far. Journals beyond [`JOURNALS_MAX`] are removed, the
    /// ones written longest ago first.
    pub async fn put_journal(&self, op: &str, entry: &Value) -> Result<(), RegistryError> {
        let key = self.key(&format!("journal/{op}"));
        let held = self.registry.list(&self.key("journal/")).await?;
        let mut others: Vec<_> = held.keys.iter().filter(|(k, _)| **k != key).collect();
        others.sort_by_key(|(_, v)| v.revision);
        let excess = (others.len() + 1).saturating_sub(JOURNALS_MAX);
        let old = others[..excess].iter();
        let mut writes: Vec<_> =
            old.map(|(k, _)| Write { key: (*k).clone(), value: None, ttl: None }).collect();
        writes.push(Write { key, value: Some(json(entry)), ttl: None });
        self.registry.commit(&[], &writes).await.map(drop)
    }

    /// The journals of operations, the one written last at the end.
    pub async fn journals(&self) -> Result<Vec<(String, Value)>, RegistryError> {
        let prefix = self.key("journal/");
        let view = self.registry.list(&prefix).await?;
        let mut found: Vec<_> = view.keys.into_iter().collect();
        found.sort_by_key(|(_, v)| v.revision);
        let parsed = found.into_iter().filter_map(|(key, held)| {
            let entry = serde_json::from_slice(&held.value).ok()?;
            Some((key.strip_prefix(&prefix)?.to_owned(), entry))
        });
        Ok(parsed.collect())
    }

    async fn put(
        &self,
        key: String,
        value: &impl Serialize,
        ttl: Duration,
    ) -> Result<(), RegistryError> {
        let write = Write { key, value: Some(json(value)), ttl: Some(ttl) };
        self.registry.commit(&[], &[write]).await.map(drop)
    }

    async fn remove(&self, key: String) -> Result<(), RegistryError> {
        self.registry.commit(&[], &[Write { key, value: None, ttl: None }]).await.map(drop)
    }

    fn key(&self, rest: &str) -> String {
        format!("services/{}/{rest}", self.name)
    }

    fn member_key(&self, shard: &ShardName, kind: &str) -> String {
        self.key(&format!("member/{shard}/{kind}"))
    }
}

/// What the keys of a service begin with.
fn prefix(service: &str) -> Result<String, RegistryError> {
    match is_name(service) {
        true => Ok(format!("services/{service}/")),
        false => Err(RegistryError::Unusable(format!(
            "`{service}` is no name for a service: up to 63 letters, digits, `-` and `_`"
        ))),
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("records and members have text keys and no failing parts")
}
