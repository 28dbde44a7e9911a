//! Promises: what a sidecar carries between its node and those of others while the registry is silent.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use topology::{Epoch, ShardName};

/// Answer of `GODWIT.PROMISE WANTED`: a primary whose lease is not renewed by the registry wants these
/// promises. Its lease counts from when it gave this answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PromiseWish {
    /// Names this wish; a later one takes its place.
    pub id: u64,
    /// The epoch that the primary acts under.
    pub epoch: Epoch,
    /// For how long, in milliseconds.
    pub lease_ms: u64,
    /// Whose: it takes all of them.
    pub of: BTreeSet<ShardName>,
}

/// What a node says of its promises in its [`crate::Status`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PromiseStatus {
    /// Whether it asks for promises while the registry is silent.
    pub wanted: bool,
    /// Whose promises hold its lease up; empty while the registry renews it, or nobody does.
    pub held_by: BTreeSet<ShardName>,
    /// Milliseconds for which it refuses to be promoted still, by the primary that it has promised that to.
    pub given: BTreeMap<ShardName, u64>,
    /// Primaries that get no promise below this epoch.
    pub none_below: BTreeMap<ShardName, Epoch>,
}
