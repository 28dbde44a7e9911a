//! What the members of a service say of themselves in the registry: each process writes its own
//! key under a lease of its own, at each change and at least every second. Everyone else watches
//! the service's prefix; the tools need no other connection.
//!
//! What members say grows from version to version, and they are upgraded one by one: readers pass over
//! what they do not know of it. (Of the record too, but for what comes with a level: see [`crate::Record::level`].)

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wal::{Position, Sequence};

use crate::record::{Epoch, FreezeId, ShardName, UnixMs};

pub use crate::drill::{DrillOrder, DrillSeen, DrillState};
pub use crate::needs::{Needs, Peer};
pub use crate::observed::{ReadsMember, Sight};
pub use crate::promises::{Promised, Promisers, Promises};

/// What a node is doing for its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Belongs to a service and has not learned its role yet: reads only what a standby may.
    Unknown,
    /// Accepts writes while its lease lasts.
    Primary,
    /// Applies what its sources send; answers reads after READONLY.
    Standby,
    /// Being filled from a checkpoint: not readable, not promotable.
    Seeding,
    /// Taking back what it wrote past the fork: not readable, not promotable.
    Rewinding,
    /// Belongs to no service: accepts writes without a lease.
    Standalone,
}

/// How far a standby is with one source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AppliedStatus {
    /// The last position applied, on the source's timeline.
    pub position: Position,
    /// Milliseconds of the stamp of the last batch applied.
    pub stamp_ms: u64,
    /// The freeze whose end batch was the last batch applied that was not node-local.
    pub ended: Option<FreezeId>,
}

/// A node's key: `member/<cluster>/<shard>/node`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct NodeMember {
    /// Which shard it is.
    pub shard: ShardName,
    /// Where clients connect.
    pub client: String,
    /// Where control commands go: `unix:/path` or `host:port`.
    pub admin: String,
    /// Where metrics are served, if they are.
    pub metrics: Option<String>,
    /// Its process id.
    pub pid: u32,
    /// Its data directory.
    pub dir: String,
    /// Its version.
    pub version: String,
    /// What it does now.
    pub role: Role,
    /// The epoch that it acts under.
    pub epoch: Epoch,
    /// The end of its own log.
    pub position: Option<Position>,
    /// The end of what it wrote as a primary, once it is one no more.
    pub own_end: Option<Position>,
    /// The freeze that it has ended its log for, with the position of the end batch.
    pub ended: Option<(FreezeId, Position)>,
    /// What it has applied, by source shard.
    pub applied: BTreeMap<String, AppliedStatus>,
    /// The settings that two clusters should agree on and that are not at their default, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    /// A digest of its users and what they may do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users: Option<String>,
    /// Bytes that are free on the volume of its directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_free: Option<u64>,
    /// What it has promised to primaries; none from a version that gives no promises.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promises: Option<Promises>,
    /// When this was written.
    pub at: UnixMs,
}

/// What a sidecar found when it read a dead node's log to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Drained {
    /// For which freeze.
    pub freeze: FreezeId,
    /// The end of the log; nothing was or can be written after it under an epoch below `fence`.
    pub end: Position,
    /// The fence that was synced: the node writes again only once the record reaches this epoch.
    pub fence: Epoch,
}

/// How a sidecar's stream to one target is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StreamStatus {
    /// `connecting`, `seeding`, `rewinding`, `streaming`, `refused`, `lost`.
    pub state: String,
    /// What stands in the way, in a sentence; for `connecting`, `refused` and `lost`, and for `streaming`
    /// while the target's stage is full.
    pub reason: Option<String>,
    /// The last position that the target has on its disk.
    pub staged: Option<Position>,
    /// The last position that the target has applied.
    pub applied: Option<Position>,
    /// Milliseconds from the stamp of a batch to its application there, of the newest one.
    pub lag_ms: Option<u64>,
    /// Batches and bytes of the log that the target has not staged.
    pub behind_bytes: u64,
    /// Bytes sent since this stream was made, as compressed on the wire.
    pub sent_bytes: u64,
    /// Of those, bytes of checkpoints (seeds) and of fetched keys (rewinds).
    pub seed_bytes: u64,
    /// What was measured of the target.
    #[serde(default)]
    pub peer: Peer,
}

