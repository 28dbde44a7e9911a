//! A worker's part in waiting: calls begin to wait, and are run again when their keys were written.

use std::sync::Arc;

use super::answers::Held;
use super::blocked::Blocked;
use super::gate::{Gate, WorkerSet};
use super::queue::Lanes;
use super::run::Worker;
use super::view::{Key, View};
use super::waiter::Waiter;
use crate::store::Store;

/// A call that several workers run again together: one gate for each time.
pub(super) struct Again {
    pub(super) waiter: Arc<Waiter>,
    gate: Gate,
    /// It has been looked at whether its keys are what it waits for.
    may_run: bool,
}

impl Again {
    fn new(waiter: Arc<Waiter>, may_run: bool) -> Self {
        let gate = Gate::new(waiter.workers);
        Self { waiter, gate, may_run }
    }
}

/// Any key may have changed beside the workers: those who wait for one look again, in their order.
pub(super) fn look_again(blocked: &Blocked, lanes: &Lanes) {
    if blocked.is_empty() {
        return;
    }
    let mut waiters = blocked.all();
    waiters.retain(|waiter| waiter.keys().next().is_some());
    waiters.sort_unstable_by_key(|waiter| waiter.ticket);
    for waiter in waiters.into_iter().filter(|waiter| waiter.enqueue()) {
        lanes.push_again(waiter.workers, &Arc::new(Again::new(waiter, false)));
    }
}

impl Worker {
    /// Runs those who wait for keys that were written, in the order in which they came. The workers
    /// of `within` stand still or are this one.
    pub(super) fn serve(&mut self, store: Option<&Store>, within: WorkerSet) {
        while let Some(name) = self.effects.take_ready() {
            let Some(store) = store else { continue };
            let key = Key::new(&name);
            let mut behind = None;
            while let Some(waiter) = self.effects.blocked.next(key, behind) {
                behind = Some(waiter.ticket);
                if !self.may_serve(store, key, &waiter) {
                    continue;
                }
                if within.has_all(waiter.workers) {
                    self.wake(store, &waiter);
                } else {
                    if waiter.enqueue() {
                        self.lanes.push_again(waiter.workers, &Arc::new(Again::new(waiter, true)));
                    }
                    // Those behind it wait for what it leaves.
                    break;
                }
            }
        }
    }

    /// Whether what a key has become is what a call waits for.
    fn may_serve(&mut self, store: &Store, key: Key<'_>, waiter: &Waiter) -> bool {
        if waiter.until.any_change {
            return true;
        }
        self.effects.begin_command(false);
        let now_ms = store.now_ms();
        let scratch = std::mem::take(&mut self.scratch);
        let mut never = |_: &mut _| Ok(());
        let shared = (&*self.positions, &self.effects);
        let mut view = View::new(store, &mut self.pending, &mut never, scratch, shared, now_ms);
        let entry = view.entry(key);
        self.scratch = view.into_scratch();
        // What cannot be read is for the handler to say.
        entry.map_or(true, |entry| entry.is_some_and(|entry| entry.kind == waiter.until.kind))
    }

    /// Runs a call that waits once more; it is answered with this batch, or waits on in its place.
    fn wake(&mut self, store: &Store, waiter: &Arc<Waiter>) {
        if !waiter.begin() {
            return;
        }
        let request = &waiter.request;
        let Some(call) = request.calls.first() else { return };
        let worker = request.answered_by(call).unwrap_or(self.index);
        let mut part = self.answers.part(request, worker);
        self.effects.set_waited(Some(waiter.clone()));
        self.run_call(Some(store), request, (0, call), &mut part);
        self.effects.set_waited(None);
        if self.until.take().is_some() {
            if let Some(ending) = waiter.wait_on() {
                self.effects.blocked.remove(waiter);
                waiter.answer(&ending);
            }
            return;
        }
        waiter.served();
        self.effects.blocked.remove(waiter);
        self.hold(Held { request: request.clone(), part, aside: None });
    }

    /// Runs a call again whose keys are of several workers; all of them come here.
    pub(super) fn run_gated_again(&mut self, store: Option<&Store>, again: &Again) {
        let Again { waiter, gate, may_run } = again;
        self.commit(store);
        if gate.workers.lowest() != self.index {
            self.stand(gate);
            return;
        }
        self.gather(gate);
        waiter.unqueue();
        if let Some(store) = store.filter(|_| *may_run) {
            self.wake(store, waiter);
        }
        // It may have left something to those behind it.
        waiter.keys().for_each(|name| self.effects.ready(name));
        self.serve(store, gate.workers);
        self.commit(store);
        gate.open();
    }
}
