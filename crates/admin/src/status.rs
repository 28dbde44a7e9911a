//! What a node says of itself.

use std::collections::BTreeMap;

use keyspace::{Hlc, SlotSet};
use serde::{Deserialize, Serialize};
use topology::members::Role;
use topology::record::UnixMs;
use topology::{Epoch, FreezeId, ShardName};
use wal::{Chain, History, Position, Sequence};

/// How far a node is with one source; it is stored in the same batch as the data it speaks of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Applied {
    /// The last position applied, on the source's timeline.
    pub position: Position,
    /// The chain of the source's log there.
    pub log_chain: Chain,
    /// The chain of the stream there.
    pub stream_chain: Chain,
    /// The highest stamp applied.
    pub stamp: Hlc,
    /// The epoch of the last frame: a frame of a lower one is refused.
    pub epoch: Epoch,
    /// The freeze whose end batch was the last batch applied that was not node-local.
    pub ended: Option<FreezeId>,
}

/// The freeze that a node stands in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FreezeStatus {
    /// Its id.
    pub id: FreezeId,
    /// When anyone may cancel it.
    pub deadline: UnixMs,
}

/// Answer of `GODWIT.STATUS`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Status {
    /// The database's id, 32 hexadecimal digits: a directory that was swapped in has another.
    pub database: String,
    /// The format of the directory.
    pub format: u32,
    /// The service it belongs to, if it does.
    pub service: Option<String>,
    /// The shard it is, if it belongs to a service.
    pub shard: Option<ShardName>,
    /// The slots that it holds.
    pub slots: SlotSet,
    /// What it does.
    pub role: Role,
    /// The epoch that it acts under.
    pub epoch: Epoch,
    /// It acts as a primary only once the record has reached this epoch.
    pub fence: Epoch,
    /// Whether it accepts writes now.
    pub writable: bool,
    /// How long it may still write; none without a lease.
    pub lease_left_ms: Option<u64>,
    /// The end of its own log.
    pub position: Position,
    /// The end of what it wrote as a primary, once it is one no more.
    pub own_end: Option<Position>,
    /// The end of the batches after `own_end`, on the same timeline, that hold nothing but
    /// node-local state.
    pub local_until: Option<Sequence>,
    /// Its timelines.
    pub history: History,
    /// How far it is with each source.
    pub applied: BTreeMap<ShardName, Applied>,
    /// Of those, what is on its disk: the last source sequence that a sync covered.
    pub synced: BTreeMap<ShardName, Sequence>,
    /// The freeze that it stands in.
    pub freeze: Option<FreezeStatus>,
    /// The freeze that it has ended its log for, with the position of the end batch.
    pub ended: Option<(FreezeId, Position)>,
    /// While seeding or rewinding: the source's sequence up to which it must apply; none where that
    /// is not known yet.
    pub until: Option<Sequence>,
}
