//! Replies leave in the order of the commands, and what comes back to be sent again keeps it too.

use super::{Client, Held, Reply, State};
use crate::backend::Pending;
use crate::fan::Part;
use crate::thread::Thread;

impl Client {
    /// The answer of a node.
    pub(crate) fn deliver(&self, thread: &Thread, pending: &Pending, bytes: &[u8]) {
        let mut state = self.state.borrow_mut();
        if state.gone {
            return;
        }
        state.in_flight -= 1;
        state.fill(thread, pending.seq, pending.part, Part::Answer(bytes));
        drop(state);
        self.wake();
    }

    /// A command that did not run comes back; it is sent before anything that comes after it.
    pub(crate) fn send_again(
        &self,
        thread: &Thread,
        backend: u32,
        pending: &Pending,
        bytes: &[u8],
        tries: u8,
    ) {
        let mut state = self.state.borrow_mut();
        if state.gone {
            return;
        }
        state.in_flight -= 1;
        let seq = pending.seq;
        let whole = match state.reply(seq) {
            Some(Reply::Parts(gather)) => !gather.kind.parts_stand_alone(),
            _ => false,
        };
        if whole {
            // The whole of it is asked again, once its other parts have answered.
            state.fill(thread, seq, pending.part, Part::Again);
        } else {
            let held = Held { seq, backend, bytes: bytes.to_vec(), tries };
            state.hold_again(held);
        }
        drop(state);
        self.wake();
    }

    /// Whether a command before this one came back from that connection.
    pub(crate) fn has_refused(&self, backend: u32, seq: u64) -> bool {
        let state = self.state.borrow();
        state.again.iter().any(|held| held.backend == backend && held.seq < seq)
    }
}

impl State {
    /// Keeps a command to be sent again, in its place.
    pub(super) fn hold_again(&mut self, held: Held) {
        let at = self.again.partition_point(|other| other.seq <= held.seq);
        self.again.insert(at, held);
    }

    pub(super) fn reply(&mut self, seq: u64) -> Option<&mut Reply> {
        let at = usize::try_from(seq.checked_sub(self.first)?).ok()?;
        self.replies.get_mut(at)
    }

    /// A reply, or a part of one, is known.
    pub(super) fn fill(&mut self, thread: &Thread, seq: u64, part: u32, answer: Part<'_>) {
        let version = self.version;
        let Some(reply) = self.reply(seq) else { return };
        match reply {
            Reply::Parts(gather) => match gather.take(part, answer, version) {
                crate::fan::Gathered::Not => {}
                crate::fan::Gathered::Whole(bytes) => self.ready(seq, &bytes),
                crate::fan::Gathered::Again(bytes) => {
                    crate::stats::count(&thread.counts.resent);
                    *reply = Reply::Waiting;
                    self.hold_again(Held { seq, backend: u32::MAX, bytes, tries: 0 });
                }
            },
            Reply::Waiting | Reply::Ready(_) => {
                if let Part::Answer(bytes) = answer {
                    self.ready(seq, bytes);
                }
            }
        }
    }

    /// A reply is whole: it leaves if all before it have left.
    pub(super) fn ready(&mut self, seq: u64, bytes: &[u8]) {
        if seq != self.first {
            if let Some(reply) = self.reply(seq) {
                *reply = Reply::Ready(bytes.to_vec());
            }
            return;
        }
        self.output.extend_from_slice(bytes);
        self.replies.pop_front();
        self.first += 1;
        while let Some(Reply::Ready(bytes)) = self.replies.front() {
            self.output.extend_from_slice(bytes);
            self.replies.pop_front();
            self.first += 1;
        }
    }

    /// A place for the next command's reply.
    pub(super) fn expect(&mut self, reply: Reply) -> u64 {
        self.replies.push_back(reply);
        self.first + (self.replies.len() as u64) - 1
    }
}
