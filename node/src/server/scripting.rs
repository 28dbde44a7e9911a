//! Scripts as connections see them: who runs one, what is refused while one is slow, how it is
//! killed, and the commands of a script that are about connections.

use std::cell::RefCell;
use std::sync::{Arc, Weak};

use resp::Version;
use resp::reply::Writer;

use super::broker;
use super::monitor;
use super::session::{Session, Shared};
use crate::command::{Args, Fail, Flags, Handler, Scripted, Spec};
use crate::script::{Host, Kind, Sha, Slow};
use crate::worker::engines;

const G: &str = "scripting";
const K: Flags = Flags::NO_SCRIPT.and(Flags::ALLOW_BUSY);

/// SCRIPT KILL, which does not wait for the script; in no table.
static SCRIPT_KILL: Spec =
    Spec::session(G, "script", -2, K, |session, args, out| kill(session, Kind::Eval, args, out));

/// FUNCTION KILL.
static FUNCTION_KILL: Spec = Spec::session(G, "function", -2, K, |session, args, out| {
    kill(session, Kind::Function, args, out)
});

/// FUNCTION STATS while a function is slow.
static FUNCTION_STATS: Spec = Spec::session(G, "function", -2, K, stats);

/// What runs in a command's stead: some subcommands do not wait for workers.
pub(super) fn redirect(session: &Session, spec: &'static Spec, args: &Args<'_>) -> &'static Spec {
    let Handler::Script(scripted) = spec.handler else { return spec };
    let is_busy = || session.shared.workers.scripting().running.slow().is_some();
    match scripted {
        Scripted::Scripts if args.is(1, "kill") => &SCRIPT_KILL,
        Scripted::Functions if args.is(1, "kill") => &FUNCTION_KILL,
        Scripted::Functions if args.is(1, "stats") && is_busy() => &FUNCTION_STATS,
        _ => spec,
    }
}

/// Commands that are run while a script is slow, beside those whose flags say it.
const ALLOWED_WHILE_BUSY: &[&str] = &["auth", "hello", "quit", "replconf", "reset", "shutdown"];

/// Refuses what has to wait for a slow script.
pub(super) fn check_busy(session: &mut Session, spec: &Spec) -> Result<(), Fail> {
    let Some(slow) = session.shared.workers.scripting().running.slow() else { return Ok(()) };
    let busy = slow.kind.busy();
    if spec.name == "exec" && session.queued.take().is_some() {
        session.watch = None;
        return Err(Fail::text(format!("EXECABORT Transaction discarded because of: {busy}")));
    }
    if spec.flags.has(Flags::ALLOW_BUSY) || ALLOWED_WHILE_BUSY.contains(&spec.name) {
        return Ok(());
    }
    Err(Fail::text(busy))
}

/// SHUTDOWN while a script is slow: only without saving, as in Redis.
pub(super) fn check_shutdown(session: &Session, args: &Args<'_>) -> Result<(), Fail> {
    let nosave = args.from(1).any(|arg| arg.eq_ignore_ascii_case(b"nosave"));
    match session.shared.workers.scripting().running.slow() {
        Some(slow) if !nosave => Err(Fail::text(slow.kind.busy())),
        _ => Ok(()),
    }
}

/// Whether all workers have to wait for a script: it names no keys, or is known to touch others.
pub(super) fn needs_all(shared: &Shared, spec: &Spec, args: &Args<'_>) -> bool {
    let Handler::Script(scripted) = spec.handler else { return false };
    if spec.keys.indices(args).next().is_none() {
        return true;
    }
    let scripting = shared.workers.scripting();
    let (scripts, name) = (&scripting.scripts, args.at(1));
    match scripted {
        Scripted::Scripts | Scripted::Functions => true,
        Scripted::Eval => scripts.needs_all(|| Some(Sha::of(name))),
        Scripted::EvalSha => scripts.needs_all(|| Sha::parse(name)),
        Scripted::Call => scripting.libraries.needs_all(&String::from_utf8_lossy(name)),
    }
}

fn kill(session: &mut Session, kind: Kind, args: &Args<'_>, out: &mut Vec<u8>) -> Result<(), Fail> {
    if args.len() != 2 {
        let name = if kind == Kind::Eval { "script" } else { "function" };
        return Err(Fail::text(format!("ERR wrong number of arguments for '{name}|kill' command")));
    }
    session.shared.workers.scripting().running.kill(kind).map_err(Fail::text)?;
    Writer::new(out, session.version).simple("OK");
    Ok(())
}

fn stats(session: &mut Session, _: &Args<'_>, out: &mut Vec<u8>) -> Result<(), Fail> {
    let scripting = session.shared.workers.scripting().clone();
    let mut out = Writer::new(out, session.version);
    let slow = scripting.running.slow();
    if let Some(slow) = slow.as_ref().filter(|slow| slow.kind == Kind::Eval) {
        return Err(Fail::text(slow.kind.busy()));
    }
    out.map(2);
    out.bulk(b"running_script");
    match slow {
        None => out.null(),
        Some(Slow { name, command, since, .. }) => {
            out.map(3);
            out.bulk(b"name");
            out.bulk(name.as_bytes());
            out.bulk(b"command");
            out.array(command.len());
            command.iter().for_each(|arg| out.bulk(arg));
            out.bulk(b"duration_ms");
            out.integer(i64::try_from(since.elapsed().as_millis()).unwrap_or(i64::MAX));
        }
    }
    engines(&scripting.libraries.now(), &mut out);
    Ok(())
}

/// Answers a script's commands about connections with a session that nobody is connected to.
pub(super) struct SessionHost(pub(super) Weak<Shared>);

thread_local! {
    /// A worker's own: it is no client, so it is in no list.
    static SESSION: RefCell<Option<Session>> = const { RefCell::new(None) };
}

impl Host for SessionHost {
    fn answer(
        &self,
        spec: &'static Spec,
        args: &Args<'_>,
        version: Version,
        _connection: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), Fail> {
        let (Handler::Session(handler) | Handler::Late(handler)) = spec.handler else {
            return Err(Fail::Syntax);
        };
        let shared = self.0.upgrade().ok_or(Fail::Text("ERR this node is ending".into()))?;
        SESSION.with(|slot| {
            let mut slot = slot.borrow_mut();
            let session = slot.get_or_insert_with(|| Session::of_script(shared));
            session.version = version;
            handler(session, args, out)
        })
    }

    fn audience(&self, sharded: bool, channel: &[u8]) -> i64 {
        let kind = if sharded { broker::Kind::Sharded } else { broker::Kind::Channel };
        self.0.upgrade().map_or(0, |shared| shared.broker.audience(kind, channel))
    }

    fn show(&self, spec: &Spec, args: &Args<'_>) {
        if let Some(shared) = self.0.upgrade() {
            monitor::show_as(&shared, "lua", spec, args);
        }
    }
}

/// Hands scripts their host.
pub(super) fn serve(shared: &Arc<Shared>) {
    let host = Arc::new(SessionHost(Arc::downgrade(shared)));
    // A second server of the same workers would answer alike.
    let _ = shared.workers.scripting().host.set(host);
}
