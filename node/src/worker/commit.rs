//! A worker's commits: what its commands wrote becomes one batch of the log.

use rocksdb::WriteBatch;
use wal::{Kind, Sequence};

use super::pending::{Became, Mark, Pending};
use super::run::Worker;
use crate::command::Fail;
use crate::control::{Authority, Permit};
use crate::store::{CommitError, Store};

/// How a batch is written: [`Store::commit`] or [`Store::try_commit`].
pub(super) type Write = fn(&Store, WriteBatch, Kind) -> Result<Sequence, CommitError>;

/// What became of a batch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is in the log, and may be answered.
    Done,
    /// Nothing of it was written.
    Refused,
    /// The same, because RocksDB would have held it up.
    Stalled,
    /// It may be in the log, or is and may not be answered.
    Unknown,
}

impl Worker {
    /// Commits what is pending. False: the outcome is unknown, and so it is for all that waits.
    pub(super) fn commit(&mut self, store: Option<&Store>) -> bool {
        let done = self.try_commit(store, Store::commit) == Outcome::Done;
        if !done {
            self.effects.forget();
            self.scripts.doubt();
            self.answers.lose();
        }
        done
    }

    /// Commits what is pending, at this pace.
    pub(super) fn try_commit(&mut self, store: Option<&Store>, write: Write) -> Outcome {
        let empty = self.pending.is_empty();
        let mut outcome = store.map_or(Outcome::Done, |store| {
            commit(store, &self.authority, &mut self.pending, write)
        });
        match outcome {
            Outcome::Stalled => {
                self.stalled.stall();
                outcome = Outcome::Refused;
            }
            Outcome::Done if !empty => self.stalled.flow(),
            Outcome::Done | Outcome::Refused | Outcome::Unknown => {}
        }
        self.answers.committed |= !empty && outcome == Outcome::Done;
        self.ended = None;
        outcome
    }

    /// Drops what was written since the mark; what was before it goes to the log.
    pub(super) fn undo(&mut self, store: &Store, before: Mark) -> Result<(), Fail> {
        self.pending.cut_to(before);
        if self.commit(Some(store)) { Ok(()) } else { Err(Fail::Lost) }
    }
}

/// Commits a batch and asks again whether it may be answered.
pub(super) fn commit(
    store: &Store,
    authority: &Authority,
    pending: &mut Pending,
    write: Write,
) -> Outcome {
    let generation = store.generation();
    if pending.is_empty() {
        pending.clear(Became::Nothing, generation);
        return Outcome::Done;
    }
    let (batch, permits) = pending.take();
    let outcome = commit_batch(store, authority, batch, &permits, write);
    let became = match outcome {
        Outcome::Done => Became::All,
        Outcome::Refused | Outcome::Stalled => Became::Nothing,
        Outcome::Unknown => Became::Unknown,
    };
    pending.clear(became, generation);
    outcome
}

fn commit_batch(
    store: &Store,
    authority: &Authority,
    batch: WriteBatch,
    permits: &[Permit],
    write: Write,
) -> Outcome {
    if ops::failpoint::hit("batch-refused") {
        return Outcome::Refused;
    }
    match write(store, batch, Kind::Data) {
        Ok(_) if permits.iter().all(|permit| authority.still_holds(permit)) => Outcome::Done,
        Ok(_) => Outcome::Unknown,
        // The mode changes before the log is closed, so the next look at it is a refusal.
        Err(CommitError::Closed | CommitError::Latched) => Outcome::Refused,
        Err(CommitError::Stalled) => Outcome::Stalled,
        Err(error) => {
            tracing::error!("a batch of writes has no known outcome: {error}");
            Outcome::Unknown
        }
    }
}
