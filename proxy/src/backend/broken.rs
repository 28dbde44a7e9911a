//! What becomes of the commands on a connection that broke.

use std::collections::HashSet;
use std::ops::Range;
use std::rc::Rc;

use super::{Backend, Link, Pending, State};
use crate::client::Client;
use crate::thread::Thread;

/// How often a read is sent again because connections broke.
const TRIES_MAX: u8 = 5;

enum Fate {
    /// It did not leave as a whole, so it did not run.
    NotRun,
    /// It changes nothing: it is asked again.
    Again,
    /// It may have run.
    Unknown,
    /// It was asked often enough.
    GivenUp,
}

impl Backend {
    /// The connection broke. What did not leave as a whole did not run; of a write that did, the
    /// outcome is unknown; a read is asked again, unless a write of the same client went after it,
    /// which it must not see. Returns the clients that waited for room.
    pub(super) fn broken(&self, thread: &Thread, why: &str) -> Vec<Rc<Client>> {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        for (pending, range, fate) in fates(state) {
            let Some(client) = &pending.client else { continue };
            let bytes = &state.out[range];
            let address = &self.address;
            match fate {
                Fate::NotRun => client.send_again(thread, self.id, &pending, bytes, pending.tries),
                Fate::Again => {
                    client.send_again(thread, self.id, &pending, bytes, pending.tries + 1);
                }
                Fate::Unknown => {
                    thread.shared.stats.unknown.inc();
                    let text = format!(
                        "-UNKNOWN outcome: the command was sent to {address} and the connection broke before the answer ({why}); it may have run or not\r\n"
                    );
                    client.deliver(thread, &pending, text.as_bytes());
                }
                Fate::GivenUp => {
                    thread.shared.stats.given_up.inc();
                    let text = format!(
                        "-TRYAGAIN the connection to {address} broke {TRIES_MAX} times before it answered this read ({why}); nothing was changed, try again\r\n"
                    );
                    client.deliver(thread, &pending, text.as_bytes());
                }
            }
        }
        state.reset();
        std::mem::take(&mut state.waiting)
    }

    /// Whether no route leads here any more.
    pub(super) fn is_retired(&self) -> bool {
        self.state.borrow().link == Link::Retired
    }
}

/// Each command in the order sent, with its bytes in `out`.
fn fates(state: &mut State) -> Vec<(Pending, Range<usize>, Fate)> {
    let mut end = state.out.len();
    let mut wrote = HashSet::new();
    let mut fates = Vec::with_capacity(state.pending.len());
    for pending in state.pending.drain(..).rev() {
        let range = end - pending.len..end;
        end = range.start;
        let client = pending.client.as_ref().map(|client| client.id);
        let fate = if range.end > state.written {
            Fate::NotRun
        } else if pending.write {
            wrote.extend(client);
            Fate::Unknown
        } else if client.is_some_and(|id| wrote.contains(&id)) {
            Fate::Unknown
        } else if pending.tries >= TRIES_MAX {
            Fate::GivenUp
        } else {
            Fate::Again
        };
        fates.push((pending, range, fate));
    }
    fates.reverse();
    fates
}

impl State {
    fn reset(&mut self) {
        if self.link == Link::Up {
            self.link = Link::Down;
        }
        self.out.clear();
        (self.answered, self.written, self.writes) = (0, 0, 0);
        self.give_up = None;
        self.waker = None;
    }
}
