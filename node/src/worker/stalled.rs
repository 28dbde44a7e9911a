//! Requests that wait while RocksDB takes no writes, so that others can be read for meanwhile.
//!
//! A write that RocksDB would hold up is not made ([`Store::try_commit`]): the requests with writes
//! are kept in their order, and so is all that comes behind them on their connections; what comes on
//! other connections and only reads is run. They are tried again every few milliseconds. Requests of
//! several workers are not kept: others would wait for them at their gates.
//!
//! [`Store::try_commit`]: crate::store::Store::try_commit

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashSet;

use super::queue::QUEUE_REQUESTS_MAX;
use super::request::Request;
use crate::command::Flags;

/// How long until a write that was held up is tried again.
pub(super) const TRY_AGAIN: Duration = Duration::from_millis(2);

/// What a write is answered with that finds too many waiting before it.
pub(super) const TOO_MANY_WAIT: &str =
    "BUSY writes stand still until compactions have caught up, and too many wait; it did not run";

/// Which connection of which outbox.
type Connection = (usize, u64);

/// What waits.
#[derive(Default)]
pub(super) struct Stalled {
    /// RocksDB held a write up: none is tried before this.
    until: Option<Instant>,
    waiting: VecDeque<Arc<Request>>,
    connections: HashSet<Connection, foldhash::fast::FixedState>,
}

impl Stalled {
    /// RocksDB would have held a write up.
    pub(super) fn stall(&mut self) {
        self.until = Some(Instant::now() + TRY_AGAIN);
    }

    /// Whether nothing waits and nothing has to.
    pub(super) fn is_clear(&self) -> bool {
        self.until.is_none() && self.waiting.is_empty()
    }

    /// Whether so much waits that a write is refused.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= QUEUE_REQUESTS_MAX
    }

    /// Whether a request has to wait; `stopped`: RocksDB is known to take no writes.
    pub(super) fn holds(&self, request: &Request, stopped: bool) -> bool {
        if (self.is_clear() && !stopped) || request.is_gated() {
            return false;
        }
        self.connections.contains(&connection(request)) || (writes(request) && !self.is_full())
    }

    /// Keeps a request behind the others.
    pub(super) fn push(&mut self, request: Arc<Request>) {
        self.connections.insert(connection(&request));
        self.waiting.push_back(request);
    }

    /// Keeps requests before the others: they came before them.
    pub(super) fn push_first(&mut self, requests: Vec<Arc<Request>>) {
        for request in requests.into_iter().rev() {
            self.connections.insert(connection(&request));
            self.waiting.push_front(request);
        }
    }

    /// All that waits, if it is time to try again.
    pub(super) fn take_due(&mut self) -> VecDeque<Arc<Request>> {
        if self.until.is_some_and(|until| Instant::now() < until) {
            return VecDeque::new();
        }
        self.until = None;
        self.connections.clear();
        std::mem::take(&mut self.waiting)
    }
}

fn connection(request: &Request) -> Connection {
    (request.outbox.index(), request.connection)
}

fn writes(request: &Request) -> bool {
    let mut calls = request
        .calls
        .iter()
        .chain(request.transactions.iter().flat_map(|transaction| &transaction.calls));
    calls.any(|call| call.spec.flags.has(Flags::WRITE))
}
