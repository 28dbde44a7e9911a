//! A worker's answers: kept until the batch that they tell of is committed, then delivered.

use std::sync::Arc;

use super::aside::Aside;
use super::commit::Outcome;
use super::request::{Part, Request};
use super::run::Worker;
use crate::store::Store;

/// Answers are released once so many bytes of them wait for a commit.
const HELD_BYTES_MAX: usize = 4 << 20;
/// Answers are released once so many requests wait for a commit.
const HELD_REQUESTS_MAX: usize = 512;
/// The most that one connection's read may be answered with; beyond it the connection is closed.
pub(super) const ANSWER_BYTES_MAX: usize = 1 << 30;

/// Answers that wait for a commit.
pub(super) struct Held {
    pub(super) request: Arc<Request>,
    pub(super) part: Part,
    /// One of them is found out in another thread, which then delivers them.
    pub(super) aside: Option<Aside>,
}

/// What waits for the next commit.
#[derive(Default)]
pub(super) struct Answers {
    held: Vec<Held>,
    bytes: usize,
    /// Writes of what is held are in the log already: it cannot be run again.
    pub(super) committed: bool,
    /// What is held is being run again, or has waited: not once more.
    again: bool,
    /// Parts that were delivered, emptied by their I/O threads.
    spares: Vec<Part>,
    /// Kept for its room.
    delivery: Vec<Part>,
}

/// So many emptied parts are kept.
const SPARES_MAX: usize = 128;

impl Answers {
    /// An empty part.
    pub(super) fn part(&mut self, request: &Request, worker: u16) -> Part {
        let (connection, round) = (request.connection, request.round);
        match self.spares.pop() {
            Some(spare) => Part { connection, round, worker, ..spare },
            None => Part::new(connection, round, worker),
        }
    }

    /// Whether they are to be let go before more is run.
    pub(super) fn are_many(&self) -> bool {
        self.bytes >= HELD_BYTES_MAX || self.held.len() >= HELD_REQUESTS_MAX
    }

    /// The outcome of what is held is not known: none of it may be answered.
    pub(super) fn lose(&mut self) {
        self.held.iter_mut().for_each(|held| held.part.lost = true);
    }

    /// Whether what runs now is committed however long that takes, and not run again.
    pub(super) fn keep_turn(&mut self, on: bool) {
        self.again = on;
    }

    /// Whether nothing of what is held was written or seen by others, so that it can be run once
    /// more.
    fn can_run_again(&self) -> bool {
        let once =
            |held: &Held| !held.part.lost && held.aside.is_none() && !held.request.is_gated();
        !self.again && !self.committed && self.held.iter().all(once)
    }
}

impl Worker {
    /// Keeps an answer until its batch is committed.
    pub(super) fn hold(&mut self, held: Held) {
        self.answers.bytes += held.part.bytes.len();
        self.answers.held.push(held);
    }

    /// Runs what is held once more after its batch was refused: nothing of it was written, so the
    /// writes meet the refusal that they would have met a moment later, and reads that saw those
    /// writes read again. False: that is not possible.
    fn run_again(&mut self, store: Option<&Store>) -> bool {
        if !self.answers.can_run_again() {
            return false;
        }
        self.answers.again = true;
        self.answers.bytes = 0;
        self.effects.forget();
        let mut kept = Vec::new();
        for held in std::mem::take(&mut self.answers.held) {
            let before = kept.iter().any(|kept: &Arc<Request>| kept.is_of_same(&held.request));
            if before || self.stalled.holds(&held.request, false) {
                kept.push(held.request);
            } else {
                self.run_request(store, &held.request);
            }
        }
        self.stalled.push_first(kept);
        self.commit(store);
        self.answers.again = false;
        true
    }

    /// Commits, then lets the answers go.
    pub(super) fn finish(&mut self, store: Option<&Store>) {
        let pace = if self.answers.can_run_again() { Store::try_commit } else { Store::commit };
        match self.try_commit(store, pace) {
            Outcome::Refused if self.run_again(store) => {}
            Outcome::Done => {}
            Outcome::Refused | Outcome::Stalled | Outcome::Unknown => {
                self.effects.forget();
                self.scripts.doubt();
                self.answers.lose();
            }
        }
        // Before the answers: whoever has one finds the others told.
        self.effects.tell();
        self.answers.committed = false;
        self.answers.bytes = 0;
        // One delivery for each I/O thread: its thread is woken once.
        self.answers.held.sort_by_key(|held| held.request.outbox.index());
        let Answers { held, spares, delivery, .. } = &mut self.answers;
        let mut held = held.drain(..).peekable();
        while let Some(Held { request, part, aside }) = held.next() {
            match aside {
                Some(aside) => aside.release(request.outbox.clone(), part),
                None => delivery.push(part),
            }
            let outbox = &request.outbox;
            if held.peek().is_none_or(|next| next.request.outbox.index() != outbox.index()) {
                // Its I/O thread makes the next request of it, if nobody else has it.
                let outbox = outbox.clone();
                drop(request);
                outbox.deliver(delivery);
                let room = SPARES_MAX.saturating_sub(spares.len());
                delivery.truncate(room);
                spares.append(delivery);
            }
        }
    }
}