/// What holds back what is staged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeldBy {
    /// A delay that is wanted.
    Delay,
    /// A breaker that has tripped: an operator must decide.
    Breaker,
    /// An operator has discarded the stream.
    Discarded,
}

/// That what is staged is held back, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Held {
    /// By what.
    pub by: HeldBy,
    /// In a sentence.
    pub reason: String,
}

/// By which way the log of a source comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WayBy {
    /// Its sidecar sends it.
    Stream,
    /// Its archive is read, since its sidecar is away.
    Bucket,
}

/// By which way, and since when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Way {
    /// By which.
    pub by: WayBy,
    /// Since when without a break.
    pub since: UnixMs,
}

/// How the reading of a source's archive is doing. It is there where an archive is read while the
/// source's sidecar is away, also while it is not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct BucketStatus {
    /// How often all that is archived has been staged, or a try has failed. Whoever waits for what was
    /// archived by now waits for two more.
    pub looks: u64,
    /// The end of what is archived, as last seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<Position>,
    /// Milliseconds of its stamp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp_ms: Option<u64>,
    /// Why it leads no further, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// How a sidecar's stream from one source is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ReceiveStatus {
    /// The last position on this side's disk.
    pub staged: Option<Position>,
    /// The last position that the node has applied.
    pub applied: Option<Position>,
    /// Whether the source's sidecar is connected.
    pub connected: bool,
    /// Why what is staged is not applied, where that is wanted or decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
    /// By which way it comes; `None`: by none now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way: Option<Way>,
    /// The other way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket: Option<BucketStatus>,
}

/// What was last seen of a source in the registry: it bounds what one that is gone had written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct LastSeen {
    /// Until when it might write, by its last lease: on its own wall clock, which its stamps are of too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leased_until: Option<UnixMs>,
    /// The end of its log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
}

/// A sidecar's key: `member/<cluster>/<shard>/sidecar`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SidecarMember {
    /// Which shard it stands beside.
    pub shard: ShardName,
    /// Where other sidecars and the snapshotter connect.
    pub stream: String,
    /// Where metrics are served, if they are.
    pub metrics: Option<String>,
    /// Its process id.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// The end of its node's log as it has read it.
    pub tail: Option<Sequence>,
    /// A dead node's log, read to its end.
    pub drained: Option<Drained>,
    /// Its streams, by target shard.
    pub streams: BTreeMap<String, StreamStatus>,
    /// What it receives, by source shard.
    pub receiving: BTreeMap<String, ReceiveStatus>,
    /// What was last seen of each source of its node.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub last_seen: BTreeMap<String, LastSeen>,
    /// How it is with drills; none where it was given no program for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<DrillState>,
    /// What it needs; none until it has reckoned that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs: Option<Needs>,
    /// What it sees of the primaries, by shard.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sees: BTreeMap<String, Sight>,
    /// When this was written.
    pub at: UnixMs,
}

/// A proxy's key: `proxy/<id>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ProxyMember {
    /// Its name, unique in the service.
    pub id: String,
    /// The cluster that it stands in.
    pub cluster: String,
    /// Where clients connect.
    pub client: String,
    /// Where metrics are served, if they are.
    pub metrics: Option<String>,
    /// Its process id.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// The epoch that it routes by: its acknowledgement of a switch.
    pub epoch: Epoch,
    /// The freeze that it holds writes for.
    pub holding: Option<FreezeId>,
    /// How long it can hold a write, in milliseconds; a freeze that lasts longer shows clients errors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_ms: Option<u64>,
    /// The zone that it stands in, if it was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Where its reads go, where the record routes those of its zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reads: Option<ReadsMember>,
    /// What it sees of the primaries, by shard.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sees: BTreeMap<String, Sight>,
    /// When this was written.
    pub at: UnixMs,
}

/// A primary's lease: `lease/<cluster>/<shard>`, written only if the record still has the revision
/// that the node last read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Lease {
    /// Who holds it.
    pub shard: ShardName,
    /// Under which epoch.
    pub epoch: Epoch,
    /// How long it lasts from before it was asked for, on the holder's clock.
    pub lease_ms: u64,
    /// When it was asked for, for people to read.
    pub at: UnixMs,
}
