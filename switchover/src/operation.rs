//! One switch, step by step: freeze, drain, COMMIT, settle; or back to where it was.
//!
//! COMMIT and cancel swap the same record, so one of the two fails, whoever tries them: this tool,
//! another one that resumed the operation, or a member when the deadline has passed. After an
//! outcome that is not known, the record decides.

mod swaps;

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ops::exit::{Exit, Stop};
use serde_json::json;
use tokio::sync::watch;
use topology::record::{Cause, Freeze, Phase, UnixMs};
use topology::{FreezeId, Record, Revision, ServiceView, ShardName};

use crate::args::Accept;
use crate::heard::Heard;
use crate::journal::Journal;
use crate::report::{Mark, Report, Step, ms};
use crate::tool::Tool;

/// How to drain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How long to wait for a sidecar that may drain, and for the rest to be applied.
    pub(crate) drain_wait: Duration,
    /// Which losses to go on with.
    pub(crate) accept: Accept,
}

/// A switch under way: its freeze is in the record.
pub(crate) struct Operation<'a> {
    pub(crate) tool: &'a Tool,
    pub(crate) view: watch::Receiver<Arc<ServiceView>>,
    /// The record, frozen; after the commit, the committed one.
    pub(crate) record: Record,
    pub(crate) revision: Revision,
    pub(crate) freeze: Freeze,
    pub(crate) limits: Limits,
    pub(crate) report: Report,
    pub(crate) began: Instant,
    pub(crate) frozen: Instant,
    /// No lease of a frozen primary was asked for after this moment of this machine's clock: the
    /// freeze was in the record by then, and no lease is renewed under another record.
    pub(crate) leases_from: Instant,
    pub(crate) deadline: Instant,
    /// When proxies were last heard of.
    pub(crate) heard: Heard,
    journal: Journal,
    step: Instant,
    /// What each shard did, and when.
    marks: RefCell<Vec<Mark>>,
}

/// Whether this freeze ended in a commit: the record keeps its forks.
pub(crate) fn was_committed(record: &Record, freeze: FreezeId) -> bool {
    record.forks.iter().any(|fork| fork.freeze == freeze)
}

impl<'a> Operation<'a> {
    /// Freezes the service. An error has changed nothing.
    pub(crate) async fn begin(
        tool: &'a Tool,
        mut report: Report,
        (cause, moves): (Cause, Vec<ShardName>),
        timeout: Duration,
        limits: Limits,
    ) -> anyhow::Result<Self> {
        let began = Instant::now();
        let (_, record, revision) = tool.view()?;
        let now = UnixMs::now();
        let freeze = Freeze {
            id: FreezeId(rand::random()),
            cause,
            shards: moves,
            to: report.to.clone(),
            deadline: now.after(timeout),
            since: now,
            rest: Default::default(),
        };
        report.freeze = Some(freeze.id.to_string());
        let about = json!({
            "operation": report.operation, "from": report.from, "to": report.to,
            "epoch": record.epoch, "accept-loss": limits.accept.to_string(),
        });
        report.sign(tool);
        let journal = Journal::begin(tool, freeze.id, about).await?;
        if let Err(lost) = tool.still_claimed() {
            return Err(Stop::new(Exit::Failed, format!("{lost}; nothing was changed")).into());
        }
        let mut heard = Heard::default();
        heard.look(&tool.service.view(), began);
        let frozen_record = Record { phase: Phase::Frozen(freeze.clone()), ..record };
        let frozen = Instant::now();
        let mut operation = Self {
            view: tool.service.watch(),
            tool,
            record: frozen_record,
            revision,
            freeze,
            limits,
            report,
            began,
            frozen,
            leases_from: frozen,
            heard,
            deadline: frozen + timeout,
            journal,
            step: began,
            marks: RefCell::default(),
        };
        if let Err(why) = operation.write_freeze().await {
            operation.journal.end("failed", json!(why.to_string())).await;
            return Err(why);
        }
        // A registry that was slow may have renewed a lease until just before it took the freeze.
        operation.leases_from = Instant::now();
        operation.done("freeze", false).await;
        Ok(operation)
    }

