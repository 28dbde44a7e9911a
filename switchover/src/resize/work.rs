//! A resize under way: add, seed, switch, keep or retire.

use std::time::{Duration, Instant};

use ops::exit::{self, Exit, Stop};
use serde_json::json;
use topology::record::{Fork, UnixMs};
use topology::{FreezeId, Record};

use super::task::{Open, Task};
use super::{NAME, Resized, die, gone, seed};
use crate::args::{How, Scope};
use crate::claim::{Patience, SEEDING};
use crate::clusters::put_cluster;
use crate::journal::Journal;
use crate::plan::active;
use crate::report::{Report, Step, ms};
use crate::retire;
use crate::switch::planned;
use crate::tool::Tool;

/// What the journal keeps of the measured size of the seeds.
const SEED_BYTES: &str = "seed-bytes";

/// A resize under way.
pub(crate) struct Work<'a> {
    tool: &'a Tool,
    task: Task,
    journal: Journal,
    report: Report,
    resized: Resized,
    /// Bytes that the seeds are expected to be.
    expected: Option<u64>,
    /// Whether its journal says that the new cluster was added.
    was_added: bool,
    /// When the first tool began.
    began: UnixMs,
    step: Instant,
    /// Whether somebody has switched elsewhere since.
    moved_on: bool,
}

/// How far the record says that a resize is.
enum Stands {
    /// The new cluster has not taken over.
    Before,
    /// It has.
    TakenOver,
    /// It had, and this is active now.
    MovedOn(String),
}

fn failed(why: anyhow::Error) -> Stop {
    Stop::new(exit::of(&why), ops::cli::sentence(&why))
}

impl<'a> Work<'a> {
    /// Begins one; an error has changed nothing.
    pub(crate) async fn begin(
        tool: &'a Tool,
        task: Task,
        record: &Record,
        expected: Option<u64>,
    ) -> anyhow::Result<Self> {
        let about = json!({
            "operation": NAME, "from": task.from, "to": task.to, "epoch": record.epoch,
            "task": task, SEED_BYTES: expected,
        });
        let journal = Journal::begin(tool, FreezeId(rand::random()), about).await?;
        die("resize-die-after-journal");
        Ok(Self::with(tool, task, journal, (expected, false, UnixMs::now())))
    }

    /// Takes one up.
    pub(crate) async fn resume(tool: &'a Tool, open: Open) -> anyhow::Result<Self> {
        let was_added = open.was_added();
        let began = open.about["began_ms"].as_u64().map_or_else(UnixMs::now, UnixMs);
        let expected = open.about[SEED_BYTES].as_u64();
        let journal = Journal::resume(tool, open.id, open.about).await?;
        Ok(Self::with(tool, open.task, journal, (expected, was_added, began)))
    }

    fn with(
        tool: &'a Tool,
        task: Task,
        journal: Journal,
        (expected, was_added, began): (Option<u64>, bool, UnixMs),
    ) -> Self {
        let mut report = Report {
            operation: NAME.to_owned(),
            from: task.from.clone(),
            to: task.to.clone(),
            ..Report::default()
        };
        report.sign(tool);
        report.began_ms = Some(began);
        let resized = Resized {
            shards_before: task.shards_before,
            shards: task.cluster.shards.len(),
            ..Resized::default()
        };
        let step = Instant::now();
        Self {
            tool,
            task,
            journal,
            report,
            resized,
            expected,
            was_added,
            began,
            step,
            moved_on: false,
        }
    }

    /// From where it is to the end; the report says which.
    pub(crate) async fn go(
        mut self,
        seeded: Option<Result<(), Stop>>,
        no_wait_reverse: bool,
    ) -> Report {
        let ended = self.steps(seeded, no_wait_reverse).await;
        self.resized.took_ms = ms(self.age());
        let (state, exit, message) = match ended {
            Ok(()) => ("done", Exit::Done, None),
            Err(stop) => self.stopped(stop).await,
        };
        self.report.close(exit, message);
        self.report.resize = Some(self.resized);
        let detail = serde_json::to_value(&self.report).unwrap_or_default();
        self.journal.end(state, detail).await;
        self.report
    }

    /// What is left where it stopped: the state of its journal, the exit code, and what to do.
    async fn stopped(&self, stop: Stop) -> (&'static str, Exit, Option<String>) {
        if self.moved_on {
            return ("refused", stop.exit, Some(stop.to_string()));
        }
        let to = &self.task.to;
        let record = self.tool.service.read_record().await.ok().flatten().map(|(record, _)| record);
        let (state, exit, next) = match record {
            Some(record) if !record.clusters.contains_key(to) => {
                let state = if stop.exit == Exit::RolledBack { "rolled-back" } else { "failed" };
                (state, stop.exit, "the service is as it was".to_owned())
            }
            Some(record) if record.primaries.iter().any(|p| p.cluster == *to) => (
                "incomplete",
                Exit::Incomplete,
                format!(
                    "cluster `{to}` has taken over, nothing is lost and nothing is undone: `resume` sees it through"
                ),
            ),
            Some(_) => (
                "incomplete",
                Exit::Incomplete,
                format!(
                    "nothing is lost, and writes go on where they were; cluster `{to}` follows on: `resume` goes on, `abort` takes it out again"
                ),
            ),
            None => ("unknown", Exit::Unknown, "`resume` finds out how far it is".to_owned()),
        };
        (state, exit, Some(format!("{stop}; {next}")))
    }

