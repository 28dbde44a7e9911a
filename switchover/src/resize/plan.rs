//! What a resize would do, with numbers, and what the guards think of it before anything is moved.

use std::fmt::Write as _;
use std::time::Duration;

use admin::Access;
use ops::exit::Exit;
use ops::units::{Size, Span};
use serde::Serialize;
use topology::Record;
use topology::record::Cause;

use super::checks;
use super::sizes::{self, Seed, Volume};
use super::task::Task;
use crate::guards::{self, Past, Verdict};
use crate::plan::{Touch, pairs};
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
pub(super) fn size(bytes: Option<u64>) -> String {
    bytes.map_or("an unknown size".to_owned(), |bytes| Size(bytes).about())
}

/// A time in words.
pub(super) fn span(ms: u64) -> String {
    Span(Duration::from_millis(ms)).about()
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
        let mut guards = vec![checks::target(record, task)];
        guards.extend(guards::before_a_seed(&view, record, &pairs, freeze, limits));
        guards.push(checks::members(&view, task));
        guards.push(checks::empty(&view, task, reuse));
        guards.push(checks::room(&volumes, &seeds, limits));
        guards.push(checks::spools(&view, &seeds, seed_ms));
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
