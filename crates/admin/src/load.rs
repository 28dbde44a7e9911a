//! Loads: what a node was asked to take in, and what came of it.

use keyspace::{Cf, Hlc, SlotSet};
use serde::{Deserialize, Serialize};
use wal::{Position, Sequence};

/// The record `load` of the system family, while a node takes in a load: what it is going to do, in
/// the log before any of it is done, so that it can be done again.
///
/// A sidecar reads it from the log to find the files that its followers need.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Intent {
    /// The load's id: 32 hexadecimal digits.
    pub id: String,
    /// The directory of its files, in the node's `loads`.
    pub dir: String,
    /// The stamp of its records.
    pub stamp: Hlc,
    /// The slots whose records are taken in.
    pub slots: SlotSet,
    /// What RocksDB takes in, meta records first. Paths in `dir`.
    pub files: Vec<IntentFile>,
    /// The end of the batch that this record is in.
    pub end: Sequence,
    /// They are a seed of these slots and no load: nothing is remembered of it as one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub seed: bool,
}

/// One table file of an [`Intent`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct IntentFile {
    /// The number of its column family.
    pub family: u32,
    /// Where it is.
    pub path: String,
}

impl Intent {
    /// The directory of loads in a node's directory.
    pub const DIR: &str = "loads";
    /// Of those, the directory of what a standby's sidecar received.
    pub const RECEIVED: &str = "received";
    /// The file beside a received manifest that says which slots are for this node's taking.
    pub const PART: &str = "part.json";

    /// The file in a load's directory that says where in the log it was announced. Without it the
    /// log has never heard of the load.
    pub const TAKEN: &str = "taken.json";

    /// The id as a number: the marker of the load's tags.
    pub fn marker(&self) -> u128 {
        u128::from_str_radix(&self.id, 16).unwrap_or_default()
    }

    /// Where a standby's sidecar puts a load of a source, from the node's directory on.
    pub fn received(source: &topology::ShardName, id: &str) -> std::path::PathBuf {
        let name = format!("{}-{}-{id}", source.cluster, source.shard);
        [Self::DIR, Self::RECEIVED, &name].iter().collect()
    }

    /// Its files of one family.
    pub fn files_of(&self, cf: Cf) -> impl Iterator<Item = &str> {
        self.files.iter().filter(move |file| file.family == cf.id()).map(|file| &*file.path)
    }
}

/// What is in [`Intent::PART`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Part {
    /// The slots that the source took in and this node has.
    pub slots: SlotSet,
}

/// What is in [`Intent::TAKEN`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Taken {
    /// The end of the batch that announced the load.
    pub position: Position,
}

/// The record `loaded/<id>` of the system family: what is remembered of a load that was taken in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Loaded {
    /// The stamp of its records: no other load may have it.
    pub stamp: Hlc,
    /// The slots whose records were taken in.
    pub slots: SlotSet,
    /// The stamp of the log when it was: what a clock of versions should take its records for.
    pub at: Hlc,
}

/// The answer of `GODWIT.INGEST`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Ingested {
    /// The load.
    pub id: String,
    /// It had been taken in before: nothing was done now.
    pub already: bool,
    /// The slots of this node that it covers.
    pub slots: SlotSet,
    /// The end of the log after it.
    pub position: Position,
    /// Files that were taken in.
    pub files: u64,
    /// Records in them.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How long copying and checking took, in seconds; commands ran meanwhile.
    pub prepare_seconds: f64,
    /// How long commands stood still.
    pub held_seconds: f64,
}

/// The answer of `GODWIT.SLOTS DUMP`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SlotsExported {
    /// The load's id.
    pub id: String,
    /// Its stamp.
    pub stamp: Hlc,
    /// What was exported.
    pub slots: SlotSet,
    /// The end of the log that it shows: all that came before, nothing of what came after.
    pub position: Position,
    /// Keys in it.
    pub keys: u64,
    /// Records in it.
    pub records: u64,
    /// Its files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How long it took, in seconds; commands ran meanwhile.
    pub seconds: f64,
}

/// The answer of `GODWIT.SLOTS DELETE`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SlotsDeleted {
    /// What was deleted.
    pub slots: SlotSet,
    /// Those of them that the node holds.
    pub held: SlotSet,
    /// The end of the log after it.
    pub position: Position,
}
