//! CLIENT PAUSE: commands of clients wait, all or those that write, until a time. And so do those
//! that would have several workers stand still for a write that RocksDB holds up.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use resp::reply::Writer;
use tokio::sync::Notify;

use super::session::{Session, Shared};
use crate::command::{Args, Fail, Flags, Handler, Keys, Spec};
use crate::script::{ScriptFlags, Sha};
use crate::store::Current;

/// How often it is looked whether RocksDB takes writes again.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Whether commands wait now.
#[derive(Default)]
pub(super) struct Pause {
    /// Unix milliseconds; 0: nothing waits, and a command costs one look at this.
    until_ms: AtomicU64,
    state: Mutex<State>,
    changed: Notify,
    /// Connections whose next command waits.
    waiting: AtomicUsize,
}

#[derive(Clone, Copy, Default)]
struct State {
    until_ms: u64,
    all: bool,
}

impl Pause {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is a pause now.
    pub(super) fn is_on(&self) -> bool {
        let until_ms = self.until_ms.load(Ordering::Relaxed);
        if until_ms == 0 || ops::clock::unix_ms() < until_ms {
            return until_ms > 0;
        }
        // One that is over costs no more looks at the clock, unless another has begun meanwhile.
        let (set, seen) = (Ordering::Relaxed, Ordering::Relaxed);
        let _ = self.until_ms.compare_exchange(until_ms, 0, set, seen);
        false
    }

    /// How many connections wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Until nothing is in the way of commands that wait: no pause, and no stall of this database.
    pub(super) async fn ended(&self, store: &Current) {
        self.is_over().await;
        while store.load().is_some_and(|store| store.is_stopped()) {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    async fn is_over(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let left = self.until_ms.load(Ordering::Relaxed).saturating_sub(ops::clock::unix_ms());
            if left == 0 {
                return;
            }
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep(Duration::from_millis(left)) => {}
            }
        }
    }
}

/// Whether a command has to wait: the next of its request.
pub(super) fn holds(session: &Session, spec: &Spec, args: &Args<'_>) -> bool {
    let pause = &session.shared.pause;
    // What is no command at all is answered at once.
    if !spec.accepts(args.len()) {
        return false;
    }
    if !pause.is_on() {
        return is_stalled(session, spec, args);
    }
    writes(session, spec, args) || pause.state().all
}

/// Whether several workers would stand still until RocksDB takes writes again. A write of one worker
/// waits beside it, and that worker reads on.
fn is_stalled(session: &Session, spec: &Spec, args: &Args<'_>) -> bool {
    let is_own = matches!(spec.handler, Handler::Session(_) | Handler::Late(_));
    // What most commands are.
    let is_read_or_small = spec.flags.has(Flags::READONLY) || spec.keys == Keys::ONE;
    if is_read_or_small || is_own || session.queued.is_some() && !is_exec(spec) {
        return false;
    }
    let stopped = || session.shared.store.load().is_some_and(|store| store.is_stopped());
    writes(session, spec, args) && stopped()
}

fn is_exec(spec: &Spec) -> bool {
    matches!(spec.handler, Handler::Exec)
}

fn writes(session: &Session, spec: &Spec, args: &Args<'_>) -> bool {
    match &session.queued {
        // EXEC is what its commands are.
        Some(queued) if is_exec(spec) => {
            queued.any(|spec, args| may_write(&session.shared, spec, args))
        }
        _ => may_write(&session.shared, spec, args),
    }
}

/// Changes data, or what other clients see. Scripts do unless they say that they do not.
fn may_write(shared: &Shared, spec: &Spec, args: &Args<'_>) -> bool {
    let scripting = shared.workers.scripting();
    let reads =
        |flags: Option<ScriptFlags>| flags.is_some_and(|flags| flags.has(ScriptFlags::NO_WRITES));
    match spec.name {
        "eval" => {
            let first = args.at(1).split(|&byte| byte == b'\n').next().unwrap_or_default();
            !(first.starts_with(b"#!") && first.windows(9).any(|word| word == b"no-writes"))
        }
        "evalsha" => {
            let script = Sha::parse(args.at(1)).and_then(|sha| scripting.scripts.get(sha));
            !reads(script.and_then(|script| script.flags))
        }
        "fcall" => {
            let (libraries, name) =
                (scripting.libraries.now(), String::from_utf8_lossy(args.at(1)));
            let function = libraries.with_function(&name).and_then(|found| found.function(&name));
            !reads(function.map(|function| function.flags))
        }
        "publish" | "spublish" | "pfcount" => true,
        _ => spec.flags.has(Flags::WRITE),
    }
}

/// A connection's next command waits.
pub(super) fn postpone(session: &mut Session) {
    if !session.postponed {
        session.postponed = true;
        session.shared.pause.waiting.fetch_add(1, Ordering::Relaxed);
    }
}

/// It waits no more.
pub(super) fn go_on(session: &mut Session) {
    if session.postponed {
        session.postponed = false;
        session.shared.pause.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) fn pause(session: &mut Session, args: &Args<'_>, out: &mut Vec<u8>) -> Result<(), Fail> {
    let all = match args.len() {
        3 => true,
        _ if args.is(3, "all") => true,
        _ if args.is(3, "write") => false,
        _ => return Err(Fail::text("ERR CLIENT PAUSE mode must be WRITE or ALL")),
    };
    let bad = || Fail::text("ERR timeout is not an integer or out of range");
    let timeout = args.integer(2).map_err(|_| bad())?;
    let timeout = u64::try_from(timeout).map_err(|_| Fail::text("ERR timeout is negative"))?;
    let until_ms = ops::clock::unix_ms().saturating_add(timeout);
    let pause = &session.shared.pause;
    let mut state = pause.state();
    // As Redis: a pause is never made shorter or weaker, only ended.
    let on = pause.is_on();
    *state = State {
        until_ms: if on { state.until_ms.max(until_ms) } else { until_ms },
        all: all || on && state.all,
    };
    publish(&session.shared, *state);
    drop(state);
    Writer::new(out, session.version).simple("OK");
    Ok(())
}

pub(super) fn unpause(session: &Session, out: &mut Vec<u8>) {
    let mut state = session.shared.pause.state();
    *state = State::default();
    publish(&session.shared, *state);
    drop(state);
    Writer::new(out, session.version).simple("OK");
}

fn publish(shared: &Shared, state: State) {
    shared.pause.until_ms.store(state.until_ms, Ordering::Relaxed);
    shared.workers.listeners().keep_still(state.until_ms);
    shared.pause.changed.notify_waiters();
}
