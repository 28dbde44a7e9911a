//! Calls that wait for keys: BLPOP and its kin.
//!
//! A blocking command is an ordinary handler with [`crate::command::Flags::BLOCKING`]. Where it finds
//! nothing it ends with
//!
//! ```text
//! view.wait(Until::keys(1..args.len() - 1, Type::List, timeout), out)
//! ```
//!
//! Inside of a transaction or a script this answers a null array, because nothing waits there
//! (`view.may_wait()` tells where another answer is due). Else the call waits, under its keys, in
//! the order in which calls came. When a call, a transaction or a script has written one of the
//! keys and it is of the type then, the handler is run again from its beginning, right behind the
//! writer and in the same batch: it answers, or waits on in its place. Several waiters of a key are
//! run one after the other, so readers that take nothing (XREAD) are all served by one write.
//!
//! - A handler may have written before it waits (XREADGROUP makes its consumer): that stays.
//! - What the first run found out and later ones need (`$` of XREAD) goes into [`Until::note`];
//!   [`super::View::note`] gives it back.
//! - [`Until::any_change`] wakes when the key is deleted or of another type as well.
//! - Any write of a key's records wakes it. A handler that changes what others wait for without
//!   that calls `view.touch(key)`.
//!
//! A node that follows another is changed from outside of its workers: there calls that only read are
//! run again now and then.
//!
//! A call whose keys are of several workers goes through a gate of them each time that it runs
//! again. One connection has one waiting call at most, so there are no more than clients.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;

use super::alarm::Alarm;
use super::gate::WorkerSet;
use super::request::Request;
use super::view::Key;
use super::waiter::{Ended, Ending, Until, Waiter};

/// All calls that wait. A cheap handle.
#[derive(Clone)]
pub struct Blocked(Arc<Inner>);

struct Inner {
    /// By the worker that owns the key.
    shards: Box<[Shard]>,
    by_client: Mutex<HashMap<u64, Arc<Waiter>>>,
    count: AtomicUsize,
    tickets: AtomicU64,
    alarm: Alarm,
}

#[derive(Default)]
struct Shard {
    /// Calls under its keys: none costs a write of a key one look at this.
    waiting: AtomicUsize,
    /// Those who wait for a key, the first one first.
    lines: Mutex<HashMap<Vec<u8>, VecDeque<Arc<Waiter>>>>,
}

impl Shard {
    fn lines(&self) -> MutexGuard<'_, HashMap<Vec<u8>, VecDeque<Arc<Waiter>>>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Blocked {
    pub(super) fn new(workers: usize) -> Self {
        Self(Arc::new(Inner {
            shards: (0..workers).map(|_| Shard::default()).collect(),
            by_client: Mutex::default(),
            count: AtomicUsize::new(0),
            tickets: AtomicU64::new(0),
            alarm: Alarm::default(),
        }))
    }

    pub(super) fn alarm(&self) -> &Alarm {
        &self.0.alarm
    }

    fn shard(&self, key: Key<'_>) -> &Shard {
        &self.0.shards[usize::from(key.slot.number()) % self.0.shards.len()]
    }

