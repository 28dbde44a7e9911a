//! A worker runs a request: its own calls one after the other, those of several workers at gates.

use std::sync::Arc;
use std::time::Instant;

use keyspace::Cf;
use resp::Version;
use resp::reply::Writer;

use super::admission::may_write;
use super::answers::{ANSWER_BYTES_MAX, Held};
use super::aside::{Aside, Glance};
use super::commit::{self, Outcome};
use super::gate::WorkerSet;
use super::pending::{Became, Pending};
use super::request::{Call, Part, Request, RunBy};
use super::run::Worker;
use super::view::View;
use crate::command::{Args, Fail, Flags, Handler};
use crate::store::Store;

impl Worker {
    /// Runs those commands of a request that are this worker's, and keeps their answers.
    pub(super) fn run_request(&mut self, store: Option<&Store>, request: &Arc<Request>) {
        let mut part = self.answers.part(request, self.index);
        let mut aside = None;
        let mut waits = false;
        self.begin_request(request);
        for (index, call) in request.calls.iter().enumerate() {
            match call.by {
                RunBy::Worker(worker) if worker == self.index => {
                    self.within = WorkerSet::only(worker);
                    // One with commands of several workers is not kept.
                    if request.is_gated() {
                        self.catch_up(store, request, &mut part);
                    }
                    self.run_call(store, request, (index, call), &mut part);
                    waits |= self.settle(store, request, WorkerSet::only(worker), &mut part);
                }
                RunBy::Gate(gate) if request.gates[gate as usize].workers.contains(self.index) => {
                    let gate = &request.gates[gate as usize];
                    self.come_to_gate(store, request, &mut part);
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
        if self.answers.are_many() {
            self.finish(store);
        }
    }

    /// From here on the commands of this request run.
    pub(super) fn begin_request(&mut self, request: &Arc<Request>) {
        self.effects.refresh();
        self.connection = request.connection;
        self.scripts.request = request.user.is_some().then(|| request.clone());
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

    /// Runs one command, and puts its answer behind those of the others.
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
        self.admit_call(store, request, call, &args)?;
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
        let answers = &mut self.answers;
        let mut commit = |pending: &mut Pending| {
            let done = commit::commit(store, authority, pending, Store::commit) == Outcome::Done;
            answers.committed |= done;
            if !done {
                answers.lose();
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
            self.answers.lose();
            return Err(Fail::Lost);
        }
        answered
    }
}

pub(super) const TOO_GREAT: &str = "ERR this write is more than 640 MiB in the log, which is what a batch may be; nothing of it was written: write less at once";
const LOADING: &str = "LOADING this node is taking over another copy of the data; try again soon";
