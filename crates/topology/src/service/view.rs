//! From the keys of a service to what they mean.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::members::{DrillOrder, Lease, NodeMember, Promisers, ProxyMember, SidecarMember};
use crate::operator::{Auto, Claim, Maintenance, Note};
use crate::record::{Epoch, Record, ShardName};
use crate::registry::{Revision, View};

/// A service as its registry shows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceView {
    /// Who may write, with its revision; `None` before `init`. A record that cannot be used, or that
    /// goes back, is not shown: the last good one stays, with its old revision, under which no lease
    /// is renewed.
    pub record: Option<(Record, Revision)>,
    /// The record's bytes as they were read at that revision.
    pub record_bytes: Arc<[u8]>,
    /// The nodes that live, by shard.
    pub nodes: BTreeMap<ShardName, NodeMember>,
    /// The sidecars that live, by the shard that they stand beside.
    pub sidecars: BTreeMap<ShardName, SidecarMember>,
    /// The proxies that live, by id.
    pub proxies: BTreeMap<String, ProxyMember>,
    /// The leases that have not ended, by holder.
    pub leases: BTreeMap<ShardName, Lease>,
    /// Whom primaries ask for promises while the registry is silent, by primary.
    pub promisers: BTreeMap<ShardName, Promisers>,
    /// The operation that somebody is at.
    pub claim: Option<Claim>,
    /// That operators asked for quiet.
    pub maintenance: Option<Maintenance>,
    /// That it may fail over by itself.
    pub auto: Option<Auto>,
    /// The drill that sidecars are asked for.
    pub drill: Option<DrillOrder>,
    /// What was done last, by what it was.
    pub notes: BTreeMap<String, Note>,
    /// Keys that cannot be understood, and why.
    pub problems: BTreeMap<String, String>,
}

/// A service's record from its bytes, checked.
pub(super) fn parse_record(service: &str, bytes: &[u8]) -> Result<Record, String> {
    let record = Record::parse(bytes)
        .map_err(|why| format!("the record of service `{service}` cannot be used: {why}"))?;
    match record.service == service {
        true => Ok(record),
        false => Err(format!(
            "the record of service `{service}` is of service `{}`: the registry was mixed up by hand",
            record.service
        )),
    }
}

/// Follows a watch of the service's keys, which may be there later; `first` is what is known of them
/// before. Ends when its last receiver is dropped.
pub(super) fn follow(
    service: &str,
    first: &View,
    raw: impl Future<Output = watch::Receiver<View>> + Send + 'static,
) -> watch::Receiver<Arc<ServiceView>> {
    let prefix = format!("services/{service}/");
    let mut seen = first.clone();
    let first = ServiceView::of(&prefix, &seen);
    let (sender, receiver) = watch::channel(Arc::new(first));
    tokio::spawn(async move {
        let mut raw = tokio::select! {
            raw = raw => raw,
            () = sender.closed() => return,
        };
        // What came while it was waited for.
        raw.mark_changed();
        loop {
            tokio::select! {
                changed = raw.changed() => if changed.is_err() { return },
                () = sender.closed() => return,
            }
            let view = raw.borrow_and_update().clone();
            let next = sender.borrow().with(&prefix, &seen, &view);
            seen = view;
            sender.send_replace(Arc::new(next));
        }
    });
    receiver
}

impl ServiceView {
    /// What all keys of a service say.
    pub(super) fn of(prefix: &str, keys: &View) -> Self {
        Self::default().with(prefix, &View::default(), keys)
    }

    /// The record.
    pub fn record(&self) -> Option<&Record> {
        self.record.as_ref().map(|(record, _)| record)
    }

    /// The highest epoch that a node which lives says it acts under, and which node.
    pub fn highest_epoch(&self) -> Option<(ShardName, Epoch)> {
        let nodes = self.nodes.values().map(|node| (node.shard.clone(), node.epoch));
        nodes.max_by_key(|(_, epoch)| *epoch)
    }

    /// This view with the keys that differ between two views of the registry read again.
    fn with(&self, prefix: &str, before: &View, after: &View) -> Self {
        let mut next = self.clone();
        let gone = before.keys.keys().filter(|key| !after.keys.contains_key(*key));
        for key in gone {
            next.remove(key.strip_prefix(prefix).unwrap_or(key));
        }
        for (key, held) in &after.keys {
            if before.keys.get(key).is_some_and(|old| old.revision == held.revision) {
                continue;
            }
            let name = key.strip_prefix(prefix).unwrap_or(key);
            match next.insert(prefix, name, &held.value, held.revision) {
                Ok(()) => next.problems.remove(name),
                Err(why) => {
                    if next.problems.get(name) != Some(&why) {
                        tracing::error!("the registry key {key} cannot be used: {why}");
                    }
                    next.problems.insert(name.to_owned(), why)
                }
            };
        }
        next
    }

