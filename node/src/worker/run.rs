//! A worker's loop: take what waits, run it, commit it as one batch, ask whether this node may
//! still write, then answer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keyspace::{Cf, SLOTS, Slot};
use resp::Version;
use resp::reply::Writer;
use rocksdb::WriteBatch;
use wal::{Kind, Sequence};

use super::ahead::LookAhead;
use super::aside::{Aside, Asides, Glance};
use super::cache::Caches;
use super::effects::Effects;
use super::expiry::Sweeper;
use super::gate::{Gate, WorkerSet};
use super::pending::{Became, Mark, Pending};
use super::positions::Positions;
use super::queue::{Lanes, Task};
use super::request::{Call, Part, Request, RunBy};
use super::script::Scripts;
use super::stalled::{Stalled, TOO_MANY_WAIT, TRY_AGAIN};
use super::turns::Turns;
use super::view::View;
use super::waiter::Until;
use crate::command::{Args, Fail, Flags, Handler, Scripted, Spec};
use crate::control::{Authority, Mode, Permit, Refusal};
use crate::script::Scripting;
use crate::settings;
use crate::store::{CommitError, Current, Hindrance, Store};

/// Answers are released once so many bytes of them wait for a commit.
const HELD_BYTES_MAX: usize = 4 << 20;
/// Answers are released once so many requests wait for a commit.
const HELD_REQUESTS_MAX: usize = 512;
/// The most that one connection's read may be answered with; beyond it the connection is closed.
pub(super) const ANSWER_BYTES_MAX: usize = 1 << 30;
/// How often expired keys are looked for.
const SWEEP_EVERY: Duration = Duration::from_millis(100);

/// One worker's state; everything in it is its own.
pub(super) struct Worker {
    pub(super) index: u16,
    pub(super) lanes: Arc<Lanes>,
    store: Current,
    pub(super) authority: Authority,
    pub(super) pending: Pending,
    held: Vec<Held>,
    held_bytes: usize,
    /// Writes of what is held are in the log already: it cannot be run again.
    committed: bool,
    /// What is held is being run again; not a third time.
    again: bool,
    pub(super) scratch: (Vec<u8>, Vec<u8>),
    sweeper: Sweeper,
    pub(super) positions: Arc<Positions>,
    pub(super) effects: Effects,
    /// The call that ran last found nothing and waits.
    pub(super) until: Option<Box<Until>>,
    asides: Asides,
    /// When the command that ran last ended, if the next begins with that: one look at the clock for
    /// each of a pipeline's.
    ended: Option<Instant>,
    stalled: Stalled,
    ahead: LookAhead,
    pub(super) turns: Arc<Turns>,
    /// The workers that stand still or are this one: whose keys the command that runs may touch.
    pub(super) within: WorkerSet,
    /// Whose request it is.
    pub(super) connection: u64,
    pub(super) scripts: Scripts,
}

/// How a batch is written: [`Store::commit`] or [`Store::try_commit`].
type Write = fn(&Store, WriteBatch, Kind) -> Result<Sequence, CommitError>;

/// What became of a batch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It is in the log, and may be answered.
    Done,
    /// Nothing of it was written.
    Refused,
    /// The same, because RocksDB would have held it up.
    Stalled,
    /// It may be in the log, or is and may not be answered.
    Unknown,
}

/// Answers that wait for a commit.
pub(super) struct Held {
    pub(super) request: Arc<Request>,
    pub(super) part: Part,
    /// One of them is found out in another thread, which then delivers them.
    pub(super) aside: Option<Aside>,
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
            held: Vec::new(),
            held_bytes: 0,
            committed: false,
            again: false,
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
        if self.stalled.is_clear() { SWEEP_EVERY } else { TRY_AGAIN }
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

