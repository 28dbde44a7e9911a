//! The commands of a script, run by the worker that runs the script.

use std::borrow::Cow;
use std::sync::atomic::Ordering;
use std::time::Instant;

use keyspace::Slot;
use resp::Version;
use resp::reply::Writer;

use super::listeners::Event;
use super::request::Call;
use super::run::Worker;
use crate::command::table::{self, Unknown};
use crate::command::{Args, Fail, Flags, Spec};
use crate::control::{Mode, Refusal};
use crate::script::{Halt, Ran, Runner, ScriptFlags};
use crate::stats::{commands, errors};
use crate::store::Store;

/// Runs a script's commands for its client.
pub(super) struct Caller<'a> {
    worker: &'a mut Worker,
    store: &'a Store,
    call: &'a Call,
    /// The time stands still while a script runs.
    now_ms: u64,
    read_only: bool,
    /// It may touch keys of several slots.
    cross_slot: bool,
    /// The slot of its keys, in a cluster.
    slot: Option<Slot>,
    in_cluster: bool,
}

/// Why a command of a script is not run.
enum Stop {
    Said(Cow<'static, str>),
    Halt(Halt),
}

impl Stop {
    /// Counts a refusal, of a command if there is such.
    fn count(&self, spec: Option<&Spec>) {
        if let Self::Said(why) = self {
            spec.into_iter().for_each(commands::rejected);
            errors::count(why);
        }
    }
}

impl From<&'static str> for Stop {
    fn from(text: &'static str) -> Self {
        Self::Said(Cow::Borrowed(text))
    }
}

impl<'a> Caller<'a> {
    pub(super) fn new(
        worker: &'a mut Worker,
        store: &'a Store,
        call: &'a Call,
        now_ms: u64,
        flags: Option<ScriptFlags>,
    ) -> Self {
        let has = |flag| flags.is_some_and(|flags: ScriptFlags| flags.has(flag));
        let in_cluster = worker.authority.mode() != Mode::Standalone;
        Self {
            worker,
            store,
            call,
            now_ms,
            read_only: call.spec.flags.has(Flags::READONLY) || has(ScriptFlags::NO_WRITES),
            cross_slot: flags.is_none() || has(ScriptFlags::ALLOW_CROSS_SLOT),
            slot: call.slot,
            in_cluster,
        }
    }

    /// Whether a script may call it at all.
    fn check(&self, spec: &Spec, args: &Args<'_>) -> Result<(), Stop> {
        if !spec.accepts(args.len()) {
            return Err("ERR Wrong number of args calling Redis command from script".into());
        }
        let reads_stream = matches!(spec.name, "xread" | "xreadgroup");
        let waits = spec.flags.has(Flags::BLOCKING) && !reads_stream;
        if waits || is_refused(spec) {
            return Err(NOT_ALLOWED.into());
        }
        if reads_stream && waits_for_stream(args) {
            return Err(Stop::Said(Cow::Owned(format!(
                "ERR {} command is not allowed with BLOCK option from scripts",
                spec.name
            ))));
        }
        let writes = spec.flags.has(Flags::WRITE) || spec.name.ends_with("publish");
        if self.read_only && writes {
            return Err("ERR Write commands are not allowed from read-only scripts.".into());
        }
        Ok(())
    }

    /// Whether it may touch the keys that it names.
    fn admit(&mut self, spec: &'static Spec, args: &Args<'_>) -> Result<(), Stop> {
        let writes = spec.flags.has(Flags::WRITE);
        if writes && let Some(hindrance) = self.store.hindrance() {
            return Err(self.refused(Refusal::from(hindrance).into(), writes));
        }
        let call = Call { spec, slot: None, ..self.call.like() };
        let workers = self.worker.lanes.all().len();
        let mut has_keys = false;
        for slot in spec.slots(args, None) {
            has_keys = true;
            if let Err(fail) = self.worker.admit(slot, &call) {
                return Err(self.refused(fail, writes));
            }
            if self.in_cluster && !self.cross_slot && *self.slot.get_or_insert(slot) != slot {
                return Err(
                    "ERR Script attempted to access keys that do not hash to the same slot".into(),
                );
            }
            if !self.worker.within.contains(slot.number() % workers as u16) {
                return Err(Stop::Halt(Halt::NeedsAll));
            }
        }
        if !has_keys
            && spec.keys.is_none()
            && let Err(fail) = self.worker.admit_whole(&call)
        {
            return Err(self.refused(fail, writes));
        }
        if spec.sees_all(args) && self.worker.within.len() as usize != workers {
            return Err(Stop::Halt(Halt::NeedsAll));
        }
        if writes && !self.worker.scripts.scripting.running.will_write(self.worker.index) {
            return Err(Stop::Halt(Halt::Killed));
        }
        Ok(())
    }

    /// This node may not run it now, or not at all.
    fn refused(&mut self, fail: Fail, writes: bool) -> Stop {
        self.worker.scripts.refused |= writes && matches!(fail, Fail::Refused(_));
        match fail {
            Fail::Refused(Refusal::Moved { .. } | Refusal::Elsewhere(_)) => {
                "ERR Script attempted to access a non local key in a cluster node".into()
            }
            Fail::Lost => Stop::Halt(Halt::Lost),
            fail => Stop::Said(Cow::Owned(fail.line().into_owned())),
        }
    }

