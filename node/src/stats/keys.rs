//! How often commands that read found their keys, and how many commands changed some: what INFO
//! calls `keyspace_hits`, `keyspace_misses` and `rdb_changes_since_last_save`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What one worker counted. Only it writes, others read; in a cache line of its own, so that workers
/// do not wait for one another.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Counts {
    hits: AtomicU64,
    misses: AtomicU64,
    changes: AtomicU64,
}

/// The counts of all workers, also of those that have ended.
static ALL: Mutex<Vec<Arc<Counts>>> = Mutex::new(Vec::new());

fn all() -> MutexGuard<'static, Vec<Arc<Counts>>> {
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One thread writes: no locked instruction is needed.
fn add_one(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

impl Counts {
    /// A worker's, that [`totals`] has too.
    pub(crate) fn register() -> Arc<Self> {
        let counts = Arc::<Self>::default();
        all().push(counts.clone());
        counts
    }

    /// A command that reads found a key.
    pub(crate) fn hit(&self) {
        add_one(&self.hits);
    }

    /// A command that reads found no such key.
    pub(crate) fn miss(&self) {
        add_one(&self.misses);
    }

    /// A command changed something.
    pub(crate) fn change(&self) {
        add_one(&self.changes);
    }
}

/// What all workers counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Keys that commands that read found.
    pub(crate) hits: u64,
    /// Keys that they did not find.
    pub(crate) misses: u64,
    /// Commands that changed something, since the process began.
    pub(crate) changes: u64,
}

/// The sums.
pub(crate) fn totals() -> Totals {
    let add = |sum: Totals, counts: &Arc<Counts>| Totals {
        hits: sum.hits.wrapping_add(counts.hits.load(Ordering::Relaxed)),
        misses: sum.misses.wrapping_add(counts.misses.load(Ordering::Relaxed)),
        changes: sum.changes.wrapping_add(counts.changes.load(Ordering::Relaxed)),
    };
    all().iter().fold(Totals::default(), add)
}

/// CONFIG RESETSTAT. What a worker counts meanwhile may be lost; changes go on being counted.
pub(crate) fn reset() {
    for counts in all().iter() {
        counts.hits.store(0, Ordering::Relaxed);
        counts.misses.store(0, Ordering::Relaxed);
    }
}
