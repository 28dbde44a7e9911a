//! What workers were doing when a stamp was given.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use keyspace::Hlc;

use crate::worker::Workers;

/// For each worker the last stamp that had been given when it began what it does now: the versions
/// that it gives out, and the reads that it makes, come after that.
#[derive(Debug)]
pub(super) struct Floors(Box<[Line]>);

/// On a cache line of its own: each is written by one worker all the time.
#[derive(Debug)]
#[repr(align(128))]
struct Line(AtomicU64);

const IDLE: u64 = u64::MAX;

impl Default for Floors {
    fn default() -> Self {
        Self((0..Workers::MAX).map(|_| Line(AtomicU64::new(IDLE))).collect())
    }
}

impl Floors {
    /// A worker begins; `last` is the last stamp given.
    pub(super) fn enter(&self, worker: u16, last: Hlc) {
        self.0[usize::from(worker)].0.store(last.0, Ordering::SeqCst);
        // Before it takes a stamp: who gives one later and looks here then sees this.
        fence(Ordering::SeqCst);
    }

    /// It has committed all that it wrote, and reads nothing.
    pub(super) fn leave(&self, worker: u16) {
        self.0[usize::from(worker)].0.store(IDLE, Ordering::Release);
    }

    /// The lowest of all, and of `stamp`, which was given just before.
    pub(super) fn lowest(&self, stamp: Hlc) -> Hlc {
        fence(Ordering::SeqCst);
        let all = self.0.iter().map(|line| line.0.load(Ordering::SeqCst));
        Hlc(all.fold(stamp.0, u64::min))
    }
}
