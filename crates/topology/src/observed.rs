//! What observers (proxies and sidecars) see of the primaries, said in their own keys, and by which
//! cluster a proxy's reads are served. It advises; who may write is in the record alone.

use serde::{Deserialize, Serialize};

use crate::record::UnixMs;

/// What one observer sees of one primary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Sight {
    /// Whether it answers by its data path, takes writes, and its log moves.
    pub up: bool,
    /// Since when it is so, on the observer's clock.
    pub since: UnixMs,
    /// What is wrong, in a sentence, while it is not up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How often it came back within the grace: with each time it must be silent for longer before it
    /// is called down again.
    #[serde(default)]
    pub flaps: u32,
}

/// Where the reads of a proxy go that a zone's routing sends elsewhere than to the primaries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ReadsMember {
    /// The cluster that the record names for the proxy's zone.
    pub cluster: String,
    /// Why they go to the primaries all the same, in a sentence; none while they go to the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<String>,
}
