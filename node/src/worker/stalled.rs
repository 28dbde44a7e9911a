//! Requests that wait while RocksDB takes no writes, so that others can be read for meanwhile.
//!
//! A write that RocksDB would hold up is not made ([`Store::try_commit`]): the requests with writes
//! are kept in their order, and so is all that comes behind them on their connections; what comes on
//! other connections and only reads is run. They are tried again after a pause that grows, for what
//! was refused still counts against the rate that RocksDB allows. Requests of several workers are not
//! kept: others would wait for them at their gates. I/O threads keep those that write (`server/pause.rs`);
//! what has come here before they knew of the stall is written however long it takes.
//!
//! [`Store::try_commit`]: crate::store::Store::try_commit

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashSet;

use super::queue::QUEUE_REQUESTS_MAX;
use super::request::{Part, Request};
use super::run::Worker;
use crate::command::Flags;
use crate::store::Store;

/// How long until a write that was held up is tried again, and the longest that this becomes.
const TRY_AGAIN: Duration = Duration::from_millis(2);
const TRY_AGAIN_MAX: Duration = Duration::from_millis(250);

/// What a write is answered with that finds too many waiting before it.
pub(super) const TOO_MANY_WAIT: &str =
    "BUSY writes stand still until compactions have caught up, and too many wait; it did not run";

/// Which connection of which outbox.
type Connection = (usize, u64);

/// Pauses between tries: each twice as long as the one before.
#[derive(Default)]
pub(super) struct Pauses(Option<Duration>);

impl Pauses {
    /// The next one.
    pub(super) fn next(&mut self) -> Duration {
        let next = self.0.map_or(TRY_AGAIN, |last| (last * 2).min(TRY_AGAIN_MAX));
        *self.0.insert(next)
    }
}

/// What waits.
#[derive(Default)]
pub(super) struct Stalled {
    /// RocksDB held a write up: none is tried before this.
    until: Option<Instant>,
    pauses: Pauses,
    waiting: VecDeque<Arc<Request>>,
    connections: HashSet<Connection, foldhash::fast::FixedState>,
}

impl Stalled {
    /// RocksDB would have held a write up.
    pub(super) fn stall(&mut self) {
        self.until = Some(Instant::now() + self.pauses.next());
    }

    /// RocksDB took a write: it may take the next one at once.
    pub(super) fn flow(&mut self) {
        self.pauses = Pauses::default();
    }

    /// How long a worker may sleep before it looks at what waits, if anything does.
    pub(super) fn idle(&self) -> Option<Duration> {
        if self.is_clear() {
            return None;
        }
        let due = self.until.map(|until| until.saturating_duration_since(Instant::now()));
        // What is due already waits for RocksDB to be looked at again.
        Some(due.unwrap_or_default().max(TRY_AGAIN))
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

    /// All that waits, due or not.
    fn take_all(&mut self) -> VecDeque<Arc<Request>> {
        self.until = None;
        self.take_due()
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

impl Worker {
    /// Commits before a command of several workers.
    pub(super) fn come_to_gate(
        &mut self,
        store: Option<&Store>,
        request: &Arc<Request>,
        part: &mut Part,
    ) {
        if part.ends.is_empty() && !self.pending.is_empty() {
            // Writes of others that RocksDB would hold up are kept: nobody stands still for them.
            self.finish(store);
            self.begin_request(request);
        } else {
            part.lost |= !self.commit(store);
        }
        self.catch_up(store, request, part);
    }

    /// What came before this request on its connection is written before it runs, however long that
    /// takes.
    pub(super) fn catch_up(
        &mut self,
        store: Option<&Store>,
        request: &Arc<Request>,
        part: &mut Part,
    ) {
        if !self.stalled.connections.contains(&connection(request)) {
            return;
        }
        self.answers.keep_turn(true);
        for kept in self.stalled.take_all() {
            self.run_request(store, &kept);
        }
        part.lost |= !self.commit(store);
        self.answers.keep_turn(false);
        self.begin_request(request);
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