    fn run_request(&mut self, store: Option<&Store>, request: &Arc<Request>) {
        let mut part = Part::new(request.connection, request.round, self.index);
        let mut aside = None;
        let mut waits = false;
        self.effects.refresh();
        self.connection = request.connection;
        self.scripts.request = request.user.is_some().then(|| request.clone());
        for (index, call) in request.calls.iter().enumerate() {
            match call.by {
                RunBy::Worker(worker) if worker == self.index => {
                    self.within = WorkerSet::only(worker);
                    self.run_call(store, request, (index, call), &mut part);
                    waits |= self.settle(store, request, WorkerSet::only(worker), &mut part);
                }
                RunBy::Gate(gate) if request.gates[gate as usize].workers.contains(self.index) => {
                    let gate = &request.gates[gate as usize];
                    part.lost |= !self.commit(store);
                    if gate.workers.lowest() == self.index {
                        self.gather(gate);
                        self.within = gate.workers;
                        self.ended = None;
                        match self.begin_aside(request, call, &mut part, aside.is_some()) {
                            Some(begun) => aside = Some(begun),
                            None => {
                                self.run_call(store, request, (index, call), &mut part);
                                waits |= self.settle(store, request, gate.workers, &mut part);
                            }
                        }
                        part.lost |= !self.commit(store);
                        gate.open();
                    } else {
                        self.stand(gate);
                    }
                }
                RunBy::Io | RunBy::IoLate | RunBy::Worker(_) | RunBy::Gate(_) => {}
            }
            if self.pending.is_full() {
                part.lost |= !self.commit(store);
            }
        }
        if !waits {
            self.hold(Held { request: request.clone(), part, aside });
        }
        if self.held_bytes >= HELD_BYTES_MAX || self.held.len() >= HELD_REQUESTS_MAX {
            self.finish(store);
        }
    }

    /// After a call: it begins to wait, or those who wait for what it wrote are served. The workers
    /// of `within` stand still or are this one. True: it waits.
    fn settle(
        &mut self,
        store: Option<&Store>,
        request: &Arc<Request>,
        within: WorkerSet,
        part: &mut Part,
    ) -> bool {
        // Who waits reads the database, where a sweep shows when it is committed.
        if self.pending.is_swept() {
            part.lost |= !self.commit(store);
        }
        let until = self.until.take();
        let waits = until.is_some();
        if let Some(until) = until {
            self.effects.blocked.begin(request, *until, within);
        }
        self.serve(store, within);
        waits
    }

    /// Keeps an answer until its batch is committed.
    pub(super) fn hold(&mut self, held: Held) {
        self.held_bytes += held.part.bytes.len();
        self.held.push(held);
    }

    /// Begins a look at the whole keyspace beside the workers, one for each part; `None`: it is not
    /// such a command, or has to run here.
    fn begin_aside(
        &mut self,
        request: &Request,
        call: &Call,
        part: &mut Part,
        has_one: bool,
    ) -> Option<Aside> {
        let Handler::Aside(handler) = call.spec.handler else { return None };
        if has_one || call.silent || part.lost || self.admit_whole(call).is_err() {
            return None;
        }
        let began = Instant::now();
        let aside = self.asides.begin(&self.store, handler, call.version, part.ends.len())?;
        // Its time is what the workers wait for.
        request.count(call.spec, &request.args_of(call), began.elapsed(), &Ok(()));
        part.ends.push(part.bytes.len());
        Some(aside)
    }

    pub(super) fn run_call(
        &mut self,
        store: Option<&Store>,
        request: &Request,
        (index, call): (usize, &Call),
        part: &mut Part,
    ) {
        let start = part.bytes.len();
        self.effects.begin_call(request.connection);
        if part.lost || start > ANSWER_BYTES_MAX {
            part.lost = true;
            return;
        }
        let began = self.ended.unwrap_or_else(Instant::now);
        let answered = self.answer(store, request, (index, call), part);
        let ended = Instant::now();
        request.count(call.spec, &request.args_of(call), ended - began, &answered);
        self.ended = Some(ended);
        if let Err(fail) = answered {
            part.bytes.truncate(start);
            let fail = match fail {
                Fail::Lost => {
                    part.lost = true;
                    return;
                }
                Fail::Wait(until) => {
                    self.bury(store);
                    self.until = Some(until);
                    return;
                }
                fail => fail,
            };
            if let Fail::Refused(_) = fail
                && may_write(call.spec)
            {
                request.sticky.refuse(call.hold);
            }
            Writer::new(&mut part.bytes, call.version).error(&fail.line());
        }
        if std::mem::take(&mut self.scripts.refused) {
            request.sticky.refuse(call.hold);
        }
        if call.silent {
            part.bytes.truncate(start);
            part.holes.retain(|hole| hole.at < start);
        }
        self.bury(store);
        if self.effects.has_news() {
            self.effects.tell_caller(call.version, &mut part.bytes);
        }
        part.ends.push(part.bytes.len());
    }

