//! The machines: room on their disks, and their clocks.

use std::collections::BTreeSet;

use ops::units::Size;
use topology::record::UnixMs;
use topology::{ServiceView, ShardName};

use super::Verdict;
use crate::args::Guards;

/// A key in the registry is written at least every second; one that is older than this by our clock
/// comes from a slower one.
const BEAT_MS: u64 = 2_000;

/// Whether those that take over have room.
pub(super) fn disks(
    view: &ServiceView,
    pairs: &[(ShardName, ShardName)],
    limits: &Guards,
) -> Verdict {
    let targets: BTreeSet<_> = pairs.iter().map(|(_, target)| target).collect();
    let free = |shard: &&ShardName| Some(((*shard).clone(), view.nodes.get(*shard)?.disk_free?));
    let known: Vec<_> = targets.iter().filter_map(free).collect();
    let full = known.iter().filter(|(_, free)| *free < limits.min_disk_free.bytes());
    let problems = full.map(|(shard, free)| {
        format!(
            "{shard} has {} free, and {} are wanted (min-disk-free)",
            Size(*free),
            limits.min_disk_free
        )
    });
    let well = match known.iter().map(|(_, free)| free).min() {
        Some(least) if known.len() == targets.len() => {
            format!("at least {} MiB are free", least >> 20)
        }
        _ => format!("{} of {} nodes say how much is free", known.len(), targets.len()),
    };
    Verdict::of("disk", problems.collect(), well)
}

/// Members whose clock looks as if it were behind, each with when its key was written: it may also be that
/// the key is an old one, since the registry stood still. One that is ahead cannot be.
pub(crate) fn behind_or_silent(view: &ServiceView, limits: &Guards) -> Vec<(String, UnixMs)> {
    let allowed = u64::try_from(limits.max_clock_skew.duration().as_millis()).unwrap_or(u64::MAX);
    let latest = UnixMs::now().0.saturating_sub(allowed.saturating_add(BEAT_MS));
    written(view).filter(|(_, at)| at.0 < latest).collect()
}

/// Every member with when it wrote its key, by its own clock.
pub(crate) fn written(view: &ServiceView) -> impl Iterator<Item = (String, UnixMs)> {
    let nodes = view.nodes.iter().map(|(shard, n)| (format!("node {shard}"), n.at));
    let sidecars = view.sidecars.iter().map(|(shard, s)| (format!("sidecar {shard}"), s.at));
    let proxies = view.proxies.iter().map(|(id, p)| (format!("proxy {id}"), p.at));
    nodes.chain(sidecars).chain(proxies)
}

/// Whether the clocks agree. Stamps go on by themselves; deadlines and expiry are by the wall clock.
pub(super) fn clocks(view: &ServiceView, limits: &Guards) -> Verdict {
    let now = UnixMs::now().0;
    let skew = |at: u64| match at > now {
        true => (at - now, "is ahead of this machine's"),
        false => ((now - at).saturating_sub(BEAT_MS), "is behind this machine's, or it is silent"),
    };
    let all: Vec<_> = written(view).map(|(who, at)| (who, skew(at.0))).collect();
    let allowed = limits.max_clock_skew;
    let wrong = all.iter().filter(|(_, (ms, _))| u128::from(*ms) > allowed.duration().as_millis());
    let problems = wrong.map(|(who, (ms, how))| {
        format!("the clock of {who} {how}, by {ms} ms (max-clock-skew {allowed})")
    });
    let worst = all.iter().map(|(_, (ms, _))| *ms).max().unwrap_or(0);
    Verdict::of("clocks", problems.collect(), format!("none is off by more than {worst} ms"))
}
