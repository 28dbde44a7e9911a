//! The workers together: who owns which slot, handing over, pausing, stopping.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use keyspace::Slot;

use super::alarm;
use super::blocked::Blocked;
use super::cache::Caches;
use super::effects::Effects;
use super::gate::{Pause, WorkerSet};
use super::listeners::{Event, Listeners};
use super::positions::Positions;
use super::queue::{Lanes, Task};
use super::request::Request;
use super::run::Worker;
use super::serve::look_again;
use super::turns::Turns;
use super::watch::Watches;
use crate::control::Authority;
use crate::script::Scripting;
use crate::store::Current;

/// A cheap handle on all workers.
#[derive(Clone)]
pub struct Workers(Arc<Pool>);

struct Pool {
    lanes: Arc<Lanes>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    watches: Watches,
    blocked: Blocked,
    listeners: Arc<Listeners>,
    caches: Caches,
    scripting: Arc<Scripting>,
}

/// Requests that wait to be handed over, by worker.
pub struct Waiting(Vec<Vec<Task>>);

/// All workers stand between two batches, holding no reference to the store, until this is dropped.
#[must_use = "dropping it lets the workers go on"]
pub struct Paused(Arc<Pause>);

impl Drop for Paused {
    fn drop(&mut self) {
        self.0.resume();
    }
}

impl Workers {
    /// The most workers that a node can have.
    pub const MAX: usize = WorkerSet::MAX;

    /// Starts `count` workers, 1 to [`Workers::MAX`].
    /// Their caches have `cache_bytes` together.
    pub fn start(
        count: usize,
        store: Current,
        authority: Authority,
        cache_bytes: u64,
    ) -> io::Result<Self> {
        assert!((1..=Self::MAX).contains(&count), "the configuration bounds the workers");
        let lanes = Arc::new(Lanes::new(count));
        let positions = Arc::new(Positions::default());
        let (watches, blocked) = (Watches::new(count), Blocked::new(count));
        let listeners = Arc::new(Listeners::default());
        let caches = Caches::new(count, cache_bytes);
        let turns = Arc::new(Turns::new(count));
        let scripting = Arc::new(Scripting::new(count));
        let mut threads = Vec::new();
        for index in 0..count {
            let (watches, blocked) = (watches.clone(), blocked.clone());
            let effects = Effects::new(watches, blocked, listeners.clone(), authority.clone());
            let worker = Worker::new(
                index as u16,
                count,
                lanes.clone(),
                store.clone(),
                authority.clone(),
                (positions.clone(), effects, caches.clone()),
                (turns.clone(), scripting.clone()),
            );
            let thread = std::thread::Builder::new().name(format!("worker-{index}"));
            threads.push(thread.spawn(move || run_or_abort(worker))?);
        }
        let waiting = blocked.clone();
        let thread = std::thread::Builder::new().name("alarm".to_owned());
        threads.push(thread.spawn(move || alarm::run(&waiting, &authority))?);
        let threads = Mutex::new(threads);
        let pool = Pool { lanes, threads, watches, blocked, listeners, caches, scripting };
        Ok(Self(Arc::new(pool)))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.lanes.all().len()
    }

    /// The worker that owns a slot.
    pub fn of(&self, slot: Slot) -> u16 {
        slot.number() % self.count() as u16
    }

    /// The keys that connections watch.
    pub fn watches(&self) -> Watches {
        self.0.watches.clone()
    }

    /// Who hears of what commands do.
    pub fn listeners(&self) -> &Listeners {
        &self.0.listeners
    }

    /// The calls that wait.
    pub fn blocked(&self) -> &Blocked {
        &self.0.blocked
    }

    /// What they keep of the database in memory.
    pub fn caches(&self) -> &Caches {
        &self.0.caches
    }

    /// Scripts and functions.
    pub(crate) fn scripting(&self) -> &Arc<Scripting> {
        &self.0.scripting
    }

    /// All of them.
    pub fn all(&self) -> WorkerSet {
        WorkerSet::first(self.count())
    }

    /// How many requests wait in the longest queue.
    pub fn longest_queue(&self) -> usize {
        self.0.lanes.all().iter().map(|queue| queue.len()).max().unwrap_or(0)
    }

    /// Nothing waiting.
    pub fn nothing_waiting(&self) -> Waiting {
        Waiting(self.0.lanes.all().iter().map(|_| Vec::new()).collect())
    }

    /// Puts a request behind what waits for its workers; a gated one goes to them at once.
    pub fn enqueue(&self, request: &Arc<Request>, waiting: &mut Waiting) {
        if request.is_gated() {
            let order = self.0.lanes.in_order();
            for (index, queue) in self.0.lanes.all().iter().enumerate() {
                if request.workers.contains(index as u16) {
                    waiting.0[index].drain(..).for_each(|task| queue.push(task));
                    queue.push(Task::Run(request.clone()));
                }
            }
            drop(order);
            return;
        }
        for (index, tasks) in waiting.0.iter_mut().enumerate() {
            if request.workers.contains(index as u16) {
                tasks.push(Task::Run(request.clone()));
            }
        }
    }

    /// Hands over what waits. False: a queue is full, and its tasks still wait.
    pub fn hand_over(&self, waiting: &mut Waiting) -> bool {
        let mut all = true;
        for (tasks, queue) in waiting.0.iter_mut().zip(self.0.lanes.all()) {
            all &= tasks.is_empty() || queue.try_push(tasks);
        }
        all
    }

    /// Parks all workers behind what they have been given; blocks until they stand. Their batches
    /// are committed and answered.
    pub fn pause(&self) -> Paused {
        let pause = Arc::new(Pause::new(self.count()));
        {
            let _order = self.0.lanes.in_order();
            for queue in self.0.lanes.all() {
                queue.push(Task::Pause(pause.clone()));
            }
        }
        pause.wait_until_all_parked();
        Paused(pause)
    }

    /// Any key may have changed beside the workers, which stand: what connections watch counts as
    /// changed, who keeps copies of keys reads them again, and who waits for a key looks again.
    pub fn changed_outside(&self) {
        self.0.watches.fail_all();
        look_again(&self.0.blocked, &self.0.lanes);
        let listeners = &self.0.listeners;
        listeners.tracked.clear();
        if let Some(herald) = listeners.herald() {
            herald.tell(vec![Event::Flushed { by: 0 }]);
        }
    }

    /// Lets the workers finish what they were given and end; blocks until they have.
    pub fn stop(&self) {
        self.0.scripting.stopping.store(true, Ordering::Release);
        self.0.lanes.close();
        self.0.blocked.alarm().close();
        let mut threads = self.0.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            // A worker that panicked has ended the process.
            let _ = thread.join();
        }
    }
}

/// Others wait for a worker at gates, and half a command may be in its batch: one that panicked
/// ends the process. What was acknowledged is in the log.
fn run_or_abort(worker: Worker) {
    if catch_unwind(AssertUnwindSafe(|| worker.run())).is_err() {
        tracing::error!(
            "a worker panicked: ending the process; acknowledged writes are in the log"
        );
        std::process::abort();
    }
}