    fn answer(
        &mut self,
        store: Option<&Store>,
        request: &Request,
        (index, call): (usize, &Call),
        part: &mut Part,
    ) -> Result<(), Fail> {
        let store = store.ok_or(Fail::Text(LOADING.into()))?;
        if let Handler::Exec = call.spec.handler {
            return self.exec(store, request, (index, call), part);
        }
        let args = request.args_of(call);
        if may_write(call.spec) {
            if request.sticky.is_refused(call.hold) {
                return Err(Fail::Text(STICKY.into()));
            }
            // What a script may write is asked when it writes.
            if call.spec.flags.has(Flags::WRITE) {
                match store.hindrance() {
                    None => {}
                    // Not the node's role but its disk: what comes behind it need not be refused.
                    Some(Hindrance::Full) => return Err(Fail::text(Refusal::Full.to_string())),
                    Some(hindrance) => return Err(Refusal::from(hindrance).into()),
                }
            }
            if self.stalled.is_full() && store.is_stopped() {
                return Err(Fail::text(TOO_MANY_WAIT));
            }
        }
        for slot in call.spec.slots(&args, call.slot) {
            self.admit(slot, call)?;
        }
        if is_of_node(call) {
            self.admit_whole(call)?;
        }
        if let Handler::Watch = call.spec.handler {
            let found = request.transactions.iter().find(|found| found.index == index);
            let watch = found.and_then(|found| found.watch.as_deref());
            let mut out = Writer::new(&mut part.bytes, call.version);
            return self.watch(store, watch, &args, &mut out);
        }
        let (before, told) = (self.pending.mark(), self.effects.mark());
        let now_ms = store.now_ms();
        let answered = self.run_handler(store, call, &args, &mut part.bytes, call.version, now_ms);
        if self.pending.is_too_great() {
            // What other commands wrote before it is kept and goes to the log without it.
            self.pending.cut_to(before);
            self.effects.cut_to(told);
            return Err(if self.commit(Some(store)) { Fail::text(TOO_GREAT) } else { Fail::Lost });
        }
        answered
    }

