//! One switch, step by step: freeze, drain, COMMIT, settle; or back to where it was.
//!
//! COMMIT and cancel swap the same record, so one of the two fails, whoever tries them: this tool,
//! another one that resumed the operation, or a member when the deadline has passed. After an
//! outcome that is not known, the record decides.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ops::exit::{Exit, Stop};
use serde_json::json;
use tokio::sync::watch;
use topology::record::{Cause, Fork, Freeze, Phase, UnixMs};
use topology::service::Cancelled;
use topology::{FreezeId, Outcome, Record, RegistryError, Revision, ServiceView, ShardName};

use crate::args::Accept;
use crate::heard::Heard;
use crate::journal::Journal;
use crate::plan::active;
use crate::report::{Mark, Report, Step, ms};
use crate::tool::Tool;

/// How long to try to learn what became of a swap before giving up.
const DECIDE_WAIT: Duration = Duration::from_secs(15);
const DECIDE_AGAIN: Duration = Duration::from_millis(200);

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
    revision: Revision,
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

    async fn write_freeze(&mut self) -> anyhow::Result<()> {
        let service = &self.tool.service;
        match service.swap_record(self.revision, &self.record).await {
            Ok(Outcome::Committed(revision)) => {
                self.revision = revision;
                return Ok(());
            }
            Ok(Outcome::Conflict) => {}
            Err(RegistryError::Unusable(why)) => anyhow::bail!(why),
            Err(RegistryError::Unavailable { .. }) => {
                // It may be there, or still on its way: end it, so that it is not.
                return Err(self.decide_unfrozen().await.into());
            }
        }
        Err(Stop::new(
            Exit::Refused,
            "the record changed while the plan was made (another operation?); nothing was changed: look at `status` and try again",
        )
        .into())
    }

    /// The freeze's outcome is unknown: makes sure that it is over.
    async fn decide_unfrozen(&self) -> Stop {
        if let Err(stop) = self.end_freeze().await {
            return stop;
        }
        // It may still be on its way; once the record has another revision it comes too late.
        match self.tool.service.outdate(self.revision).await {
            Ok(_) => Stop::new(
                Exit::RolledBack,
                "the registry did not answer to the freeze; it is certain now that none is under way",
            ),
            Err(why) => Stop::new(
                Exit::Unknown,
                format!(
                    "the registry did not answer to the freeze ({why}); if it comes all the same, it ends by itself at its deadline. Nothing is lost; look at `status`"
                ),
            ),
        }
    }

    /// Cancels until the registry answers: who ended the freeze is in the answer.
    async fn end_freeze(&self) -> Result<Cancelled, Stop> {
        let deadline = Instant::now() + DECIDE_WAIT;
        loop {
            match self.tool.service.cancel(self.freeze.id).await {
                Ok(cancelled) => return Ok(cancelled),
                Err(why) if Instant::now() >= deadline => {
                    return Err(Stop::new(
                        Exit::Unknown,
                        format!(
                            "it is not known whether `{}` took over: {why}. Nothing is lost by waiting: one of commit and cancel has won, and the record says which. Run `resume` when the registry answers",
                            self.freeze.to
                        ),
                    ));
                }
                Err(why) => {
                    self.tool.progress(format!("asking the record again: {why}"));
                    tokio::time::sleep(DECIDE_AGAIN).await;
                }
            }
        }
    }

    /// The point of no return. `Ok`: this freeze is committed, by this tool or by another.
    async fn commit(&mut self, forks: Vec<Fork>) -> Result<(), Stop> {
        let next = self.record.committed(&self.freeze.to, forks);
        let detail = json!({"epoch": next.epoch, "forks": next.forks.iter().filter(|f| f.freeze == self.freeze.id).collect::<Vec<_>>()});
        self.journal.note("commit begins", detail, false).await;
        if let Err(why) = self.journal.flush().await {
            let stop = Stop::new(
                Exit::RolledBack,
                format!("the journal cannot be written ({why}), so it was not committed"),
            );
            return self.roll_back(stop).await;
        }
        if let Err(lost) = self.tool.still_claimed() {
            return self.roll_back(lost).await;
        }
        if ops::failpoint::hit("switchover-die-before-commit") {
            std::process::abort();
        }
        let swapped = self.tool.service.swap_record(self.revision, &next).await;
        if ops::failpoint::hit("switchover-die-after-commit") {
            std::process::abort();
        }
        match swapped {
            Ok(Outcome::Committed(revision)) => {
                (self.record, self.revision) = (next, revision);
                self.done("commit", false).await;
                Ok(())
            }
            // Someone else ended the freeze, or it is not known whether this swap did: a cancel
            // either wins now, or says who won.
            Ok(Outcome::Conflict) => self.decide("it was cancelled before the commit").await,
            Err(RegistryError::Unusable(why)) => {
                self.roll_back(Stop::new(Exit::RolledBack, why)).await
            }
            Err(why) => {
                self.tool.progress(format!(
                    "the outcome of the commit is unknown ({why}); cancelling, to know"
                ));
                self.decide("the registry did not answer to the commit").await
            }
        }
    }

    /// Ends the freeze because of `stop`; `Ok` if it turns out to be committed.
    async fn roll_back(&mut self, stop: Stop) -> Result<(), Stop> {
        self.tool.progress(format!("not committing: {stop}"));
        match self.decide(&stop.to_string()).await {
            Err(rolled) if rolled.exit == Exit::RolledBack && stop.exit == Exit::Refused => {
                Err(Stop::new(Exit::Refused, rolled.to_string()))
            }
            decided => decided,
        }
    }

    async fn decide(&mut self, why: &str) -> Result<(), Stop> {
        let (record, how) = match self.end_freeze().await? {
            Cancelled::Ended(record) => {
                (record, "nothing is lost, and writes go on where they were")
            }
            Cancelled::WasOver(record) if was_committed(&record, self.freeze.id) => {
                self.tool.progress("it is committed: the record says so");
                self.record = record;
                self.done("commit", false).await;
                return Ok(());
            }
            Cancelled::WasOver(record) => {
                (record, "someone else ended the freeze; nothing is lost, and writes go on")
            }
        };
        self.report.epoch = Some(record.epoch.0);
        self.done("cancel", true).await;
        let message =
            format!("{why}; {how}: {} is active at epoch {}", active(&record), record.epoch);
        Err(Stop::new(Exit::RolledBack, message))
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
