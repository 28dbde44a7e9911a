//! A worker's queue: many hand over, one takes all that waits.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::gate::Pause;
use super::request::Request;

/// Beyond so many waiting requests an I/O thread keeps what it has and stops reading.
pub(super) const QUEUE_REQUESTS_MAX: usize = 4096;

/// What a worker is given to do.
pub(super) enum Task {
    /// Run those commands of a request that are this worker's.
    Run(Arc<Request>),
    /// Commit, then wait.
    Pause(Arc<Pause>),
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
