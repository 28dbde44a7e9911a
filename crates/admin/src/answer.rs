//! The other answers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use topology::ShardName;
use wal::{History, Position, Sequence};

use crate::Applied;

/// Answer of `GODWIT.CHECKPOINT`, read from the finished checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CheckpointInfo {
    /// Where it is.
    pub path: PathBuf,
    /// The end of the node's log that it holds.
    pub position: Position,
    /// The id of the database that it is of.
    pub database: String,
    /// The timelines of that log.
    pub history: History,
    /// How far the node was with each source.
    pub applied: BTreeMap<ShardName, Applied>,
}

/// Answer of `GODWIT.BARRIER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Barrier {
    /// Names it: standbys digest under the same id.
    pub id: u128,
    /// Its position in the node's log.
    pub position: Position,
}

/// Answer of `GODWIT.EXPORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The position that the records were read at.
    pub position: Position,
    /// A RocksDB `WriteBatch` that puts every raw record of the keys.
    pub batch: Vec<u8>,
}

/// Answer of `GODWIT.SYNC`: by source, the last sequence that is applied and on the node's disk.
pub type Synced = BTreeMap<ShardName, Sequence>;

/// Answer of `GODWIT.SLOTS MEASURE`: estimates, from RocksDB's tables and what is in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Measured {
    /// Bytes that the slots take, compressed as they are stored.
    pub bytes: u64,
    /// Bytes that everything takes: what a seed would send.
    pub all_bytes: u64,
    /// Keys of the whole node, deleted and expired ones in part included.
    pub all_keys: u64,
}

/// Answer of `GODWIT.SLOTS EXPORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportedSlots {
    /// The position that the records were read at.
    pub position: Position,
    /// The meta key to go on after; none at the end.
    pub next: Option<Vec<u8>>,
    /// A RocksDB `WriteBatch` that puts the records of the keys up to that one.
    pub batch: Vec<u8>,
}

/// Answer of `GODWIT.SLOTS STAMPED`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StampedKeys {
    /// The meta key to go on after; none at the end.
    pub next: Option<Vec<u8>>,
    /// Keys whose record has the stamp.
    pub keys: Vec<Vec<u8>>,
}
