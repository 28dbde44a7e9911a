//! The swaps of a switch: the freeze, the commit, the cancel, and what became of one whose answer is missing.

use std::time::{Duration, Instant};

use ops::exit::{Exit, Stop};
use serde_json::json;
use topology::record::Fork;
use topology::service::Cancelled;
use topology::{Outcome, RegistryError};

use super::{Operation, was_committed};
use crate::plan::active;

/// How long to try to learn what became of a swap before giving up.
const DECIDE_WAIT: Duration = Duration::from_secs(15);
const DECIDE_AGAIN: Duration = Duration::from_millis(200);

impl Operation<'_> {
    /// Writes the freeze; an error has left none.
    pub(super) async fn write_freeze(&mut self) -> anyhow::Result<()> {
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
    pub(super) async fn commit(&mut self, forks: Vec<Fork>) -> Result<(), Stop> {
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
    pub(super) async fn roll_back(&mut self, stop: Stop) -> Result<(), Stop> {
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
}
