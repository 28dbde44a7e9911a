//! Runs a transaction: all of it is admitted, then all of it runs, and all that it writes is in
//! one batch, which is never cut inside it.

use std::time::Instant;

use resp::reply::Writer;

use super::admission::{STICKY, is_of_node, may_write};
use super::call::TOO_GREAT;
use super::request::{Call, Hole, Part, Request, Transaction};
use super::run::Worker;
use super::view::{Key, View};
use super::watch::{Under, Watch};
use crate::command::{Args, Fail};
use crate::control::Refusal;
use crate::store::Store;

impl Worker {
    /// WATCH, and what its call carries.
    pub(super) fn watch(
        &mut self,
        store: &Store,
        watch: Option<&Watch>,
        args: &Args<'_>,
        out: &mut Writer<'_>,
    ) -> Result<(), Fail> {
        let watch = watch.ok_or(Fail::Syntax)?;
        let now_ms = store.now_ms();
        for name in args.from(1) {
            let key = Key::new(name);
            let under = self.under(store, key);
            let scratch = std::mem::take(&mut self.scratch);
            let mut never = |_: &mut _| Ok(());
            let shared = (&*self.positions, &self.effects);
            let mut view = View::new(store, &mut self.pending, &mut never, scratch, shared, now_ms);
            let entry = view.entry(key);
            self.scratch = view.into_scratch();
            if !watch.add(key, entry?.map(|entry| entry.expire_ms), under) {
                return Err(Fail::text(WATCHES_TOO_MANY));
            }
        }
        out.simple("OK");
        Ok(())
    }

    fn under(&self, store: &Store, key: Key<'_>) -> Under {
        Under::new(self.authority.admit_write(key.slot).ok(), store.position())
    }

    /// EXEC: a refusal proves that nothing of the transaction ran.
    pub(super) fn exec(
        &mut self,
        store: &Store,
        request: &Request,
        (index, call): (usize, &Call),
        part: &mut Part,
    ) -> Result<(), Fail> {
        let found = request.transactions.iter().position(|transaction| transaction.index == index);
        let Some(number) = found else { return Err(Fail::Syntax) };
        let transaction = &request.transactions[number];
        let writes = transaction.calls.iter().any(|call| may_write(call.spec));
        if writes && request.sticky.is_refused(call.hold) {
            return Err(aborted(STICKY));
        }
        if writes && let Some(hindrance) = store.hindrance() {
            return Err(aborted(&Refusal::from(hindrance).to_string()));
        }
        // So that no command of the transaction has to commit before it can iterate.
        if self.pending.misleads() && !self.commit(Some(store)) {
            return Err(Fail::Lost);
        }
        if let Err(refusal) = self.admit_all(transaction) {
            if writes {
                request.sticky.refuse(call.hold);
            }
            return Err(match refusal {
                Fail::Refused(refusal @ Refusal::Moved { .. }) => Fail::Refused(refusal),
                other => aborted(&other.line()),
            });
        }
        let now_ms = store.now_ms();
        if let Some(watch) = &transaction.watch {
            let key = watch.first().unwrap_or_default();
            if !watch.holds(self.under(store, Key::new(&key)), now_ms) {
                Writer::new(&mut part.bytes, call.version).null_array();
                return Ok(());
            }
        }
        let (before, holes) = (self.pending.mark(), part.holes.len());
        let (start, told) = (part.bytes.len(), self.effects.mark());
        self.pending.begin_whole();
        let ran = self.run_all(store, (request, number), call, part, now_ms);
        self.pending.end_whole();
        let ran = match ran {
            Err(Fail::NeedsAll) => {
                part.holes.truncate(holes);
                part.bytes.truncate(start);
                self.effects.cut_to(told);
                self.undo(store, before)?;
                return self
                    .alone(store, |worker| worker.exec(store, request, (index, call), part));
            }
            Err(fail) => {
                // Whoever was lost half-way leaves nothing behind.
                part.holes.truncate(holes);
                self.effects.cut_to(told);
                self.undo(store, before)?;
                return Err(fail);
            }
            ran => ran,
        };
        if self.pending.is_too_great() {
            part.holes.truncate(holes);
            self.pending.cut_to(before);
            self.effects.cut_to(told);
            return Err(if self.commit(Some(store)) { aborted(TOO_GREAT) } else { Fail::Lost });
        }
        ran
    }

    fn admit_all(&mut self, transaction: &Transaction) -> Result<(), Fail> {
        for call in transaction.calls.iter().filter(|call| !call.spec.is_of_io()) {
            let args = transaction.args_of(call);
            for slot in call.spec.slots(&args, call.slot) {
                self.admit(slot, call)?;
            }
            if is_of_node(call) {
                self.admit_whole(call)?;
            }
        }
        Ok(())
    }

    fn run_all(
        &mut self,
        store: &Store,
        (request, number): (&Request, usize),
        exec: &Call,
        part: &mut Part,
        now_ms: u64,
    ) -> Result<(), Fail> {
        let transaction = &request.transactions[number];
        Writer::new(&mut part.bytes, exec.version).array(transaction.calls.len());
        for (index, call) in transaction.calls.iter().enumerate() {
            let in_place = call.spec.runs_in_place();
            if call.spec.is_of_io() && !in_place {
                part.holes.push(Hole { at: part.bytes.len(), transaction: number, call: index });
                continue;
            }
            let start = part.bytes.len();
            let args = transaction.args_of(call);
            let began = Instant::now();
            let ran = match in_place {
                true => self.ask_host(call.spec, &args, exec.version, &mut part.bytes),
                false => {
                    self.run_handler(store, call, &args, &mut part.bytes, exec.version, now_ms)
                }
            };
            request.count(call.spec, &args, began.elapsed(), &ran);
            match ran {
                Ok(()) => {}
                Err(fail @ (Fail::Lost | Fail::NeedsAll)) => return Err(fail),
                Err(fail) => {
                    part.bytes.truncate(start);
                    Writer::new(&mut part.bytes, exec.version).error(&fail.line());
                }
            }
            // The rest would run without what the batch had no room for.
            if self.pending.is_too_great() {
                break;
            }
        }
        Ok(())
    }
}

/// Why a transaction did not run, as Redis says it.
fn aborted(why: &str) -> Fail {
    Fail::text(format!("EXECABORT Transaction discarded because of: {why}"))
}

const WATCHES_TOO_MANY: &str =
    "ERR a connection may watch 65536 keys: EXEC, DISCARD or UNWATCH lets go of them";
