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