    fn by_client(&self) -> MutexGuard<'_, HashMap<u64, Arc<Waiter>>> {
        self.0.by_client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many calls wait.
    pub fn len(&self) -> usize {
        self.0.count.load(Ordering::Relaxed)
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether this client waits.
    pub fn has(&self, client: u64) -> bool {
        !self.is_empty() && self.by_client().contains_key(&client)
    }

    /// Ends a client's waiting as if its time were over, or with an error. False: it does not wait.
    pub fn unblock(&self, client: u64, error: Option<&str>) -> bool {
        let ending = error.map_or(Ending::TooLate, |text| Ending::Error(text.to_owned()));
        let waiter = self.by_client().get(&client).cloned();
        waiter.is_some_and(|waiter| self.end(&waiter, &ending))
    }

    /// The connection of a client has gone, which its requests say already. True: it waited.
    pub fn forget(&self, client: u64) -> bool {
        if self.is_empty() {
            return false;
        }
        let waiter = self.by_client().get(&client).cloned();
        waiter.is_some_and(|waiter| self.end(&waiter, &Ending::Gone))
    }

    /// All who wait.
    pub(super) fn all(&self) -> Vec<Arc<Waiter>> {
        self.by_client().values().cloned().collect()
    }

    /// Whether somebody waits for the key. Only its worker asks, or one that its worker waits for.
    pub(super) fn is_awaited(&self, key: Key<'_>) -> bool {
        let shard = self.shard(key);
        shard.waiting.load(Ordering::Relaxed) > 0 && shard.lines().contains_key(key.name)
    }

    /// The keys of a worker, or of all, that somebody waits for.
    pub(super) fn keys(&self, worker: Option<u16>) -> Vec<Vec<u8>> {
        let is_asked = |at: &usize| worker.is_none_or(|worker| usize::from(worker) == *at);
        let shards = self.0.shards.iter().enumerate().filter(|(at, _)| is_asked(at));
        let shards = shards.map(|(_, shard)| shard);
        let awaited = shards.filter(|shard| shard.waiting.load(Ordering::Relaxed) > 0);
        awaited.flat_map(|shard| shard.lines().keys().cloned().collect::<Vec<_>>()).collect()
    }

    /// The only call of a request begins to wait; the workers of its keys stand still.
    pub(super) fn begin(&self, request: &Arc<Request>, until: Until, workers: WorkerSet) {
        let ticket = self.0.tickets.fetch_add(1, Ordering::Relaxed);
        let waiter = Arc::new(Waiter::new(request, until, ticket, workers));
        for name in waiter.keys() {
            let shard = self.shard(Key::new(name));
            let mut lines = shard.lines();
            let line = lines.entry_ref(name).or_default();
            // A key may be named twice.
            if line.back().is_none_or(|last| last.ticket != ticket) {
                line.push_back(waiter.clone());
                shard.waiting.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.0.count.fetch_add(1, Ordering::Relaxed);
        self.by_client().insert(request.connection, waiter.clone());
        // Whoever leaves says so before it looks for its call.
        if request.sticky.has_left() {
            self.end(&waiter, &Ending::Gone);
        }
        self.0.alarm.set(&waiter);
        if waiter.has_ended() {
            self.0.alarm.clear(&waiter);
        }
    }

    /// The next in a key's line behind this ticket.
    pub(super) fn next(&self, key: Key<'_>, behind: Option<u64>) -> Option<Arc<Waiter>> {
        let shard = self.shard(key);
        if shard.waiting.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let lines = shard.lines();
        let mut line = lines.get(key.name)?.iter();
        line.find(|waiter| behind.is_none_or(|behind| waiter.ticket > behind)).cloned()
    }

    /// Ends a call that waits, and answers it. False: it had ended before.
    pub(super) fn end(&self, waiter: &Arc<Waiter>, ending: &Ending) -> bool {
        let ended = waiter.end(ending);
        if ended == Ended::Now {
            self.remove(waiter);
            waiter.answer(ending);
        }
        ended != Ended::Before
    }

    /// Takes a call that has ended out of all lines.
    pub(super) fn remove(&self, waiter: &Arc<Waiter>) {
        for name in waiter.keys() {
            let shard = self.shard(Key::new(name));
            let mut lines = shard.lines();
            let Some(line) = lines.get_mut(name) else { continue };
            if let Some(at) = line.iter().position(|other| other.ticket == waiter.ticket) {
                line.remove(at);
                shard.waiting.fetch_sub(1, Ordering::Relaxed);
            }
            if line.is_empty() {
                lines.remove(name);
            }
        }
        let mut clients = self.by_client();
        let client = waiter.request.connection;
        if clients.get(&client).is_some_and(|other| other.ticket == waiter.ticket) {
            clients.remove(&client);
        }
        drop(clients);
        self.0.count.fetch_sub(1, Ordering::Relaxed);
        self.0.alarm.clear(waiter);
    }
}
