//! A worker's queue: many hand over, one takes all that waits.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::gate::{Pause, WorkerSet};
use super::request::Request;
use super::serve::Again;

/// Beyond so many waiting requests an I/O thread keeps what it has and stops reading.
pub(super) const QUEUE_REQUESTS_MAX: usize = 4096;

/// What a worker is given to do.
pub(super) enum Task {
    /// Run those commands of a request that are this worker's.
    Run(Arc<Request>),
    /// Commit, then run a call that waits once more, with others.
    Again(Arc<Again>),
    /// Commit, then wait.
    Pause(Arc<Pause>),
}

/// The queues of all workers.
pub(super) struct Lanes {
    queues: Vec<Queue>,
    /// Held while something is put into several queues, so that all have it in one order. Whether
    /// they are closed.
    order: Mutex<bool>,
}

impl Lanes {
    pub(super) fn new(workers: usize) -> Self {
        Self { queues: (0..workers).map(|_| Queue::default()).collect(), order: Mutex::default() }
    }

    /// A worker's.
    pub(super) fn of(&self, worker: u16) -> &Queue {
        &self.queues[usize::from(worker)]
    }

    pub(super) fn all(&self) -> &[Queue] {
        &self.queues
    }

    /// Whatever is put into several queues while this is held is in one order in all of them.
    pub(super) fn in_order(&self) -> MutexGuard<'_, bool> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets these workers run a call once more.
    pub(super) fn push_again(&self, workers: WorkerSet, again: &Arc<Again>) {
        let closed = self.in_order();
        // A worker that has ended would never come to the gate.
        if *closed {
            return;
        }
        for (index, queue) in self.queues.iter().enumerate() {
            if workers.contains(index as u16) {
                queue.push(Task::Again(again.clone()));
            }
        }
    }

    /// Nothing more is put into them by workers themselves.
    pub(super) fn close(&self) {
        let mut closed = self.in_order();
        *closed = true;
        self.queues.iter().for_each(Queue::close);
    }
}

#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Default)]
struct State {
    tasks: VecDeque<Task>,
    sleeping: bool,
    closed: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands over in order. False, and nothing taken: the queue is full.
    pub(super) fn try_push(&self, tasks: &mut Vec<Task>) -> bool {
        let mut state = self.lock();
        if state.tasks.len() >= QUEUE_REQUESTS_MAX {
            return false;
        }
        state.tasks.extend(tasks.drain(..));
        self.wake(state);
        true
    }

    /// Hands over one task whatever is waiting: those that must be in several queues in one order.
    pub(super) fn push(&self, task: Task) {
        let mut state = self.lock();
        state.tasks.push_back(task);
        self.wake(state);
    }

    fn wake(&self, mut state: MutexGuard<'_, State>) {
        let asleep = std::mem::replace(&mut state.sleeping, false);
        drop(state);
        if asleep {
            self.filled.notify_one();
        }
    }

    /// Takes all that waits into `tasks`, sleeping up to `idle` for it. False: closed and empty.
    pub(super) fn take(&self, tasks: &mut VecDeque<Task>, idle: Duration) -> bool {
        let mut state = self.lock();
        if state.tasks.is_empty() && !state.closed {
            state.sleeping = true;
            let waited = self.filled.wait_timeout(state, idle);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.sleeping = false;
        }
        std::mem::swap(tasks, &mut state.tasks);
        !(state.closed && tasks.is_empty())
    }

    /// How many tasks wait.
    pub(super) fn len(&self) -> usize {
        self.lock().tasks.len()
    }

    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
    }
}
