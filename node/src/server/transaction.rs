//! MULTI, EXEC, DISCARD, WATCH, UNWATCH on the connection's side: commands are kept until EXEC,
//! which hands them to the workers as one.

use std::sync::Arc;

use resp::reply::Writer;

use super::access;
use super::monitor;
use super::scripting;
use super::session::Session;
use super::tracking;
use crate::command::{Args, Fail, Flags, Handler, Spec};
use crate::stats;
use crate::worker::{Call, Key, Request, RunBy, Transaction, Watch, WorkerSet};

/// What a transaction's commands may come to, in bytes: about what one batch may be.
const QUEUED_BYTES_MAX: usize = 512 << 20;
/// The most commands of a transaction.
const QUEUED_CALLS_MAX: usize = 1 << 20;

/// The commands since MULTI.
#[derive(Default)]
pub(super) struct Queued {
    bytes: Vec<u8>,
    args: Vec<std::ops::Range<usize>>,
    calls: Vec<Call>,
    /// One of them could not be queued: EXEC will refuse.
    pub(super) aborted: bool,
}

impl Queued {
    /// Whether one of its commands is such.
    pub(super) fn any(&self, is: impl Fn(&Spec, &Args<'_>) -> bool) -> bool {
        let args = |call: &Call| Args::new(&self.bytes, &self.args[call.args.clone()]);
        self.calls.iter().any(|call| is(call.spec, &args(call)))
    }

    /// How many commands it has.
    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }
}

/// What answers a command that was queued; it is in no table.
pub(super) static QUEUED: Spec = Spec::session("", "", 0, Flags::LOADING, |session, _, out| {
    Writer::new(out, session.version).simple("QUEUED");
    Ok(())
});

/// What answers WATCH inside MULTI: an error that does not end the transaction.
pub(super) static NO_WATCH: Spec = Spec::session("", "", 0, Flags::LOADING, |_, _, _| {
    Err(Fail::text("ERR WATCH inside MULTI is not allowed"))
});

pub(super) fn multi(session: &mut Session, _: &Args<'_>, out: &mut Vec<u8>) -> Result<(), Fail> {
    if session.queued.is_some() {
        return Err(Fail::text("ERR MULTI calls can not be nested"));
    }
    session.queued = Some(Box::default());
    session.show_queued();
    Writer::new(out, session.version).simple("OK");
    Ok(())
}

pub(super) fn discard(session: &mut Session, _: &Args<'_>, out: &mut Vec<u8>) -> Result<(), Fail> {
    if session.queued.take().is_none() {
        return Err(Fail::text("ERR DISCARD without MULTI"));
    }
    session.show_queued();
    session.watch = None;
    Writer::new(out, session.version).simple("OK");
    Ok(())
}

pub(super) fn unwatch(session: &mut Session, _: &Args<'_>, out: &mut Vec<u8>) -> Result<(), Fail> {
    // Inside of a transaction its watch has been taken already.
    session.watch = None;
    Writer::new(out, session.version).simple("OK");
    Ok(())
}

/// Whether a command is kept for EXEC, if MULTI was said. Those that are not are not queued by
/// Redis either.
fn is_queued(spec: &Spec) -> bool {
    !matches!(spec.name, "exec" | "discard" | "multi" | "watch" | "quit" | "reset")
}

/// Keeps a command for EXEC. `None`: there was no MULTI, or it is to run now.
pub(super) fn queue(
    session: &mut Session,
    spec: &'static Spec,
    args: &Args<'_>,
) -> Result<Option<&'static Spec>, Fail> {
    if session.queued.is_none() {
        return Ok(None);
    }
    if let Handler::Watch = spec.handler {
        return Ok(Some(&NO_WATCH));
    }
    if !is_queued(spec) {
        return Ok(None);
    }
    if spec.flags.has(Flags::NO_MULTI) {
        return Err(Fail::text("ERR Command not allowed inside a transaction"));
    }
    let slot = admit(session, spec, args)?;
    let (version, readonly) = (session.version, session.readonly);
    let tracks = tracking::remembers(session, spec);
    let Some(queued) = &mut session.queued else { return Ok(None) };
    let size = args.from(0).map(<[u8]>::len).sum::<usize>();
    let fits =
        queued.bytes.len() + size <= QUEUED_BYTES_MAX && queued.calls.len() < QUEUED_CALLS_MAX;
    if queued.aborted {
        // It will not run: nothing of it needs to be kept.
        return Ok(Some(&QUEUED));
    }
    if !fits {
        return Err(Fail::text(
            "ERR this transaction is more than 512 MiB or 1048576 commands; none of it will run: DISCARD it, and write less at once",
        ));
    }
    let first = queued.args.len();
    for arg in args.from(0) {
        let from = queued.bytes.len();
        queued.bytes.extend_from_slice(arg);
        queued.args.push(from..queued.bytes.len());
    }
    let args = first..queued.args.len();
    let by = RunBy::Io;
    let (hold, silent) = (0, false);
    queued.calls.push(Call { spec, args, slot, by, version, readonly, hold, silent, tracks });
    session.show_queued();
    Ok(Some(&QUEUED))
}

