//! Drills that sidecars do: what a tool asks for, and what each sidecar says of it.

use serde::{Deserialize, Serialize};

use crate::operator::Actor;
use crate::record::UnixMs;

/// That a drill is wanted: the key `drill`, which its tool renews and which ends with it. A sidecar that
/// is at a drill whose order is gone gives it up and takes everything away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DrillOrder {
    /// 32 hexadecimal digits, random.
    pub id: String,
    /// The cluster whose standbys are rehearsed.
    pub to: String,
    /// The memory of each forked node, in bytes.
    pub memory_bytes: u64,
    /// Who asked.
    pub by: Actor,
    /// When.
    pub since: UnixMs,
}

/// What a sidecar says of drills, in its own key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DrillState {
    /// `able`, `unable`; of the drill that is asked for `checkpoint`, `opening`, `promoting`, `writing`,
    /// then `done` or `failed`. A fork is gone from the disk before either of these is said.
    pub state: String,
    /// The order that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Of `unable` and `failed`: why, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What was seen so far.
    #[serde(default)]
    pub seen: DrillSeen,
}

/// What was seen in a drill of one shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct DrillSeen {
    /// How long its checkpoint took, in microseconds.
    pub checkpoint_us: u64,
    /// How old the last batch was that the checkpoint has of a source, in milliseconds.
    pub data_age_ms: u64,
    /// From the start of the forked node until it stood by, in microseconds.
    pub open_us: u64,
    /// From there until it was a primary under a lease, in microseconds.
    pub promote_us: u64,
    /// Its keys, as the promoted fork counts them.
    pub keys: u64,
    /// A write, a read and a delete, in microseconds.
    pub canary_us: u64,
}