    /// Runs a command that was admitted.
    pub(super) fn run_handler(
        &mut self,
        store: &Store,
        call: &Call,
        args: &Args<'_>,
        out: &mut Vec<u8>,
        version: Version,
        now_ms: u64,
    ) -> Result<(), Fail> {
        let handler = match call.spec.handler {
            Handler::Session(_) | Handler::Late(_) | Handler::Watch | Handler::Exec => {
                return Ok(());
            }
            Handler::Data(handler) => handler,
            Handler::Script(scripted) => {
                return self.scripted(store, scripted, (call, args), (version, now_ms), out);
            }
            Handler::Aside(handler) => {
                let snapshot = store.db().snapshot();
                let over = self.pending.over(Cf::Meta, b"", &[u8::MAX]).unwrap_or_default();
                let goes_on = &|| true;
                let glance = Glance { store, snapshot: &snapshot, now_ms, over: &over, goes_on };
                return handler(&glance, &mut Writer::new(out, version));
            }
        };
        self.effects.begin_command(call.spec.flags.has(Flags::READONLY));
        let authority = &self.authority;
        let (held, committed) = (&mut self.held, &mut self.committed);
        let mut commit = |pending: &mut Pending| {
            let done = commit(store, authority, pending, Store::commit) == Outcome::Done;
            *committed |= done;
            if !done {
                held.iter_mut().for_each(|held| held.part.lost = true);
            }
            if done { Ok(()) } else { Err(Fail::Lost) }
        };
        let scratch = std::mem::take(&mut self.scratch);
        let shared = (&*self.positions, &self.effects);
        let mut view = View::new(store, &mut self.pending, &mut commit, scratch, shared, now_ms);
        let mut writer = Writer::new(out, version);
        let answered = handler(&mut view, args, &mut writer);
        let waits = matches!(answered, Err(Fail::Wait(_)));
        let half_done = answered.is_err() && !waits && view.wrote();
        if answered.is_ok() && view.wrote() {
            self.effects.counts.change();
        }
        self.scratch = view.into_scratch();
        if call.tracks && self.effects.has_read() {
            let indices = call.spec.keys.indices(args);
            indices.for_each(|index| self.effects.remember(args.key(index)));
        }
        if half_done {
            // An error in the middle of a write: nothing of this batch may reach the log.
            if let Err(fail) = &answered {
                tracing::error!("a command failed half-way: {}; its batch is dropped", fail.line());
            }
            self.pending.clear(Became::Nothing, store.generation());
            self.held.iter_mut().for_each(|held| held.part.lost = true);
            return Err(Fail::Lost);
        }
        answered
    }

    pub(super) fn admit(&mut self, slot: Slot, call: &Call) -> Result<(), Fail> {
        if call.spec.flags.has(Flags::WRITE) {
            self.pending.admit(self.authority.admit_write(slot)?);
        } else {
            self.authority.admit_read(slot, call.readonly)?;
        }
        Ok(())
    }

    /// Commands without keys see every slot of the node.
    pub(super) fn admit_whole(&mut self, call: &Call) -> Result<(), Fail> {
        if !call.spec.flags.has(Flags::WRITE) {
            return Ok(self.authority.admit_scan(call.readonly)?);
        }
        let owned = (0..SLOTS).filter_map(Slot::new).find(|&slot| self.authority.owns(slot));
        self.admit(owned.unwrap_or(Slot::of_key(b"")), call)
    }

