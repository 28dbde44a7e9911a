//! What a record is made of.

use keyspace::SlotSet;
use serde::{Deserialize, Serialize};
use wal::Position;

use super::names::{Epoch, FreezeId, ShardName, UnixMs};
use super::rest::Rest;

/// A shard of the plan: its slots. Its addresses are in its members' own keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Shard {
    /// The slots that it holds.
    pub slots: SlotSet,
    /// What a later version says of it.
    #[serde(flatten)]
    pub rest: Rest,
}

/// A complete copy of the service's data in one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Cluster {
    /// Its shards, by number; together they hold every slot once.
    pub shards: Vec<Shard>,
    /// What a later version says of it.
    #[serde(flatten)]
    pub rest: Rest,
}

/// Why traffic moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Planned: every source node writes its end batch.
    Switchover,
    /// Unplanned: what a dead node left in its log is drained by its sidecar, and what cannot be
    /// reached is given up once its lease has ended.
    Failover,
}

/// A freeze: nodes refuse writes and proxies hold them until a commit or a cancel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Freeze {
    /// Random; names the end batches and the operation.
    pub id: FreezeId,
    /// Why.
    pub cause: Cause,
    /// Whose primaries are frozen. Primaries of other shards go on.
    pub shards: Vec<ShardName>,
    /// The cluster that is to take over.
    pub to: String,
    /// When anyone may cancel it.
    pub deadline: UnixMs,
    /// When it began.
    pub since: UnixMs,
    /// What a later version says of it.
    #[serde(flatten)]
    pub rest: Rest,
}

/// What is being changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum Phase {
    /// Nothing.
    Steady,
    /// Writes stand still for a switch that has not committed.
    Frozen(Freeze),
}

/// Where a shard left another's log at a commit: what the target had applied of the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Fork {
    /// The epoch that the commit took.
    pub epoch: Epoch,
    /// The freeze that led to it.
    pub freeze: FreezeId,
    /// Whose log was left.
    pub source: ShardName,
    /// Who left it.
    pub target: ShardName,
    /// The last position applied.
    pub at: Position,
    /// The end of the source's log, where it was proven (its end batch or a drain); absent where
    /// only the lease ended.
    pub end: Option<Position>,
    /// What a later version says of it.
    #[serde(flatten)]
    pub rest: Rest,
}

/// Where reads go in place of the primaries: to a cluster that follows. They may be stale, up to a
/// bound; who may write is not touched by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Reads {
    /// The cluster.
    pub cluster: String,
    /// How far behind its sources any of its shards may be, in milliseconds; beyond, reads go to the
    /// primaries until all are well below.
    pub max_lag_ms: u64,
    /// What a later version says of it.
    #[serde(flatten)]
    pub rest: Rest,
}

impl Cluster {
    /// A cluster with a shard for each of these.
    pub fn of(slots: impl IntoIterator<Item = SlotSet>) -> Self {
        let shard = |slots| Shard { slots, rest: Rest::default() };
        Self { shards: slots.into_iter().map(shard).collect(), rest: Rest::default() }
    }

    /// Whether its shards hold the same slots as those of another.
    pub fn has_slots_of(&self, other: &Self) -> bool {
        self.shards.iter().map(|s| &s.slots).eq(other.shards.iter().map(|s| &s.slots))
    }
}

impl Reads {
    /// Reads that go to this cluster, unless it is further behind.
    pub fn to(cluster: &str, max_lag_ms: u64) -> Self {
        Self { cluster: cluster.to_owned(), max_lag_ms, rest: Rest::default() }
    }
}
