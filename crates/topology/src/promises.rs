//! What nodes promise to primaries while the registry is silent, as the registry shows it when it is not.
//! The argument is in `docs/fencing.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::record::{Epoch, ShardName, UnixMs};
use crate::service::ServiceView;

/// Whom a primary asks: `promisers/<cluster>/<shard>`. It is written with a renewal of the lease, on the same
/// condition, and stays: a primary never renews its right without every one of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Promisers {
    /// The primary.
    pub shard: ShardName,
    /// Every node that could take some of its slots, by the record that it acts under.
    pub of: BTreeSet<ShardName>,
    /// When this was written, for people to read.
    pub at: UnixMs,
}

/// A promise to a primary, which may have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Promised {
    /// How long it lasts still, in milliseconds of the clock of who gave it, from when this was written; 0
    /// once it has ended.
    pub left_ms: u64,
    /// When it ends or has ended, on that node's wall clock: bounds what the primary wrote under it.
    pub until: UnixMs,
}

/// What a node says of its promises, in its key. A node whose version is older says nothing, and gives none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Promises {
    /// By primary, of this epoch.
    #[serde(default)]
    pub given: BTreeMap<ShardName, Promised>,
    /// The primaries that get none below this epoch, since a freeze of them was seen: on its disk.
    #[serde(default)]
    pub none_below: BTreeMap<ShardName, Epoch>,
}

/// What ends a primary's right to write, where neither its log's end nor a fence proves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Silence {
    /// It asks nobody for promises: its lease alone counts, from the freeze on.
    Lease,
    /// None of these, whom it must all ask, has said yet that it promises nothing any more.
    Unknown(BTreeSet<ShardName>),
    /// These have, and what they promised before lasts for so long still from now on. One of them is
    /// enough, because a renewal needs all.
    Ends(BTreeMap<ShardName, Duration>),
}

/// What the registry shows of the promises to a primary that is frozen at `epoch`. Only a view that shows the
/// freeze says anything: whom the primary asks does not change any more from there on.
pub fn silence(view: &ServiceView, primary: &ShardName, epoch: Epoch) -> Silence {
    let Some(asked) = view.promisers.get(primary) else { return Silence::Lease };
    let lease = view.record().map_or(0, |record| record.lease_ms);
    let ends = |shard: &ShardName| {
        let left = match &view.nodes.get(shard)?.promises {
            // Of a version that gives none. The one that ran there before it may have given its last.
            None => lease,
            Some(promises) => {
                let floor = promises.none_below.get(primary)?;
                let given = promises.given.get(primary).map_or(0, |given| given.left_ms);
                if *floor <= epoch {
                    return None;
                }
                given
            }
        };
        Some((shard.clone(), Duration::from_millis(left)))
    };
    let ends: BTreeMap<_, _> = asked.of.iter().filter_map(ends).collect();
    if ends.is_empty() { Silence::Unknown(asked.of.clone()) } else { Silence::Ends(ends) }
}
