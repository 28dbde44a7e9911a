//! What is looked at before a resize, besides what any switch looks at.

use ops::units::Size;
use topology::{Record, ServiceView, ShardName};

use super::plan::{size, span};
use super::sizes::{self, Seed, Volume};
use super::task::Task;
use crate::args::Guards;
use crate::guards::Verdict;
use crate::split;

/// Whether one cluster is active, and another is asked for.
pub(super) fn target(record: &Record, task: &Task) -> Verdict {
    let mut problems = Vec::new();
    if let Some(split) = split::of(record) {
        problems.push(format!(
            "the service is split ({}): bring it together first, with `failback` or `run --to`",
            split.text()
        ));
    }
    if task.from == task.to {
        problems.push(format!("cluster `{}` is active already: name another one", task.to));
    }
    match record.clusters.get(&task.to) {
        Some(held) if !held.has_slots_of(&task.cluster) => problems.push(format!(
            "cluster `{}` is in the service already, with other shards: remove it first, or choose another name",
            task.to
        )),
        _ => {}
    }
    let is_there = if task.was_there { "follows already" } else { "is added" };
    let well =
        format!("cluster `{}` {is_there}, with {} shards", task.to, task.cluster.shards.len());
    Verdict::of("target", problems, well)
}

/// Whether the new cluster's nodes and sidecars run, and no more of them than it has shards.
pub(super) fn members(view: &ServiceView, task: &Task) -> Verdict {
    let mut problems = Vec::new();
    let shards: Vec<_> = (0..).zip(&task.cluster.shards).map(|(n, _)| name(task, n)).collect();
    for shard in &shards {
        let node = view.nodes.contains_key(shard);
        let sidecar = view.sidecars.contains_key(shard);
        let lacks = match (node, sidecar) {
            (true, true) => continue,
            (false, true) => "its node is not there",
            (true, false) => "its sidecar is not there",
            (false, false) => "neither its node nor its sidecar is there",
        };
        problems.push(format!(
            "{shard}: {lacks} (start it with --cluster {} --shard {})",
            task.to, shard.shard
        ));
    }
    let beyond = view.nodes.keys().chain(view.sidecars.keys());
    let mut beyond: Vec<_> =
        beyond.filter(|shard| shard.cluster == task.to && !shards.contains(shard)).collect();
    beyond.sort();
    beyond.dedup();
    problems.extend(beyond.into_iter().map(|shard| {
        format!("{shard} runs, and `{}` is to have {} shards", task.to, shards.len())
    }));
    Verdict::of("members", problems, "each new shard has its node and its sidecar")
}

fn name(task: &Task, shard: u32) -> ShardName {
    ShardName { cluster: task.to.clone(), shard }
}

/// Whether the new nodes hold nothing.
pub(super) fn empty(view: &ServiceView, task: &Task, reuse: bool) -> Verdict {
    let nodes = view.nodes.values().filter(|node| node.shard.cluster == task.to);
    let held = nodes.filter(|node| !node.applied.is_empty() || node.own_end.is_some());
    let problems: Vec<_> = held
        .map(|node| {
            format!(
                "{} holds data of an earlier time in {}: delete that directory, or say --reuse",
                node.shard, node.dir
            )
        })
        .collect();
    let found = Verdict::of("empty", problems, "the new nodes hold nothing");
    if reuse || task.was_there { found.said() } else { found }
}

/// Whether the disks have room for the seeds.
pub(super) fn room(volumes: &[Volume], seeds: &[Seed], limits: &Guards) -> Verdict {
    let lacks =
        |volume: &&Volume| volume.free < volume.wanted.saturating_add(limits.min_disk_free.bytes());
    let problem = |volume: &Volume| {
        let shards: Vec<_> = volume.shards.iter().map(ToString::to_string).collect();
        format!(
            "the disk of {} has {} free, and {} are wanted: {} of seed and {} to stay free (min-disk-free)",
            shards.join(", "),
            Size(volume.free).about(),
            Size(volume.wanted.saturating_add(limits.min_disk_free.bytes())).about(),
            Size(volume.wanted).about(),
            limits.min_disk_free
        )
    };
    let problems = volumes.iter().filter(lacks).map(problem).collect();
    let known: usize = volumes.iter().map(|volume| volume.shards.len()).sum();
    let mut targets: Vec<_> = seeds.iter().map(|seed| &seed.target).collect();
    targets.sort();
    targets.dedup();
    let well = match volumes.iter().map(|v| v.free.saturating_sub(v.wanted)).min() {
        Some(left) if known == targets.len() && sizes::total(seeds).is_some() => {
            format!("{} or more stay free", Size(left).about())
        }
        _ => format!(
            "{known} of {} nodes say how much is free, and the seed has {}",
            targets.len(),
            size(sizes::total(seeds))
        ),
    };
    Verdict::of("room", problems, well)
}

/// Whether the sources keep their logs for as long as the seed takes.
pub(super) fn spools(view: &ServiceView, seeds: &[Seed], seed_ms: Option<u64>) -> Verdict {
    let mut sources: Vec<_> = seeds.iter().map(|seed| &seed.source).collect();
    sources.sort();
    sources.dedup();
    let needs = |source: &&ShardName| Some(((*source).clone(), view.sidecars.get(*source)?.needs?));
    let known: Vec<_> = sources.iter().filter_map(needs).collect();
    let short = known.iter().filter_map(|(source, needs)| {
        let (lasts, takes) = (needs.lasts_ms?, seed_ms?);
        (lasts < takes).then(|| {
            format!(
                "{source} can keep its log for {}, and the seed takes about {}: raise its spool-budget or bandwidth",
                span(lasts),
                span(takes)
            )
        })
    });
    let least = known.iter().filter_map(|(_, needs)| needs.lasts_ms).min();
    let well = match least {
        Some(ms) => {
            format!("the logs can be kept for {} at the rate of their busiest hour", span(ms))
        }
        None => "how long the logs can be kept is not known yet".to_owned(),
    };
    Verdict::of("spool", short.collect(), well)
}
