//! Where workers wait for each other: commands that touch slots of several workers, and pauses.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A set of workers, by index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerSet(u64);

impl WorkerSet {
    /// The most workers that there can be.
    pub(super) const MAX: usize = 64;

    /// The first `count` workers.
    pub(crate) const fn first(count: usize) -> Self {
        Self(if count >= Self::MAX { u64::MAX } else { (1 << count) - 1 })
    }

    /// This one.
    pub(super) const fn only(worker: u16) -> Self {
        Self(1 << worker)
    }

    /// Whether all of these are among them.
    pub(super) const fn has_all(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// Adds one.
    pub(crate) const fn insert(&mut self, worker: u16) {
        self.0 |= 1 << worker;
    }

    /// Whether it is one of them.
    pub(super) const fn contains(self, worker: u16) -> bool {
        self.0 >> worker & 1 == 1
    }

    /// How many they are.
    pub(crate) const fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// The lowest; it runs the command.
    pub(crate) const fn lowest(self) -> u16 {
        self.0.trailing_zeros() as u16
    }
}

/// One command that several workers wait for while the lowest of them runs it.
///
/// Architecture Invariant: a request with gates is put into all its queues under one lock
/// ([`super::Workers`]), so all workers meet their gates in one order and none waits in a circle.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) workers: WorkerSet,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    arrived: u32,
    open: bool,
}

impl Gate {
    pub(super) fn new(workers: WorkerSet) -> Self {
        Self { workers, state: Mutex::default(), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that this worker has committed, and waits until the command has run.
    pub(super) fn arrive_and_wait(&self) {
        let mut state = self.lock();
        state.arrived += 1;
        self.changed.notify_all();
        let open = self.changed.wait_while(state, |s| !s.open);
        drop(open.unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits until all others have committed.
    pub(super) fn wait_for_others(&self) {
        let others = self.workers.len() - 1;
        let all = self.changed.wait_while(self.lock(), |s| s.arrived < others);
        drop(all.unwrap_or_else(PoisonError::into_inner));
    }

    /// Lets the others go on.
    pub(super) fn open(&self) {
        self.lock().open = true;
        self.changed.notify_all();
    }
}

/// A gate of all workers that somebody else than a worker holds shut.
#[derive(Debug)]
pub(super) struct Pause(Gate);

impl Pause {
    pub(super) fn new(workers: usize) -> Self {
        Self(Gate::new(WorkerSet::first(workers)))
    }

    pub(super) fn park(&self) {
        self.0.arrive_and_wait();
    }

    pub(super) fn wait_until_all_parked(&self) {
        let all = self.0.workers.len();
        let parked = self.0.changed.wait_while(self.0.lock(), |s| s.arrived < all);
        drop(parked.unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn resume(&self) {
        self.0.open();
    }
}