    async fn steps(
        &mut self,
        seeded: Option<Result<(), Stop>>,
        no_wait_reverse: bool,
    ) -> Result<(), Stop> {
        match (self.stands().await?, seeded) {
            (Stands::Before, Some(seeded)) => {
                seeded?;
                self.switched(no_wait_reverse).await?;
            }
            (Stands::Before, None) => {
                let tool = self.tool;
                let work = Box::pin(async { Ok(self.seeded().await) });
                tool.claimed(SEEDING, Patience::None, work).await.map_err(failed)??;
                self.switched(no_wait_reverse).await?;
            }
            (Stands::TakenOver, _) => self.told_by_its_switch().await,
            (Stands::MovedOn(active), _) => {
                self.moved_on = true;
                self.told_by_its_switch().await;
                return Err(Stop::new(
                    Exit::Refused,
                    format!(
                        "cluster `{}` took over, and `{active}` did after it: there is nothing left to do for this resize, and nothing was changed",
                        self.task.to
                    ),
                ));
            }
        }
        die("resize-die-after-switch");
        if !self.task.retire {
            return Ok(());
        }
        let from = self.task.from.clone();
        let work = Box::pin(async { Ok(retire::leave(self.tool, &from).await) });
        let left = self.tool.claimed(NAME, Patience::None, work).await.map_err(failed)?;
        self.resized.retired = Some(left?);
        self.done("retire").await;
        Ok(())
    }

    /// How far the record says it is.
    async fn stands(&self) -> Result<Stands, Stop> {
        let found = self.tool.service.read_record().await.map_err(|why| failed(why.into()))?;
        let Some((record, _)) = found else { return Ok(Stands::Before) };
        let to = &self.task.to;
        if record.active() == Some(to) {
            return Ok(Stands::TakenOver);
        }
        let its = |fork: &Fork| fork.epoch > self.task.epoch && fork.target.cluster == *to;
        Ok(match record.forks.iter().any(its) {
            true => Stands::MovedOn(active(&record)),
            false => Stands::Before,
        })
    }

    /// Adds the cluster and waits until it is level, under a claim that a failover may take over.
    pub(crate) async fn seeded(&mut self) -> Result<(), Stop> {
        let (tool, to) = (self.tool, self.task.to.clone());
        let record = tool.service.read_record().await.map_err(|why| failed(why.into()))?;
        let is_there = record.is_some_and(|(record, _)| record.clusters.contains_key(&to));
        if !is_there && (self.was_added || self.task.was_there) {
            return Err(gone(&to));
        }
        die("resize-die-before-add");
        let next = put_cluster(tool, &to, &self.task.cluster).await.map_err(failed)?;
        die("resize-die-after-add");
        self.done("add").await;
        let began = Instant::now();
        // What members saw of the record before it named the cluster says nothing of it.
        let mut view = tool.service.watch();
        let named = view
            .wait_for(|view| view.record.as_ref().is_some_and(|(_, revision)| *revision >= next));
        let _ = tokio::time::timeout(tool.config.settle_timeout, named).await;
        self.resized.seed_bytes = seed::level(tool, &self.task, self.expected).await?;
        self.resized.seed_ms = Some(ms(began.elapsed()));
        self.done("seed").await;
        die("resize-die-before-switch");
        Ok(())
    }

    /// The planned switch, with its own guards and its own journal.
    async fn switched(&mut self, no_wait_reverse: bool) -> Result<(), Stop> {
        let how = How { yes: true, no_wait_reverse };
        let to = self.task.to.clone();
        let ran = planned(self.tool, "switchover", (&to, &Scope::default()), &how, |_| {}).await;
        let switch = ran.map_err(failed)?;
        let (exit, message) = (switch.exit, switch.message.clone().unwrap_or_default());
        self.tell(switch);
        let exits = [Exit::Failed, Exit::Refused, Exit::RolledBack, Exit::Incomplete];
        if exit != Exit::Done.code() {
            let exit = exits.into_iter().find(|e| e.code() == exit).unwrap_or(Exit::Unknown);
            return Err(Stop::new(exit, message));
        }
        self.done("switch").await;
        Ok(())
    }

    /// What the switch came to is part of this report.
    fn tell(&mut self, switch: Report) {
        let report = &mut self.report;
        report.moves = switch.moves;
        report.epoch = switch.epoch;
        report.freeze = switch.freeze;
        report.pause_ms = switch.pause_ms;
        report.lost = switch.lost;
        report.proxies = switch.proxies;
        report.proxies_missing = switch.proxies_missing;
        report.proxies_not_holding = switch.proxies_not_holding;
    }

    /// Of a switch that another tool did: what its journal says.
    async fn told_by_its_switch(&mut self) {
        let journals = self.tool.service.journals().await.unwrap_or_default();
        let is_its = |about: &serde_json::Value| {
            let since = about["began_ms"].as_u64().is_some_and(|at| at >= self.began.0);
            since && about["operation"] == "switchover" && about["to"] == *self.task.to
        };
        let last = journals.iter().rev().find(|(_, about)| is_its(about));
        let report = last.map(|(_, about)| serde_json::from_value(about["report"].clone()));
        if let Some(Ok(report)) = report {
            self.tell(report);
        }
    }

    fn age(&self) -> Duration {
        Duration::from_millis(UnixMs::now().0.saturating_sub(self.began.0))
    }

    async fn done(&mut self, name: &'static str) {
        let took = ms(self.step.elapsed());
        self.step = Instant::now();
        self.report.steps.push(Step { name: name.to_owned(), ms: took, at_ms: ms(self.age()) });
        self.tool.progress(format!("resize: {name} ({took} ms)"));
        self.journal.note(name, json!({ "ms": took }), true).await;
    }
}
