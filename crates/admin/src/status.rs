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

/// Up to where a node has reclaimed space: stored before the space is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Reclaimed {
    /// The position of the last reclaim view that was used, of the node's own log: it cannot rewind
    /// to before it.
    pub own: Option<Position>,
    /// The same for each source, in that source's log.
    pub sources: BTreeMap<ShardName, Position>,
    /// Unix milliseconds: what had expired by then may be gone.
    pub horizon_ms: u64,
}

/// How reclaiming goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ReclaimStatus {
    /// Up to where.
    pub reclaimed: Reclaimed,
    /// Milliseconds since the oldest view in use was taken; none without one.
    pub view_age_ms: Option<u64>,
    /// Why a newer view is not used yet.
    pub held: Option<String>,
    /// Records that compactions dropped since the database was opened.
    pub dropped_records: u64,
    /// Bytes of their keys and values.
    pub dropped_bytes: u64,
}

/// Answer of `GODWIT.STATUS`. A node may be newer than who asks, and say more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Status {
    /// The database's id, 32 hexadecimal digits: a directory that was swapped in has another.
    pub database: String,
    /// The version of the control protocol that the node speaks, see [`Status::CONTROL`].
    #[serde(default)]
    pub control: u32,
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
    /// Of its slots, those whose data it lacks: it is seeding until it has all of them.
    #[serde(default)]
    pub lacks: SlotSet,
    /// How reclaiming goes.
    pub reclaim: ReclaimStatus,
    /// How far the wall clock has jumped ahead of what the node believes.
    pub clock_ahead_ms: Option<u64>,
    /// Microseconds below which 99 of 100 commands of the last seconds took; none where there were
    /// too few to say, or they are not measured.
    #[serde(default)]
    pub p99_us: Option<u64>,
    /// Promises while the registry is silent.
    #[serde(default)]
    pub promises: crate::PromiseStatus,
}

impl Status {
    /// The version of the control protocol that this program speaks.
    ///
    /// - 0: nodes that say none.
    /// - 1: commands can be meant for the database that was asked (`GODWIT.ON`); records of no slot can be read and
    ///   taken back (`GODWIT.RECORDS`, `GODWIT.REWIND RECORDS`).
    pub const CONTROL: u32 = 1;
    /// The first version that has `GODWIT.ON`.
    pub const HAS_ON: u32 = 1;
    /// The first version that has `GODWIT.RECORDS` and `GODWIT.REWIND RECORDS`.
    pub const HAS_RECORDS: u32 = 1;
}