    /// Drops what was written since the mark; what was before it goes to the log.
    pub(super) fn undo(&mut self, store: &Store, before: Mark) -> Result<(), Fail> {
        self.pending.cut_to(before);
        if self.commit(Some(store)) { Ok(()) } else { Err(Fail::Lost) }
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

    /// Commits what is pending. False: the outcome is unknown, and so it is for all that waits.
    pub(super) fn commit(&mut self, store: Option<&Store>) -> bool {
        let done = self.try_commit(store, Store::commit) == Outcome::Done;
        if !done {
            self.effects.forget();
            self.scripts.doubt();
            self.held.iter_mut().for_each(|held| held.part.lost = true);
        }
        done
    }

    fn try_commit(&mut self, store: Option<&Store>, write: Write) -> Outcome {
        let empty = self.pending.is_empty();
        let mut outcome = store.map_or(Outcome::Done, |store| {
            commit(store, &self.authority, &mut self.pending, write)
        });
        if outcome == Outcome::Stalled {
            self.stalled.stall();
            outcome = Outcome::Refused;
        }
        self.committed |= !empty && outcome == Outcome::Done;
        self.ended = None;
        outcome
    }

    /// Runs what is held once more after its batch was refused: nothing of it was written, so the
    /// writes meet the refusal that they would have met a moment later, and reads that saw those
    /// writes read again. False: that is not possible.
    fn run_again(&mut self, store: Option<&Store>) -> bool {
        if !self.can_run_again() {
            return false;
        }
        self.again = true;
        self.held_bytes = 0;
        self.effects.forget();
        let mut kept = Vec::new();
        for held in std::mem::take(&mut self.held) {
            let before = kept.iter().any(|kept: &Arc<Request>| kept.is_of_same(&held.request));
            if before || self.stalled.holds(&held.request, false) {
                kept.push(held.request);
            } else {
                self.run_request(store, &held.request);
            }
        }
        self.stalled.push_first(kept);
        self.commit(store);
        self.again = false;
        true
    }

    fn can_run_again(&self) -> bool {
        let once =
            |held: &Held| !held.part.lost && held.aside.is_none() && !held.request.is_gated();
        !self.again && !self.committed && self.held.iter().all(once)
    }

    /// Commits, then lets the answers go.
    fn finish(&mut self, store: Option<&Store>) {
        let pace = if self.can_run_again() { Store::try_commit } else { Store::commit };
        match self.try_commit(store, pace) {
            Outcome::Refused if self.run_again(store) => {}
            Outcome::Done => {}
            Outcome::Refused | Outcome::Stalled | Outcome::Unknown => {
                self.effects.forget();
                self.scripts.doubt();
                self.held.iter_mut().for_each(|held| held.part.lost = true);
            }
        }
        // Before the answers: whoever has one finds the others told.
        self.effects.tell();
        self.committed = false;
        self.held_bytes = 0;
        // One delivery for each I/O thread: its thread is woken once.
        self.held.sort_by_key(|held| held.request.outbox.index());
        let mut parts = Vec::new();
        let mut held = self.held.drain(..).peekable();
        while let Some(Held { request, part, aside }) = held.next() {
            let outbox = &request.outbox;
            match aside {
                Some(aside) => aside.release(outbox.clone(), part),
                None => parts.push(part),
            }
            if held.peek().is_none_or(|next| next.request.outbox.index() != outbox.index()) {
                outbox.deliver(&mut parts);
            }
        }
    }
}

/// Commits a batch and asks again whether it may be answered.
fn commit(store: &Store, authority: &Authority, pending: &mut Pending, write: Write) -> Outcome {
    let generation = store.generation();
    if pending.is_empty() {
        pending.clear(Became::Nothing, generation);
        return Outcome::Done;
    }
    let (batch, permits) = pending.take();
    let outcome = commit_batch(store, authority, batch, &permits, write);
    let became = match outcome {
        Outcome::Done => Became::All,
        Outcome::Refused | Outcome::Stalled => Became::Nothing,
        Outcome::Unknown => Became::Unknown,
    };
    pending.clear(became, generation);
    outcome
}

fn commit_batch(
    store: &Store,
    authority: &Authority,
    batch: WriteBatch,
    permits: &[Permit],
    write: Write,
) -> Outcome {
    if ops::failpoint::hit("batch-refused") {
        return Outcome::Refused;
    }
    match write(store, batch, Kind::Data) {
        Ok(_) if permits.iter().all(|permit| authority.still_holds(permit)) => Outcome::Done,
        Ok(_) => Outcome::Unknown,
        // The mode changes before the log is closed, so the next look at it is a refusal.
        Err(CommitError::Closed | CommitError::Latched) => Outcome::Refused,
        Err(CommitError::Stalled) => Outcome::Stalled,
        Err(error) => {
            tracing::error!("a batch of writes has no known outcome: {error}");
            Outcome::Unknown
        }
    }
}

/// Whether a command may write: scripts are known to only as they run.
pub(super) fn may_write(spec: &Spec) -> bool {
    let runs = matches!(
        spec.handler,
        Handler::Script(Scripted::Eval | Scripted::EvalSha | Scripted::Call)
    );
    spec.flags.has(Flags::WRITE) || runs && !spec.flags.has(Flags::READONLY)
}

/// Whether a command sees every slot of the node.
pub(super) fn is_of_node(call: &Call) -> bool {
    let scripted = matches!(call.spec.handler, Handler::Script(_));
    call.slot.is_none() && call.spec.keys.is_none() && !scripted
}

pub(super) const TOO_GREAT: &str = "ERR this write is more than 640 MiB in the log, which is what a batch may be; nothing of it was written: write less at once";
const LOADING: &str = "LOADING this node is taking over another copy of the data; try again soon";
pub(super) const STICKY: &str =
    "READONLY an earlier write of this connection was refused; this one did not run";
