//! Node-local state: what is kept in the `system` column family.

use std::collections::BTreeMap;

use admin::{Applied, Intent, Reclaimed};
use keyspace::{Cf, Hlc, SlotSet, system};
use rocksdb::{IteratorMode, WriteBatch};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use topology::members::Role;
use topology::{Epoch, FreezeId, ShardName};
use wal::{History, Position, Sequence};

use super::Store;

/// While seeding or rewinding: how far must be applied before the data can be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Until {
    /// Of which source.
    pub source: ShardName,
    /// Up to which of its sequences; none while a rewind still replaces keys.
    pub sequence: Option<Sequence>,
}

/// What the node is, durably.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Standing {
    /// What it last was. `Unknown`: a new directory that has never had a role.
    pub role: Role,
    /// The highest epoch that it acted under.
    pub epoch: Epoch,
    /// The end of what it wrote as a primary, once it is one no more.
    pub own_end: Option<Position>,
    /// The end of the batches after `own_end`, on the same timeline, that are node-local only.
    pub local_until: Option<Sequence>,
    /// The freeze that it ended its log for, with the position of the end batch.
    pub ended: Option<(FreezeId, Position)>,
    /// What seeding or rewinding waits for.
    pub until: Option<Until>,
    /// While seeding from several sources: its slots whose data has not come yet.
    #[serde(default, skip_serializing_if = "SlotSet::is_empty")]
    pub lacks: SlotSet,
}

impl Standing {
    /// Of a directory that has never had a role.
    pub fn new(role: Role) -> Self {
        Self {
            role,
            epoch: Epoch(0),
            own_end: None,
            local_until: None,
            ended: None,
            until: None,
            lacks: SlotSet::default(),
        }
    }
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeState {
    /// What the node is.
    pub standing: Standing,
    /// How far it is with each source.
    pub applied: BTreeMap<ShardName, Applied>,
}

/// What was found in a database at its open.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) history: History,
    pub(super) standing: Option<Standing>,
    pub(super) applied: BTreeMap<ShardName, Applied>,
    pub(super) clock: Hlc,
    pub(super) reclaimed: Reclaimed,
    pub(super) keys: Vec<Vec<u8>>,
    /// A load whose done batch is missing.
    pub(super) load: Option<Intent>,
}

impl Found {
    /// Reads the whole family; it has few keys.
    pub(super) fn read(db: &rocksdb::DB) -> Result<Self, String> {
        let mut found = Self::default();
        let cf = db.cf_handle(Cf::System.name()).ok_or("it has no column family `system`")?;
        for entry in db.iterator_cf(cf, IteratorMode::Start) {
            let (key, value) = entry.map_err(|why| why.to_string())?;
            match &*key {
                system::TIMELINES => found.history = json(&key, &value)?,
                system::STANDING => found.standing = Some(json(&key, &value)?),
                system::CLOCK => {
                    found.clock =
                        system::decode_stamp(&value).ok_or("its clock record is no stamp")?;
                }
                system::RECLAIMED => found.reclaimed = json(&key, &value)?,
                system::LOAD => found.load = Some(super::load::read_intent(&value)?),
                _ => {
                    if let Some(source) = system::applied_source(&key) {
                        let source = source.parse::<ShardName>().map_err(|e| e.to_string())?;
                        found.applied.insert(source, json(&key, &value)?);
                    }
                }
            }
            found.keys.push(key.into_vec());
        }
        Ok(found)
    }
}

pub(super) fn json<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T, String> {
    serde_json::from_slice(value).map_err(|why| {
        format!(
            "its node-local record `{}` cannot be read ({why}): it is damaged, or a later version \
             wrote it",
            String::from_utf8_lossy(key)
        )
    })
}

pub(super) fn put(store: &Store, batch: &mut WriteBatch, key: &[u8], value: &impl Serialize) {
    let value = serde_json::to_vec(value).expect("numbers, names and positions have a JSON form");
    batch.put_cf(store.cf(Cf::System), key, value);
}

pub(super) fn put_standing(store: &Store, batch: &mut WriteBatch, standing: &Standing) {
    put(store, batch, system::STANDING, standing);
}

pub(super) fn put_history(store: &Store, batch: &mut WriteBatch, history: &History) {
    put(store, batch, system::TIMELINES, history);
}

pub(super) fn put_reclaimed(store: &Store, batch: &mut WriteBatch, reclaimed: &Reclaimed) {
    put(store, batch, system::RECLAIMED, reclaimed);
}

/// Makes the records of applied positions say `new`, where they say `old`.
pub(super) fn put_applied(
    store: &Store,
    batch: &mut WriteBatch,
    old: &BTreeMap<ShardName, Applied>,
    new: &BTreeMap<ShardName, Applied>,
) {
    for source in old.keys().filter(|source| !new.contains_key(source)) {
        batch.delete_cf(store.cf(Cf::System), system::applied(&source.to_string()));
    }
    for (source, applied) in new {
        put(store, batch, &system::applied(&source.to_string()), applied);
    }
}

impl NodeState {
    pub(super) fn put_one(&self, store: &Store, batch: &mut WriteBatch, source: &ShardName) {
        if let Some(applied) = self.applied.get(source) {
            put(store, batch, &system::applied(&source.to_string()), applied);
        }
    }
}