/// Refuses early what would be refused at EXEC. Answers the slot of the first key.
fn admit(session: &Session, spec: &Spec, args: &Args<'_>) -> Result<Option<keyspace::Slot>, Fail> {
    let authority = &session.shared.authority;
    let one_slot = session.is_of_one_slot();
    let mut first = None;
    for slot in spec.slots(args, None) {
        if one_slot && first.is_some_and(|first| first != slot) {
            return Err(Fail::text(CROSSSLOT));
        }
        if spec.flags.has(Flags::WRITE) {
            let _permit = authority.admit_write(slot)?;
        } else {
            authority.admit_read(slot, session.readonly)?;
        }
        first.get_or_insert(slot);
    }
    Ok(first)
}

/// EXEC: who runs it. It is the next of the request's commands.
pub(super) fn exec(session: &mut Session, request: &mut Request) -> Result<RunBy, Fail> {
    let Some(queued) = session.queued.take() else {
        return Err(Fail::text("ERR EXEC without MULTI"));
    };
    session.show_queued();
    let watching = session.watch.take();
    if queued.aborted {
        return Err(Fail::text("EXECABORT Transaction discarded because of previous errors."));
    }
    let Queued { mut bytes, mut args, mut calls, .. } = *queued;
    refuse_what_changed(session, (&mut bytes, &mut args), &mut calls);
    if session.shared.monitors.watch() {
        for call in &calls {
            monitor::show(session, call.spec, &Args::new(&bytes, &args[call.args.clone()]));
        }
    }
    let (watch, involved) = watching.unzip();
    let mut involved = involved.unwrap_or_default();
    let transaction = Transaction { index: request.calls.len(), bytes, args, calls, watch };
    let workers = &session.shared.workers;
    let one_slot = session.is_of_one_slot();
    let mut first = None;
    for call in transaction.calls.iter() {
        if call.spec.runs_in_place() {
            continue;
        }
        if call.spec.is_of_io() {
            request.late = true;
            // What it does to the connection is done before the next command is read.
            session.barrier |= !matches!(call.spec.handler, Handler::Late(_));
            session.barrier |= call.spec.flags.has(Flags::SUBSCRIBES);
            continue;
        }
        let args = transaction.args_of(call);
        let needs_all = scripting::needs_all(&session.shared, call.spec, &args);
        if needs_all || call.spec.sees_all(&args) {
            involved = workers.all();
        }
        for slot in call.spec.slots(&args, call.slot) {
            involved.insert(workers.of(slot));
            if one_slot && *first.get_or_insert(slot) != slot {
                return Err(Fail::text(CROSSSLOT));
            }
        }
    }
    request.transactions.push(transaction);
    Ok(match involved.len() {
        0 => request.assign(0),
        1 => request.assign(involved.lowest()),
        _ => request.gate(involved),
    })
}

/// Puts an error in place of commands that the user may not run any more: the others still run.
fn refuse_what_changed(
    session: &Session,
    (bytes, args): (&mut Vec<u8>, &mut Vec<std::ops::Range<usize>>),
    calls: &mut [Call],
) {
    if session.account.may_everything() {
        return;
    }
    for call in calls {
        let words = Args::new(bytes, &args[call.args.clone()]);
        let Some(error) = access::check_queued(session, call.spec, &words) else { continue };
        stats::commands::rejected(call.spec);
        let (first, from) = (args.len(), bytes.len());
        bytes.extend_from_slice(error.as_bytes());
        args.push(from..bytes.len());
        (call.spec, call.args, call.slot) = (&DENIED, first..first + 1, None);
    }
}

/// What answers a command of a transaction that may not run any more: with the error that is its
/// only argument. It is in no table.
static DENIED: Spec = Spec::session("", "", 0, Flags::LOADING, |_, args, _| {
    Err(Fail::text(String::from_utf8_lossy(args.at(0)).into_owned()))
});

/// WATCH: who adds the keys. It is the next of the request's commands.
pub(super) fn watch(
    session: &mut Session,
    request: &mut Request,
    args: &Args<'_>,
) -> Result<RunBy, Fail> {
    let shared = session.shared.clone();
    let one_slot = session.is_of_one_slot();
    let slots = || args.from(1).map(|name| Key::new(name).slot);
    if one_slot && slots().any(|slot| Some(slot) != slots().next()) {
        return Err(Fail::text(CROSSSLOT));
    }
    let nothing = || (Arc::new(Watch::new(shared.workers.watches())), WorkerSet::default());
    let (watch, all) = session.watch.get_or_insert_with(nothing);
    let watch = watch.clone();
    let (index, bytes, ranges, calls) = (request.calls.len(), Vec::new(), Vec::new(), Vec::new());
    request.transactions.push(Transaction {
        index,
        bytes,
        args: ranges,
        calls,
        watch: Some(watch),
    });
    let mut involved = WorkerSet::default();
    for slot in slots() {
        involved.insert(shared.workers.of(slot));
        // The workers add the keys later: EXEC may be read before that.
        all.insert(shared.workers.of(slot));
    }
    Ok(match involved.len() {
        1 => request.assign(involved.lowest()),
        _ => request.gate(involved),
    })
}

pub(super) const CROSSSLOT: &str = "CROSSSLOT Keys in request don't hash to the same slot";
