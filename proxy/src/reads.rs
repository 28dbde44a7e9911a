//! Whether the reads of this proxy's zone go to the cluster that the record names for them, or to the
//! primaries.
//!
//! All shards of the cluster or none: a client that sees one key of another time than the next is hard
//! enough to explain. They go home as soon as one shard may be further behind than the bound, and out
//! again when all are well below it.

use std::time::Duration;

use observe::{Observer, Readers};
use topology::members::{ReadsMember, Role};
use topology::record::Reads;
use topology::{ServiceView, ShardName};

/// Standbys are asked so many times within the bound, so that what they said is not the bound's age.
const ASKS_WITHIN: u32 = 4;
/// They are trusted again below this part of the bound.
const WELL_BELOW: u32 = 2;

/// The standbys to be asked for a zone's reads.
pub(crate) fn readers(
    view: &ServiceView,
    zone: Option<&str>,
    interval: Duration,
) -> Option<Readers> {
    let (reads, shards) = wanted(view, zone)?;
    let every = interval.min(Duration::from_millis(reads.max_lag_ms) / ASKS_WITHIN);
    Some(Readers { shards, every })
}

/// What the record says of a zone, with the shards that serve it; `None` where its reads go to the
/// primaries anyway.
fn wanted<'a>(view: &'a ServiceView, zone: Option<&str>) -> Option<(&'a Reads, Vec<ShardName>)> {
    let record = view.record()?;
    let reads = record.reads_of(zone)?;
    let shards = record.shards().map(|(name, _)| name);
    let shards: Vec<_> = shards.filter(|name| name.cluster == reads.cluster).collect();
    let leads = shards.iter().all(|shard| record.is_primary(shard));
    (!leads).then_some((reads, shards))
}

/// Where the reads of a zone go now. `was`: where they went until now.
pub(crate) fn now(
    view: &ServiceView,
    zone: Option<&str>,
    was: Option<&ReadsMember>,
    observer: &Observer,
) -> Option<ReadsMember> {
    let (reads, shards) = wanted(view, zone)?;
    let out = was.is_some_and(|was| was.cluster == reads.cluster && was.home.is_none());
    let bound = Duration::from_millis(reads.max_lag_ms);
    let bound = if out { bound } else { bound / WELL_BELOW };
    let problem = |shard: &ShardName| {
        let serves = |role| {
            let leads = view.record().is_some_and(|record| record.is_primary(shard));
            role == if leads { Role::Primary } else { Role::Standby }
        };
        match view.nodes.get(shard) {
            None => return Some(format!("{shard} is not there")),
            Some(node) if !serves(node.role) => return Some(format!("{shard} is no standby now")),
            Some(_) if view.record()?.is_primary(shard) => return None,
            Some(_) => {}
        }
        match observer.behind(shard) {
            None => Some(format!("{shard} has not said yet how far it is behind")),
            Some(lag) if lag > bound => {
                Some(format!("{shard} may be behind by more than {} ms", bound.as_millis()))
            }
            Some(_) => None,
        }
    };
    let home = shards.iter().find_map(problem);
    Some(ReadsMember { cluster: reads.cluster.clone(), home })
}