    fn insert(
        &mut self,
        prefix: &str,
        name: &str,
        value: &[u8],
        revision: Revision,
    ) -> Result<(), String> {
        match name.split('/').collect::<Vec<_>>()[..] {
            ["record"] => {
                let service = prefix.trim_start_matches("services/").trim_end_matches('/');
                let record = parse_record(service, value)?;
                if let Some((held, _)) = &self.record {
                    goes_on(held, &record)?;
                }
                self.record = Some((record, revision));
                self.record_bytes = value.into();
            }
            ["member", cluster, shard, "node"] => {
                self.nodes.insert(shard_name(cluster, shard)?, parse(value)?);
            }
            ["member", cluster, shard, "sidecar"] => {
                self.sidecars.insert(shard_name(cluster, shard)?, parse(value)?);
            }
            ["proxy", id] => {
                self.proxies.insert(id.to_owned(), parse(value)?);
            }
            ["lease", cluster, shard] => {
                self.leases.insert(shard_name(cluster, shard)?, parse(value)?);
            }
            ["promisers", cluster, shard] => {
                self.promisers.insert(shard_name(cluster, shard)?, parse(value)?);
            }
            ["operation"] => self.claim = Some(parse(value)?),
            ["maintenance"] => self.maintenance = Some(parse(value)?),
            ["auto"] => self.auto = Some(parse(value)?),
            ["drill"] => self.drill = Some(parse(value)?),
            ["note", what] => {
                self.notes.insert(what.to_owned(), parse(value)?);
            }
            ["journal", _] => {}
            _ => return Err("it is no key of this version".to_owned()),
        }
        Ok(())
    }

    fn remove(&mut self, name: &str) {
        self.problems.remove(name);
        match name.split('/').collect::<Vec<_>>()[..] {
            ["record"] => {
                let why =
                    "the record is gone: the registry was emptied, or replaced by another one";
                self.problems.insert(name.to_owned(), why.to_owned());
            }
            ["operation"] => self.claim = None,
            ["maintenance"] => self.maintenance = None,
            ["auto"] => self.auto = None,
            ["drill"] => self.drill = None,
            ["note", what] => {
                self.notes.remove(what);
            }
            ["member", cluster, shard, "node"] => {
                shard_name(cluster, shard).ok().and_then(|s| self.nodes.remove(&s));
            }
            ["member", cluster, shard, "sidecar"] => {
                shard_name(cluster, shard).ok().and_then(|s| self.sidecars.remove(&s));
            }
            ["lease", cluster, shard] => {
                shard_name(cluster, shard).ok().and_then(|s| self.leases.remove(&s));
            }
            ["promisers", cluster, shard] => {
                shard_name(cluster, shard).ok().and_then(|s| self.promisers.remove(&s));
            }
            ["proxy", id] => {
                self.proxies.remove(id);
            }
            _ => {}
        }
    }
}

/// Whether a record can come after another: epochs rise, and within one nothing changes who may write.
/// A registry that was restored from an old backup shows records that cannot.
fn goes_on(held: &Record, next: &Record) -> Result<(), String> {
    let same = held.primaries == next.primaries && held.forks == next.forks;
    if next.epoch > held.epoch || next.epoch == held.epoch && same {
        return Ok(());
    }
    Err(format!(
        "it says epoch {} where epoch {} was seen{}: the registry was set back (an old backup?) or is \
         another one. Nothing follows it, and no lease is renewed; see `godwit-switchover registry check`",
        next.epoch,
        held.epoch,
        if next.epoch == held.epoch { ", with other primaries" } else { "" },
    ))
}

fn shard_name(cluster: &str, shard: &str) -> Result<ShardName, String> {
    format!("{cluster}/{shard}")
        .parse()
        .map_err(|why: crate::record::ParseShardError| why.to_string())
}

fn parse<T: DeserializeOwned>(value: &[u8]) -> Result<T, String> {
    serde_json::from_slice(value)
        .map_err(|why| format!("{why}: was it written by a newer version?"))
}
