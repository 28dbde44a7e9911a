//! A worker's loop: take what waits, run it, commit it as one batch, ask whether this node may
//! still write, then answer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ahead::LookAhead;
use super::answers::Answers;
use super::aside::Asides;
use super::cache::Caches;
use super::effects::Effects;
use super::expiry::Sweeper;
use super::gate::{Gate, WorkerSet};
use super::pending::Pending;
use super::positions::Positions;
use super::queue::{Lanes, Task};
use super::request::Request;
use super::script::Scripts;
use super::stalled::Stalled;
use super::turns::Turns;
use super::waiter::Until;
use crate::command::Fail;
use crate::control::{Authority, Mode};
use crate::script::Scripting;
use crate::settings;
use crate::store::{Current, Store};

/// How often expired keys are looked for.
const SWEEP_EVERY: Duration = Duration::from_millis(100);

/// One worker's state; everything in it is its own.
pub(super) struct Worker {
    pub(super) index: u16,
    pub(super) lanes: Arc<Lanes>,
    pub(super) store: Current,
    pub(super) authority: Authority,
    pub(super) pending: Pending,
    pub(super) answers: Answers,
    pub(super) scratch: (Vec<u8>, Vec<u8>),
    sweeper: Sweeper,
    pub(super) positions: Arc<Positions>,
    pub(super) effects: Effects,
    /// The call that ran last found nothing and waits.
    pub(super) until: Option<Box<Until>>,
    pub(super) asides: Asides,
    /// When the command that ran last ended, if the next begins with that: one look at the clock for
    /// each of a pipeline's.
    pub(super) ended: Option<Instant>,
    pub(super) stalled: Stalled,
    ahead: LookAhead,
    pub(super) turns: Arc<Turns>,
    /// The workers that stand still or are this one: whose keys the command that runs may touch.
    pub(super) within: WorkerSet,
    /// Whose request it is.
    pub(super) connection: u64,
    pub(super) scripts: Scripts,
}

impl Worker {
    pub(super) fn new(
        index: u16,
        workers: usize,
        lanes: Arc<Lanes>,
        store: Current,
        authority: Authority,
        (positions, effects, caches): (Arc<Positions>, Effects, Caches),
        (turns, scripting): (Arc<Turns>, Arc<Scripting>),
    ) -> Self {
        Self {
            index,
            lanes,
            store,
            authority,
            pending: Pending::new(caches),
            answers: Answers::default(),
            scratch: Default::default(),
            sweeper: Sweeper::new(index, workers),
            positions,
            effects,
            until: None,
            asides: Asides::default(),
            ended: None,
            stalled: Stalled::default(),
            ahead: LookAhead::default(),
            turns,
            within: WorkerSet::only(index),
            connection: 0,
            scripts: Scripts::new(scripting),
        }
    }

    /// Runs until the queue is closed and empty.
    pub(super) fn run(mut self) {
        let mut tasks = VecDeque::new();
        let mut swept = Instant::now();
        let lanes = self.lanes.clone();
        while lanes.of(self.index).take(&mut tasks, self.idle()) {
            self.turns.enter(self.index);
            // No reference to the store outlives a wake-up or a pause: so it can be swapped.
            let mut store = self.store.load();
            self.ended = None;
            let caches = matches!(self.authority.mode(), Mode::Standalone | Mode::Primary);
            self.pending.caches().turn(self.index, caches);
            self.enter(store.as_deref());
            if let Some(store) = store.as_deref() {
                self.ahead.bring(store, self.pending.caches(), self.index, &tasks);
            }
            for task in tasks.drain(..) {
                match task {
                    Task::Run(request) => self.run_or_keep(store.as_deref(), request),
                    Task::Again(again) => self.run_gated_again(store.as_deref(), &again),
                    Task::Pause(pause) => {
                        self.finish(store.as_deref());
                        self.leave(store.as_deref());
                        drop(store.take());
                        self.turns.leave(self.index);
                        pause.park();
                        self.turns.enter(self.index);
                        store = self.store.load();
                        self.enter(store.as_deref());
                    }
                }
            }
            if let Some(store) = store.as_deref()
                && swept.elapsed() >= SWEEP_EVERY
            {
                let began = Instant::now();
                swept = began;
                if settings::ACTIVE_EXPIRE.get() {
                    let may = (&self.authority, &self.effects);
                    self.sweeper.sweep(store, may, &mut self.pending);
                }
                crate::stats::events::note("expire-cycle", began.elapsed());
                if !self.authority.is_writable() {
                    self.effects.ready_all(self.index);
                }
                self.serve(Some(store), WorkerSet::only(self.index));
            }
            self.finish(store.as_deref());
            self.run_kept(store.as_deref());
            self.leave(store.as_deref());
        }
    }

    /// How long it sleeps without anything to do.
    fn idle(&self) -> Duration {
        self.stalled.idle().map_or(SWEEP_EVERY, |idle| idle.min(SWEEP_EVERY))
    }

    /// Runs a request, unless RocksDB holds writes up and it has to wait for that.
    fn run_or_keep(&mut self, store: Option<&Store>, request: Arc<Request>) {
        if self.stalled.holds(&request, store.is_some_and(Store::is_stopped)) {
            self.stalled.push(request);
        } else {
            self.run_request(store, &request);
        }
    }

    /// Tries again what was kept.
    fn run_kept(&mut self, store: Option<&Store>) {
        if self.stalled.is_clear() || store.is_some_and(Store::is_stopped) {
            return;
        }
        for request in self.stalled.take_due() {
            self.run_or_keep(store, request);
        }
        self.finish(store);
    }

    /// From here on it gives out versions and reads.
    fn enter(&self, store: Option<&Store>) {
        if let Some(store) = store {
            store.reclaim().enter(self.index, store.hlc().last());
        }
    }

    /// All that it has written is committed, and it keeps no cursor.
    fn leave(&self, store: Option<&Store>) {
        if let Some(store) = store {
            store.reclaim().leave(self.index);
            self.turns.leave(self.index);
        }
    }

    /// Stands at a gate, having committed, while another worker runs its command.
    pub(super) fn stand(&self, gate: &Gate) {
        self.turns.leave(self.index);
        gate.arrive_and_wait();
        self.turns.enter(self.index);
    }

    /// Waits, having committed, until the others stand at a gate.
    pub(super) fn gather(&self, gate: &Gate) {
        self.turns.leave(self.index);
        gate.wait_for_others();
        self.turns.enter(self.index);
    }

    /// Runs something while no other worker does, and commits it. Nothing may be uncommitted.
    pub(super) fn alone<T>(
        &mut self,
        store: &Store,
        run: impl FnOnce(&mut Self) -> Result<T, Fail>,
    ) -> Result<T, Fail> {
        let turns = self.turns.clone();
        turns.leave(self.index);
        let alone = turns.alone();
        let within = std::mem::replace(&mut self.within, WorkerSet::first(self.lanes.all().len()));
        let ran = run(self);
        let committed = self.commit(Some(store));
        self.within = within;
        drop(alone);
        turns.enter(self.index);
        if committed { ran } else { Err(Fail::Lost) }
    }
}
