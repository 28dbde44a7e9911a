//! When a worker has all slots for itself, in the middle of a request.
//!
//! A gate is for commands whose workers are known before they run. A script that turns out to touch
//! a key of another worker is run again while nobody else runs: workers stop where they would look
//! for their next task or wait at a gate, with nothing uncommitted.
//!
//! Architecture Invariant: a worker that asks for this has committed and left its turn, and waits
//! for nobody's gate; so two that ask at once go one after the other.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Whose turn it is.
pub(super) struct Turns {
    /// Workers that run.
    running: Box<[AtomicBool]>,
    /// How many want to be alone, or are.
    wanted: AtomicUsize,
    /// Whether one is.
    taken: Mutex<bool>,
    changed: Condvar,
}

/// Nobody else runs until this is dropped.
pub(super) struct Alone<'t>(&'t Turns);

impl Turns {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            running: (0..workers).map(|_| AtomicBool::new(false)).collect(),
            wanted: AtomicUsize::new(0),
            taken: Mutex::new(false),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker begins to run, once nobody wants to be alone.
    pub(super) fn enter(&self, worker: u16) {
        let running = &self.running[usize::from(worker)];
        loop {
            // Either this worker sees that somebody wants to be alone, or that one sees it run.
            running.store(true, Ordering::SeqCst);
            if self.wanted.load(Ordering::SeqCst) == 0 {
                return;
            }
            self.leave(worker);
            let free = |_: &mut bool| self.wanted.load(Ordering::SeqCst) > 0;
            let waited = self.changed.wait_while(self.lock(), free);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// A worker stops, with nothing uncommitted.
    pub(super) fn leave(&self, worker: u16) {
        self.running[usize::from(worker)].store(false, Ordering::SeqCst);
        if self.wanted.load(Ordering::SeqCst) > 0 {
            // Whoever waits looks at all under this lock.
            drop(self.lock());
            self.changed.notify_all();
        }
    }

    /// Waits until nobody runs, this worker included, and keeps it so.
    pub(super) fn alone(&self) -> Alone<'_> {
        self.wanted.fetch_add(1, Ordering::SeqCst);
        let others = |taken: &mut bool| {
            *taken || self.running.iter().any(|running| running.load(Ordering::SeqCst))
        };
        let free = self.changed.wait_while(self.lock(), others);
        *free.unwrap_or_else(PoisonError::into_inner) = true;
        Alone(self)
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        let mut taken = self.0.lock();
        *taken = false;
        self.0.wanted.fetch_sub(1, Ordering::SeqCst);
        drop(taken);
        self.0.changed.notify_all();
    }
}
