//! Puts the answers of several workers back into the order of the commands.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::pubsub;
use super::session::Session;
use super::spares::Spares;
use crate::command::Flags;
use crate::worker::{Call, Part, Request, RunBy};

/// What a connection has in flight: one round for each read, in order.
#[derive(Default)]
pub(super) struct Ring {
    rounds: VecDeque<Round>,
    /// The number of the first round.
    first: u64,
    lost: bool,
    /// Commands in flight.
    calls: usize,
    /// How many may be: fewer where answers are large, so that what waits for a slow client is
    /// bounded whatever it asks for.
    window: Window,
    /// Empty ones, for later rounds.
    parts: Vec<Vec<Part>>,
}

/// So many of them are kept for each connection.
const SPARE_VECTORS_MAX: usize = 1;

/// How many commands of a connection may be in flight. Grows while answers are small.
struct Window(usize);

impl Default for Window {
    fn default() -> Self {
        Self(Self::START)
    }
}

impl Window {
    const START: usize = 64;
    const MAX: usize = 16 << 10;
    /// What the answers in flight should come to, in bytes.
    const ANSWERS_BYTES: usize = 1 << 20;

    fn learn(&mut self, calls: usize, bytes: usize) {
        let fitting = Self::ANSWERS_BYTES / (bytes / calls.max(1)).max(1);
        self.0 = fitting.clamp(1, (self.0 * 2).min(Self::MAX));
    }
}

struct Round {
    request: Arc<Request>,
    /// What the I/O thread answered, then what workers bring; none without answers.
    parts: Vec<Part>,
    missing: u32,
}

impl Ring {
    /// Adds a request with what the I/O thread itself answered of it.
    pub(super) fn push(&mut self, request: Arc<Request>, own: Part) {
        let missing = request.workers.len();
        self.calls += request.calls.len();
        let mut parts = self.parts.pop().unwrap_or_default();
        if !own.ends.is_empty() {
            parts.push(own);
        }
        self.rounds.push_back(Round { request, parts, missing });
    }

    /// How many rounds are in flight.
    pub(super) fn len(&self) -> usize {
        self.rounds.len()
    }

    /// How many more commands may be handed over now.
    pub(super) fn room(&self) -> usize {
        self.window.0.saturating_sub(self.calls)
    }

    /// The number of the next round.
    pub(super) fn next_round(&self) -> u64 {
        self.first + self.rounds.len() as u64
    }

    /// Takes a worker's part.
    pub(super) fn accept(&mut self, part: Part) {
        let index = part.round.checked_sub(self.first).and_then(|i| usize::try_from(i).ok());
        let Some(round) = index.and_then(|index| self.rounds.get_mut(index)) else { return };
        self.lost |= part.lost;
        round.missing = round.missing.saturating_sub(1);
        if !part.ends.is_empty() {
            round.parts.push(part);
        }
    }

    /// Appends the answers that are complete up to here. False: an outcome is unknown, and nothing
    /// more may be answered.
    pub(super) fn drain(
        &mut self,
        session: &mut Session,
        spares: &RefCell<Spares>,
        out: &mut Vec<u8>,
    ) -> bool {
        while !self.lost && self.rounds.front().is_some_and(|round| round.missing == 0) {
            let Some(mut round) = self.rounds.pop_front() else { break };
            self.first += 1;
            let (calls, before) = (round.request.calls.len(), out.len());
            round.write(session, out);
            self.calls -= calls;
            self.window.learn(calls, out.len() - before);
            let mut spares = spares.borrow_mut();
            round.parts.drain(..).for_each(|part| spares.keep_part(part));
            spares.keep_request(round.request);
            if self.parts.len() < SPARE_VECTORS_MAX {
                self.parts.push(round.parts);
            }
        }
        !self.lost
    }
}

impl Round {
    fn write(&mut self, session: &mut Session, out: &mut Vec<u8>) {
        if let [part] = &mut self.parts[..]
            && !self.request.late
        {
            if out.is_empty() {
                std::mem::swap(out, &mut part.bytes);
            } else {
                out.extend_from_slice(&part.bytes);
            }
            return;
        }
        let mut cursors: Vec<(usize, usize)> = vec![(0, 0); self.parts.len()];
        for call in &self.request.calls {
            if call.by == RunBy::IoLate {
                let (args, start) = (self.request.args_of(call), out.len());
                session.answer_late(call.spec, &args, call.version, out);
                // What tells of subscriptions is sent whatever CLIENT REPLY says, as by Redis.
                if call.silent && !call.spec.flags.has(Flags::SUBSCRIBES) {
                    out.truncate(start);
                }
                if call.spec.name.ends_with("unsubscribe") {
                    pubsub::take_mail(session, out, start);
                }
                continue;
            }
            let worker = self.request.answered_by(call).unwrap_or(OWN);
            let Some(index) = self.parts.iter().position(|part| part.worker == worker) else {
                continue;
            };
            let (part, (next, from)) = (&self.parts[index], &mut cursors[index]);
            let Some(&end) = part.ends.get(*next) else { continue };
            self.copy(part, *from..end, (session, call), out);
            (*next, *from) = (*next + 1, end);
        }
    }

    /// Copies an answer, and runs those commands of a transaction that were left to this thread.
    fn copy(
        &self,
        part: &Part,
        range: Range<usize>,
        (session, exec): (&mut Session, &Call),
        out: &mut Vec<u8>,
    ) {
        let mut from = range.start;
        let end = range.end;
        // A hole at the end belongs to this answer: the next begins with what is no hole.
        for hole in part.holes.iter().filter(|hole| range.start < hole.at && hole.at <= end) {
            out.extend_from_slice(&part.bytes[from..hole.at]);
            from = hole.at;
            let transaction = &self.request.transactions[hole.transaction];
            let call = &transaction.calls[hole.call];
            session.answer_late(call.spec, &transaction.args_of(call), exec.version, out);
        }
        out.extend_from_slice(&part.bytes[from..end]);
    }
}

/// The number of the I/O thread's own part.
pub(super) const OWN: u16 = u16::MAX;
