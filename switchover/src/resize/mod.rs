//! `resize`: a service grows, shrinks, or moves to new machines. Growing is a switch: a second cluster is
//! added, seeded by slots, followed until it is level, switched to, and the old one stays as a way back or
//! leaves.
//!
//! What was done is told by the record: whether it names the new cluster, whether that is active, whether
//! it still names the old one. The journal only says what is wanted, so whoever reads both goes on with it
//! from any machine, at any step. Before COMMIT `abort` takes the new cluster out of the record again.

mod checks;
mod plan;
mod seed;
mod sizes;
mod task;
mod undo;
mod work;

use ops::exit::{Exit, Stop};
use ops::units::{Size, Span};
use serde::{Deserialize, Serialize};

use crate::args;
use crate::claim::{Patience, SEEDING};
use crate::report::Report;
use crate::retire::Retired;
use crate::switch::finish;
use crate::tool::Tool;

use plan::Plan;
use task::Task;
use work::Work;

pub(crate) use task::{Open, is_resize};
pub(crate) use undo::undo;

/// What it is called in journals and reports.
pub(crate) const NAME: &str = "resize";

/// What a resize adds to the report of its switch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resized {
    /// The shards of the old cluster.
    pub shards_before: usize,
    /// The shards of the new one.
    pub shards: usize,
    /// Bytes of seeds on the wire, as compressed.
    pub seed_bytes: u64,
    /// Milliseconds from when the new cluster was added until it was level, for whoever ended that step.
    pub seed_ms: Option<f64>,
    /// Milliseconds from the first command to the end, by the clocks of the machines that did it.
    pub took_ms: f64,
    /// How the old cluster left, if it did; else it follows.
    pub retired: Option<Retired>,
}

/// A test kills the tool here.
pub(crate) fn die(point: &str) {
    if ops::failpoint::hit(point) {
        std::process::abort();
    }
}

/// That somebody else ended it.
fn gone(to: &str) -> Stop {
    Stop::new(
        Exit::RolledBack,
        format!(
            "cluster `{to}` was removed from the service by somebody else: nothing is lost, and the old cluster is active as before"
        ),
    )
}

/// `resize`.
pub(crate) async fn resize(tool: &Tool, asked: &args::Resize) -> anyhow::Result<Exit> {
    let (_, record, _) = tool.view()?;
    none_open(tool).await?;
    let task = Task::of(&record, asked)?;
    let plan = Plan::of(tool, &record, &task, (&asked.access, asked.reuse)).await?;
    if tool.dry_run {
        tool.result(&plan.text(), &plan)?;
        return Ok(plan.exit());
    }
    if plan.refused || !asked.how.yes {
        eprint!("{}", plan.text());
    }
    let refuse = |why: String| {
        let mut report = Report {
            operation: NAME.to_owned(),
            from: task.from.clone(),
            to: task.to.clone(),
            epoch: Some(record.epoch.0),
            ..Report::default()
        };
        report.close(Exit::Refused, Some(why));
        finish(tool, &report)
    };
    if plan.refused {
        return refuse(format!("refused, nothing was changed: {}", plan.reasons()));
    }
    let agreed =
        asked.how.yes || tool.confirm(&format!("resize to `{}`?", task.to)).unwrap_or(false);
    if !agreed {
        return refuse("nothing was changed: say --yes to do it".to_owned());
    }
    // Claimed before it is journaled: of two who begin at once, one has done nothing.
    let begun = Box::pin(async {
        none_open(tool).await?;
        let mut work = Work::begin(tool, task, &record, plan.seed_bytes).await?;
        let seeded = work.seeded().await;
        Ok((work, seeded))
    });
    let (work, seeded) = tool.claimed(SEEDING, Patience::None, begun).await?;
    finish(tool, &work.go(Some(seeded), asked.how.no_wait_reverse).await)
}

/// One resize at a time.
async fn none_open(tool: &Tool) -> anyhow::Result<()> {
    match Open::find(tool).await? {
        None => Ok(()),
        Some(open) => {
            Err(Stop::new(Exit::Refused, format!("{}; nothing was changed", open.text())).into())
        }
    }
}

/// Goes on with a resize whose tool died or gave up.
pub(crate) async fn resume(tool: &Tool, open: Open, no_wait_reverse: bool) -> anyhow::Result<Exit> {
    tool.progress(format!("going on with the resize {} -> {}", open.task.from, open.task.to));
    let work = Work::resume(tool, open).await?;
    finish(tool, &work.go(None, no_wait_reverse).await)
}

impl Resized {
    /// For people: name and value of each line.
    pub(crate) fn lines(&self, from: &str, to: &str) -> Vec<(&'static str, String)> {
        let mut lines = vec![("shards", format!("{} -> {}", self.shards_before, self.shards))];
        if let Some(seed_ms) = self.seed_ms {
            let rate = self.seed_bytes as f64 / (seed_ms / 1000.0).max(0.001);
            lines.push((
                "seeds",
                format!(
                    "{} in {}, {} a second",
                    Size(self.seed_bytes).about(),
                    span(seed_ms),
                    Size(rate as u64).about()
                ),
            ));
        }
        lines.push(("duration", span(self.took_ms)));
        let old = match &self.retired {
            Some(retired) => format!("`{from}` has left the service: {}", retired.text()),
            None => format!(
                "`{from}` stays in the service; while it follows `{to}`, `failback` goes back and `retire {from}` ends it"
            ),
        };
        lines.push(("old cluster", old));
        lines
    }
}

fn span(ms: f64) -> String {
    Span(std::time::Duration::from_secs_f64(ms.max(0.0) / 1000.0)).about()
}
