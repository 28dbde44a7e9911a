//! One connection to a node that all clients of a thread share: commands go out in the order in
//! which clients' tasks appended them, one write for all that waited, and answers come back in the
//! same order.
//!
//! The bytes of a command are kept until it is answered. So a command that provably did not run can
//! be sent again, and of one that was sent in full and not answered it is known that its outcome is
//! not.

mod broken;
mod io;
mod task;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use resp::Version;

use crate::client::Client;
use crate::thread::Thread;

pub(crate) use task::run;

/// Most commands sent and not answered on one connection; beyond, clients wait.
const IN_FLIGHT_MAX: usize = 32 << 10;
/// Most bytes of commands sent and not answered, unless a single command is bigger.
const IN_FLIGHT_BYTES_MAX: usize = 16 << 20;
/// How long a refused write waits before it is tried again without news from the registry.
const RETRY_MIN: Duration = Duration::from_millis(10);
const RETRY_MAX: Duration = Duration::from_millis(200);
/// How long a standby that refused a read is not asked again.
const STANDBY_RETRY: Duration = Duration::from_secs(1);

/// A command on its way.
pub(crate) struct Pending {
    /// Who waits; `None`: the proxy itself.
    pub(crate) client: Option<Rc<Client>>,
    /// Which of the client's commands.
    pub(crate) seq: u64,
    /// Which part of it, where it was split.
    pub(crate) part: u32,
    /// How many bytes it is.
    pub(crate) len: usize,
    /// Whether it changes anything.
    pub(crate) write: bool,
    /// How often it was sent before.
    pub(crate) tries: u8,
    /// When it was handed over.
    pub(crate) at: Instant,
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// Being made.
    Down,
    /// Carries commands.
    Up,
    /// No route leads here any more; ends once everything is answered.
    Retired,
}

/// A shared connection to a node.
pub(crate) struct Backend {
    /// Unique in the thread.
    pub(crate) id: u32,
    pub(crate) address: Arc<str>,
    /// Which version of the protocol it speaks: answers are passed on as they are.
    pub(crate) version: Version,
    /// Whether it leads to a standby, for reads.
    pub(crate) standby: bool,
    state: RefCell<State>,
}

struct State {
    link: Link,
    /// Commands from the oldest that is not answered.
    out: Vec<u8>,
    /// Where in `out` the oldest unanswered command begins.
    answered: usize,
    /// How much of `out` the socket has taken.
    written: usize,
    pending: VecDeque<Pending>,
    /// Writes among `pending`.
    writes: usize,
    /// The node refuses writes on this connection: not before this moment, and not by the same
    /// routes, is it asked to resume.
    refusing: Option<Refusing>,
    retry: Duration,
    waker: Option<Waker>,
    /// Why the connection is to be given up.
    give_up: Option<String>,
    /// Clients that wait for room.
    waiting: Vec<Rc<Client>>,
}

struct Refusing {
    until: Instant,
    routes: u64,
}

/// Why a command cannot be sent to this node now.
pub(crate) enum Busy {
    /// It has no connection, or refuses writes.
    Hold,
    /// As much as may be is on its way; the client is woken when there is room.
    Room,
}

impl Backend {
    pub(crate) fn new(id: u32, address: Arc<str>, version: Version, standby: bool) -> Rc<Self> {
        let state = State {
            link: Link::Down,
            out: Vec::new(),
            answered: 0,
            written: 0,
            pending: VecDeque::new(),
            writes: 0,
            refusing: None,
            retry: RETRY_MIN,
            waker: None,
            give_up: None,
            waiting: Vec::new(),
        };
        Rc::new(Self { id, address, version, standby, state: RefCell::new(state) })
    }

    /// Whether a command may be sent now. A node that refused writes is asked to resume first,
    /// once no write that it will refuse is on its way: so none overtakes another.
    pub(crate) fn admit(
        &self,
        thread: &Thread,
        client: &Rc<Client>,
        write: bool,
        routes: u64,
    ) -> Result<(), Busy> {
        let mut state = self.state.borrow_mut();
        if state.link != Link::Up {
            return Err(Busy::Hold);
        }
        // A standby that would not answer a read is left alone for a while: the primary will.
        if self.standby && state.refusing.as_ref().is_some_and(|r| thread.now() < r.until) {
            return Err(Busy::Hold);
        }
        let full = state.pending.len() >= IN_FLIGHT_MAX
            || state.out.len() - state.answered >= IN_FLIGHT_BYTES_MAX;
        if full {
            state.waiting.push(client.clone());
            return Err(Busy::Room);
        }
        if write && let Some(refusing) = &state.refusing {
            let due = thread.now() >= refusing.until || refusing.routes != routes;
            if !due || state.writes > 0 {
                return Err(Busy::Hold);
            }
            state.refusing = None;
            state.own(thread, b"*1\r\n$13\r\nGODWIT.RESUME\r\n");
        }
        Ok(())
    }

    /// Appends a command; [`admit`](Self::admit) said that it may be sent.
    pub(crate) fn send(&self, pending: Pending, write: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state.borrow_mut();
        let start = state.out.len();
        write(&mut state.out);
        let len = state.out.len() - start;
        state.writes += usize::from(pending.write);
        state.pending.push_back(Pending { len, ..pending });
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    /// How many commands are sent and not answered.
    pub(crate) fn in_flight(&self) -> usize {
        self.state.borrow().pending.len()
    }

    /// How many of them are writes.
    pub(crate) fn writes_in_flight(&self) -> usize {
        self.state.borrow().writes
    }

    /// Whether it carries commands.
    pub(crate) fn is_up(&self) -> bool {
        self.state.borrow().link == Link::Up
    }

    /// No route leads here any more.
    pub(crate) fn retire(&self) {
        let mut state = self.state.borrow_mut();
        state.link = Link::Retired;
        state.wake();
    }

    /// Gives the connection up if the oldest command has waited for too long.
    pub(crate) fn check(&self, now: Instant, patience: Duration) {
        let mut state = self.state.borrow_mut();
        let late = |p: &Pending| now.saturating_duration_since(p.at) > patience;
        if state.give_up.is_none() && state.pending.front().is_some_and(late) {
            state.give_up =
                Some(format!("a command was not answered within {} ms", patience.as_millis()));
            state.wake();
        }
    }
}

impl State {
    /// Appends a command of the proxy's own; its answer is only looked at.
    fn own(&mut self, thread: &Thread, command: &[u8]) {
        self.out.extend_from_slice(command);
        self.pending.push_back(Pending {
            client: None,
            seq: 0,
            part: 0,
            len: command.len(),
            write: false,
            tries: 0,
            at: thread.now(),
        });
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}
