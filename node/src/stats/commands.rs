//! Counts and times of commands: INFO commandstats and latencystats, LATENCY HISTOGRAM.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::Histogram;
use crate::command::{Spec, table};
use crate::settings;

/// What one thread counted of one command.
#[derive(Default)]
struct Count {
    calls: AtomicU64,
    nanos: AtomicU64,
    rejected: AtomicU64,
    failed: AtomicU64,
    times: OnceLock<Histogram>,
}

/// What one thread counted, by the commands' numbers.
struct Shard(Box<[Count]>);

/// The counts of all threads, also of those that have ended.
static SHARDS: Mutex<Vec<Arc<Shard>>> = Mutex::new(Vec::new());

thread_local! {
    static OWN: Arc<Shard> = {
        let counts = table::everything().map(|_| Count::default()).collect();
        let shard = Arc::new(Shard(counts));
        shards().push(shard.clone());
        shard
    };
}

fn shards() -> MutexGuard<'static, Vec<Arc<Shard>>> {
    SHARDS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Only the thread that owns it writes: no locked instruction is needed.
fn add(counter: &AtomicU64, value: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(value), Ordering::Relaxed);
}

fn with(spec: &Spec, count: impl FnOnce(&Count)) {
    let Some(number) = table::number(spec) else { return };
    OWN.with(|shard| count(&shard.0[usize::from(number)]));
}

/// A command ran.
pub(crate) fn ran(spec: &Spec, took: Duration, failed: bool) {
    let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
    with(spec, |count| {
        add(&count.calls, 1);
        add(&count.nanos, nanos);
        if failed {
            add(&count.failed, 1);
        }
        if settings::LATENCY_TRACKING.get() {
            count.times.get_or_init(Histogram::default).add(nanos);
        }
    });
}

/// A command was refused before it ran.
pub(crate) fn rejected(spec: &Spec) {
    with(spec, |count| add(&count.rejected, 1));
}

/// What all threads counted of a command.
pub(crate) struct Total {
    /// Which command.
    pub(crate) spec: &'static Spec,
    /// How often it ran.
    pub(crate) calls: u64,
    /// How long all of it took.
    pub(crate) nanos: u64,
    /// How often it was refused before it ran.
    pub(crate) rejected: u64,
    /// How often it answered an error.
    pub(crate) failed: u64,
    /// How long each run took, where that was measured.
    pub(crate) times: Histogram,
}

/// Of all commands that were asked for.
pub(crate) fn totals() -> Vec<Total> {
    let shards = shards();
    let total = |(number, spec): (usize, &'static Spec)| {
        let nothing = (0, 0, 0, 0);
        let (calls, nanos, rejected, failed) = nothing;
        let times = Histogram::default();
        let mut total = Total { spec, calls, nanos, rejected, failed, times };
        for count in shards.iter().map(|shard| &shard.0[number]) {
            total.calls += count.calls.load(Ordering::Relaxed);
            total.nanos += count.nanos.load(Ordering::Relaxed);
            total.rejected += count.rejected.load(Ordering::Relaxed);
            total.failed += count.failed.load(Ordering::Relaxed);
            if let Some(times) = count.times.get() {
                total.times.merge(times);
            }
        }
        (total.calls + total.rejected > 0).then_some(total)
    };
    table::everything().enumerate().filter_map(total).collect()
}

/// How long all commands together took, since the counts began.
pub(crate) fn times() -> Histogram {
    let all = Histogram::default();
    for times in shards().iter().flat_map(|shard| &shard.0).filter_map(|count| count.times.get()) {
        all.merge(times);
    }
    all
}

/// CONFIG RESETSTAT. What a thread counts meanwhile may be lost.
pub(crate) fn reset() {
    for count in shards().iter().flat_map(|shard| &shard.0) {
        for counter in [&count.calls, &count.nanos, &count.rejected, &count.failed] {
            counter.store(0, Ordering::Relaxed);
        }
        if let Some(times) = count.times.get() {
            times.clear();
        }
    }
}