    fn try_run(
        &mut self,
        args: &Args<'_>,
        version: Version,
        out: &mut Vec<u8>,
    ) -> Result<(), Stop> {
        let spec = find(args).inspect_err(|stop| stop.count(None))?;
        self.may_try(spec, args).inspect_err(|stop| stop.count(Some(spec)))?;
        let scripting = &self.worker.scripts.scripting;
        if scripting.watched.load(Ordering::Relaxed)
            && let Some(host) = scripting.host.get()
        {
            host.show(spec, args);
        }
        let began = Instant::now();
        let ran = self.run_command(spec, args, version, out);
        let took = began.elapsed();
        match ran {
            Ok(()) => commands::ran(spec, took, false),
            Err(Fail::Lost) => return Err(Stop::Halt(Halt::Lost)),
            Err(fail) => {
                commands::ran(spec, took, true);
                errors::count(&fail.line());
                out.clear();
                Writer::new(out, version).error(&fail.line());
            }
        }
        if self.worker.pending.is_too_great() {
            return Err(Stop::Halt(Halt::TooGreat));
        }
        Ok(())
    }

    /// Whether the script, its user and this node may run it.
    fn may_try(&mut self, spec: &'static Spec, args: &Args<'_>) -> Result<(), Stop> {
        self.check(spec, args)?;
        if let Some(request) = &self.worker.scripts.request {
            let denied = |fail: Fail| Stop::Said(Cow::Owned(fail.line().into_owned()));
            request.check_in_script(spec, args).map_err(denied)?;
        }
        if spec.is_of_io() { Ok(()) } else { self.admit(spec, args) }
    }

    fn run_command(
        &mut self,
        spec: &'static Spec,
        args: &Args<'_>,
        version: Version,
        out: &mut Vec<u8>,
    ) -> Result<(), Fail> {
        if !spec.is_of_io() {
            let call = Call { spec, slot: None, ..self.call.like() };
            return self.worker.run_handler(self.store, &call, args, out, version, self.now_ms);
        }
        if !matches!(spec.name, "publish" | "spublish") {
            return self.worker.ask_host(spec, args, version, out);
        }
        let host = self.worker.scripts.scripting.host.get().ok_or(Fail::text(NOT_ALLOWED))?;
        // Said once what the script did is in the log, and only then.
        let (sharded, channel) = (spec.name == "spublish", args.at(1).to_vec());
        Writer::new(out, version).integer(host.audience(sharded, &channel));
        let message = args.at(2).to_vec();
        self.worker.effects.will_tell(Event::Message { sharded, channel, message });
        Ok(())
    }
}

impl Worker {
    /// Has a command answered that is not about data, by a session that nobody is connected to.
    pub(super) fn ask_host(
        &self,
        spec: &'static Spec,
        args: &Args<'_>,
        version: Version,
        out: &mut Vec<u8>,
    ) -> Result<(), Fail> {
        let host = self.scripts.scripting.host.get().ok_or(Fail::text(NOT_ALLOWED))?;
        host.answer(spec, args, version, self.connection, out)
    }
}

/// The command that these arguments are. One of a container that scripts may not use at all is
/// refused as that, whether it is there or not.
fn find(args: &Args<'_>) -> Result<&'static Spec, Stop> {
    table::resolve(args).map_err(|why| match (why, table::find(args.at(0))) {
        (Unknown::Subcommand, Some(container)) if is_refused(container) => NOT_ALLOWED.into(),
        _ => "ERR Unknown Redis command called from script".into(),
    })
}

/// Whether no script may run it.
fn is_refused(spec: &Spec) -> bool {
    let name = table::container_of(spec).unwrap_or(spec.name);
    spec.flags.has(Flags::NO_SCRIPT) || NOT_FOR_SCRIPTS.contains(&name)
}

impl Runner for Caller<'_> {
    fn run(&mut self, args: &Args<'_>, version: Version, out: &mut Vec<u8>) -> Ran {
        match self.try_run(args, version, out) {
            Ok(()) => Ran::Answered,
            Err(Stop::Said(why)) => Ran::Refused(why),
            Err(Stop::Halt(why)) => Ran::Halted(why),
        }
    }

    fn may_run(&mut self, args: &Args<'_>) -> Result<bool, &'static str> {
        let unknown = |_| "ERR Invalid command passed to redis.acl_check_cmd()";
        let spec = table::resolve(args).map_err(unknown)?;
        let user = self.worker.scripts.request.as_ref().and_then(|request| request.user.as_ref());
        Ok(user.is_none_or(|user| user.check(spec, args).is_ok()))
    }
}

const NOT_ALLOWED: &str = "ERR This Redis command is not allowed from script";

/// Commands that change or ask their connection, which a script has not, and those that run
/// scripts or transactions; beside those whose flags say it.
const NOT_FOR_SCRIPTS: &[&str] = &[
    "acl",
    "asking",
    "auth",
    "client",
    "cluster",
    "config",
    "debug",
    "discard",
    "exec",
    "godwit.crossslot",
    "godwit.hold",
    "godwit.probe",
    "godwit.resume",
    "hello",
    "latency",
    "monitor",
    "multi",
    "quit",
    "readonly",
    "readwrite",
    "reset",
    "role",
    "shutdown",
    "unwatch",
    "wait",
    "watch",
];

/// Whether XREAD would wait: BLOCK stands before STREAMS.
fn waits_for_stream(args: &Args<'_>) -> bool {
    let is = |arg: &[u8], word: &str| arg.eq_ignore_ascii_case(word.as_bytes());
    let options = args.from(1).take_while(|arg| !is(arg, "streams"));
    options.into_iter().any(|arg| is(arg, "block"))
}