    /// Takes up an operation whose freeze is in the record.
    pub(crate) async fn adopt(
        tool: &'a Tool,
        mut report: Report,
        (record, revision): (Record, Revision),
        freeze: Freeze,
        limits: Limits,
    ) -> anyhow::Result<Self> {
        let now = UnixMs::now().0;
        let ago = |then: UnixMs| Duration::from_millis(now.saturating_sub(then.0));
        let began = Instant::now();
        let frozen = began.checked_sub(ago(freeze.since)).unwrap_or(began);
        let left = Duration::from_millis(freeze.deadline.0.saturating_sub(now));
        let about = Journal::held(&tool.service, freeze.id).await.unwrap_or_else(|| {
            tool.signed(json!({"operation": report.operation, "from": report.from, "to": report.to, "began_ms": freeze.since}))
        });
        report.sign(tool);
        let journal = Journal::resume(tool, freeze.id, about).await?;
        Ok(Self {
            view: tool.service.watch(),
            tool,
            record,
            revision,
            deadline: began + left,
            freeze,
            limits,
            report,
            began,
            frozen,
            // When it froze is told by another machine's clock: good for a report, not for a lease.
            leases_from: began,
            heard: Heard::default(),
            journal,
            step: began,
            marks: RefCell::default(),
        })
    }

    /// From the freeze to the end, whichever it is; the report says which.
    pub(crate) async fn drive(mut self, no_wait_reverse: bool) -> Report {
        let drained = match self.freeze.cause {
            Cause::Switchover => self.drain_planned().await,
            Cause::Failover => self.drain_failover().await,
        };
        let committed = match drained {
            Ok(forks) => self.commit(forks).await,
            Err(stop) => self.roll_back(stop).await,
        };
        match committed {
            Ok(()) => self.finish(no_wait_reverse).await,
            Err(stop) => self.close(stop.exit, Some(stop.to_string())).await,
        }
    }

    /// What comes after the commit.
    pub(crate) async fn finish(mut self, no_wait_reverse: bool) -> Report {
        self.report.epoch = Some(self.record.epoch.0);
        match self.settle(no_wait_reverse).await {
            Ok(()) => self.close(Exit::Done, None).await,
            Err(what) => {
                let message = format!(
                    "cluster `{}` is committed at epoch {} and nothing is undone, but {what}. Members go on by themselves; run `resume` to see it through",
                    self.freeze.to, self.record.epoch
                );
                self.close(Exit::Incomplete, Some(message)).await
            }
        }
    }

    async fn close(mut self, exit: Exit, message: Option<String>) -> Report {
        self.report.close(exit, message);
        self.report.marks = self.marks.take();
        let detail = serde_json::to_value(&self.report).unwrap_or_default();
        self.journal.end(&self.report.outcome, detail).await;
        self.report
    }

    /// Whether this look at the service shows that the freeze is over. A look from before it says
    /// nothing.
    pub(crate) fn is_over(&self, view: &ServiceView) -> bool {
        let newer = view.record.as_ref().filter(|(_, revision)| *revision > self.revision);
        newer.is_some_and(|(record, _)| record.freeze().is_none_or(|f| f.id != self.freeze.id))
    }

    /// Notes what a shard did, once.
    pub(crate) fn mark(&self, shard: &ShardName, did: &'static str) {
        let (shard, at_ms) = (shard.to_string(), ms(self.began.elapsed()));
        let mut marks = self.marks.borrow_mut();
        if !marks.iter().any(|m| m.shard == shard && m.did == did) {
            marks.push(Mark { shard, did: did.to_owned(), at_ms });
        }
    }

    /// Notes the end of a step.
    pub(crate) async fn done(&mut self, name: &'static str, in_registry: bool) {
        let took = ms(self.step.elapsed());
        self.step = Instant::now();
        let at_ms = ms(self.began.elapsed());
        self.report.steps.push(Step { name: name.to_owned(), ms: took, at_ms });
        self.tool.progress(format!("{name} ({took} ms)"));
        self.journal.note(name, json!({ "ms": took }), in_registry).await;
        if ops::failpoint::hit("switchover-step") {
            // A test lets it go on by a line; an end of its input lets it go on for good.
            let read = || std::io::stdin().read_line(&mut String::new());
            let _ = tokio::task::spawn_blocking(read).await;
        }
    }
}
