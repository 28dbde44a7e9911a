//! What a resize would do, with numbers, and what the guards think of it before anything is moved.

use std::fmt::Write as _;
use std::time::Duration;

use admin::Access;
use ops::exit::Exit;
use ops::units::{Size, Span};
use serde::Serialize;
use topology::record::Cause;
use topology::{Record, ServiceView, ShardName};

use super::sizes::{self, Seed, Volume};
use super::task::Task;
use crate::args::Guards;
use crate::guards::{self, Past, Verdict};
use crate::plan::{Touch, pairs};
use crate::split;
use crate::switch::timeout;
use crate::tool::Tool;

/// What would be done.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Plan {
    operation: &'static str,
    from: String,
    to: String,
    shards_before: usize,
    shards: usize,
    /// The slots of each new shard.
    slots: Vec<String>,
    /// Whether the seed is a checkpoint as it is; else its records are parted by slot.
    same_shape: bool,
    /// What each shard sends to each.
    seeds: Vec<Seed>,
    /// Bytes in all, as they are stored.
    pub(crate) seed_bytes: Option<u64>,
    /// How long they take, about.
    seed_ms: Option<u64>,
    /// The disks that they go to.
    volumes: Vec<Volume>,
    guards: Vec<Verdict>,
    pub(crate) refused: bool,
    steps: Vec<Touch>,
    /// The median pause of the last planned switches.
    expected_pause_ms: Option<f64>,
    /// What would be lost.
    expected_loss: &'static str,
    exit: u8,
}

/// A size that may not be known.
fn size(bytes: Option<u64>) -> String {
    bytes.map_or("an unknown size".to_owned(), |bytes| Size(bytes).about())
}

fn span(ms: u64) -> String {
    Span(Duration::from_millis(ms)).about()
}

/// Whether one cluster is active, and another is asked for.
fn target(record: &Record, task: &Task) -> Verdict {
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
fn members(view: &ServiceView, task: &Task) -> Verdict {
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
fn empty(view: &ServiceView, task: &Task, reuse: bool) -> Verdict {
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
fn room(volumes: &[Volume], seeds: &[Seed], limits: &Guards) -> Verdict {
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
fn spools(view: &ServiceView, seeds: &[Seed], seed_ms: Option<u64>) -> Verdict {
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

fn steps(task: &Task, plan: (&Record, Option<u64>, Option<u64>)) -> Vec<Touch> {
    let (record, bytes, ms) = plan;
    let shards = task.cluster.shards.len();
    let seed = format!(
        "{} go to `{}`{}; writes go on, and the log is followed until it is level",
        size(bytes),
        task.to,
        ms.map_or_else(
            || ", at a rate that is not known yet".to_owned(),
            |ms| format!(" in about {}", span(ms))
        )
    );
    let others = record.clusters.keys().filter(|name| **name != task.from && **name != task.to);
    let end = match (task.retire, others.count()) {
        (false, _) => (
            "keep",
            format!(
                "`{}` follows `{}`: `failback` goes back, `retire {}` ends it",
                task.from, task.to, task.from
            ),
        ),
        (true, 0) => (
            "retire",
            format!(
                "`{}` leaves the service, and nobody follows `{}`: from then on a cloud that is lost takes the data with it",
                task.from, task.to
            ),
        ),
        (true, _) => {
            ("retire", format!("`{}` leaves the service; its data stays on its disks", task.from))
        }
    };
    [
        ("add", format!("the record names `{}` with {shards} shards; nobody's role changes", task.to)),
        ("seed", seed),
        (
            "switch",
            "freeze, drain, COMMIT, promote, register, reverse, with all guards of `run`; no way back from COMMIT but `failback`".to_owned(),
        ),
        end,
    ]
    .map(|(step, touches)| Touch { step, touches })
    .into()
}

impl Plan {
    /// Looks at everything before anything is changed.
    pub(crate) async fn of(
        tool: &Tool,
        record: &Record,
        task: &Task,
        (access, reuse): (&Access, bool),
    ) -> anyhow::Result<Self> {
        let view = tool.service.view();
        let limits = &tool.config.guards;
        let next = task.added(record);
        let pairs = pairs(&next, &record.primaries, &task.to);
        let seeds = sizes::seeds(&view, &next, &pairs, access).await;
        let (seed_bytes, seed_ms) = (sizes::total(&seeds), sizes::time_ms(&view, &seeds));
        let volumes = sizes::volumes(&view, &seeds);
        // Only what to expect comes from the journals.
        let past = Past::read(&tool.service).await.unwrap_or_default();
        let mut pauses = past.pauses;
        pauses.sort_by(f64::total_cmp);
        let freeze = timeout(tool, Cause::Switchover, record.lease_ms);
        let mut guards = vec![target(record, task)];
        guards.extend(guards::before_a_seed(&view, record, &pairs, freeze, limits));
        guards.push(members(&view, task));
        guards.push(empty(&view, task, reuse));
        guards.push(room(&volumes, &seeds, limits));
        guards.push(spools(&view, &seeds, seed_ms));
        let refused = guards.iter().any(|guard| !guard.pass);
        Ok(Self {
            operation: super::NAME,
            from: task.from.clone(),
            to: task.to.clone(),
            shards_before: task.shards_before,
            shards: task.cluster.shards.len(),
            slots: task.cluster.shards.iter().map(|shard| shard.slots.to_string()).collect(),
            same_shape: crate::shape::is_same(record, &task.cluster),
            seeds,
            seed_bytes,
            seed_ms,
            volumes,
            guards,
            refused,
            steps: steps(task, (record, seed_bytes, seed_ms)),
            expected_pause_ms: pauses.get(pauses.len() / 2).copied(),
            expected_loss: "nothing",
            exit: if refused { Exit::Refused } else { Exit::Done }.code(),
        })
    }

    /// Done, or refused.
    pub(crate) fn exit(&self) -> Exit {
        if self.refused { Exit::Refused } else { Exit::Done }
    }

    /// Why it is refused.
    pub(crate) fn reasons(&self) -> String {
        guards::reasons(&self.guards)
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let how = if self.refused { "REFUSED" } else { "would go ahead" };
        let mut out = format!(
            "resize {} ({} shards) -> {} ({} shards{}): {how}\n",
            self.from,
            self.shards_before,
            self.to,
            self.shards,
            if self.same_shape { ", the same slots" } else { "" }
        );
        // Writing to a string does not fail.
        for guard in &self.guards {
            let mark = if guard.pass { "ok" } else { "NO" };
            let _ = writeln!(out, "  {mark:<3} {:<10} {}", guard.guard, guard.detail);
        }
        let _ = writeln!(out, "  seeds:");
        for seed in &self.seeds {
            let _ = writeln!(out, "      {} -> {}: {}", seed.source, seed.target, size(seed.bytes));
        }
        let _ = writeln!(out, "  then:");
        for step in &self.steps {
            let _ = writeln!(out, "      {:<10} {}", step.step, step.touches);
        }
        let _ = match self.expected_pause_ms {
            Some(ms) => writeln!(
                out,
                "  expected pause: {ms:.0} ms (the median of the last planned switches)"
            ),
            None => writeln!(out, "  expected pause: not known, no planned switch is journaled"),
        };
        let _ = writeln!(out, "  expected loss: {}", self.expected_loss);
        out
    }
}
