//! A worker's part in scripts: EVAL, EVALSHA, FCALL and SCRIPT.
//!
//! A script runs inside one whole batch, as a transaction does; what it wrote before an error is
//! kept, as by Redis. One that touches a key of a worker that does not wait for it is undone, run
//! again while no other worker runs, and remembered as one for which all wait from then on.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use resp::Version;
use resp::reply::Writer;

use super::call::TOO_GREAT;
use super::request::{Call, Request};
use super::run::Worker;
use super::script_call::Caller;
use crate::command::{Args, CHANGE_FUNCTIONS, Fail, Flags, Handler, Scripted};
use crate::control::Mode;
use crate::script::{Ended, Engine, Entry, Halt, Kind, Script, ScriptFlags, Scripting, Sha};
use crate::store::Store;

/// Lua is begun anew where it holds more than this after a script, in bytes.
const KEPT_BYTES_MAX: usize = 64 << 20;

/// After so many scripts what nobody holds is given back, and what is held is noted.
const COLLECT_EVERY: u32 = 1024;

/// What a worker has for scripts.
pub(super) struct Scripts {
    pub(super) scripting: Arc<Scripting>,
    engine: Option<Box<Engine>>,
    /// A write of the script that ran was refused.
    pub(super) refused: bool,
    /// The request that runs, if its user may not do everything.
    pub(super) request: Option<Arc<Request>>,
    /// Counts what ran.
    ran: u32,
}

impl Scripts {
    pub(super) fn new(scripting: Arc<Scripting>) -> Self {
        Self { scripting, engine: None, refused: false, request: None, ran: 0 }
    }

    /// A batch may not be in the log: libraries that it held may not be there.
    pub(super) fn doubt(&self) {
        self.scripting.libraries.doubt();
    }
}

/// A script or a function that is to be run.
struct Chosen<'a> {
    entry: Entry<'a>,
    /// What it says of itself.
    flags: Option<ScriptFlags>,
    /// Remembers that it needs all workers.
    needs_all: &'a dyn Fn(),
}

impl Worker {
    /// What is asked of scripts.
    pub(super) fn scripted(
        &mut self,
        store: &Store,
        scripted: Scripted,
        (call, args): (&Call, &Args<'_>),
        (version, now_ms): (Version, u64),
        out: &mut Vec<u8>,
    ) -> Result<(), Fail> {
        let mut engine = self.engine()?;
        let at = (version, now_ms);
        let mut writer = Writer::new(out, version);
        let done = match scripted {
            Scripted::Scripts => scripts(&self.scripts.scripting, &mut engine, args, &mut writer),
            Scripted::Functions => self.functions(store, &mut engine, (call, args), &mut writer),
            Scripted::Call => self.call_function(store, &mut engine, (call, args), at, out),
            Scripted::Eval | Scripted::EvalSha => {
                self.eval(store, &mut engine, (call, args), at, out)
            }
        };
        let scripts = &mut self.scripts;
        scripts.ran = scripts.ran.wrapping_add(1);
        if scripts.ran % COLLECT_EVERY == 1 || engine.memory() > KEPT_BYTES_MAX {
            let memory = engine.collect();
            scripts.scripting.running.note_memory(self.index, memory);
            if memory > KEPT_BYTES_MAX {
                return done;
            }
        }
        scripts.engine = Some(engine);
        done
    }

    /// This worker's Lua; a fresh one after SCRIPT FLUSH.
    fn engine(&mut self) -> Result<Box<Engine>, Fail> {
        let Scripts { scripting, engine, .. } = &mut self.scripts;
        let kept = engine.take();
        if let Some(kept) = kept.filter(|kept| kept.flushes == scripting.scripts.flushes()) {
            return Ok(kept);
        }
        self.scripts.ran = 0;
        let scripting = self.scripts.scripting.clone();
        Ok(Box::new(Engine::new(scripting, self.index).map_err(Fail::text)?))
    }

    fn eval(
        &mut self,
        store: &Store,
        engine: &mut Engine,
        (call, args): (&Call, &Args<'_>),
        at: (Version, u64),
        out: &mut Vec<u8>,
    ) -> Result<(), Fail> {
        let scripting = self.scripts.scripting.clone();
        let known = &scripting.scripts;
        let by_sha = matches!(call.spec.handler, Handler::Script(Scripted::EvalSha));
        let sha = if by_sha {
            Sha::parse(args.at(1)).ok_or(Fail::text(NO_SCRIPT))?
        } else {
            Sha::of(args.at(1))
        };
        let keys = keys(args, Fail::NotInteger)?;
        let script = match known.get(sha) {
            Some(script) => script,
            None if by_sha => return Err(Fail::text(NO_SCRIPT)),
            None => Arc::new(
                Script::new(sha, args.at(1)).map_err(|why| Fail::text(format!("ERR {why}")))?,
            ),
        };
        let function = engine.script(&script).map_err(Fail::text)?;
        if !by_sha {
            // One that is too great to be remembered is run all the same.
            known.add(&script, false);
        }
        let (kind, name) = (Kind::Eval, &script.name[..]);
        let entry = Entry { kind, name, function, command: *args, keys };
        let needs_all = &|| known.mark_needs_all(&script);
        self.run_script(
            store,
            engine,
            &Chosen { entry, flags: script.flags, needs_all },
            call,
            at,
            out,
        )
    }

    fn call_function(
        &mut self,
        store: &Store,
        engine: &mut Engine,
        (call, args): (&Call, &Args<'_>),
        at: (Version, u64),
        out: &mut Vec<u8>,
    ) -> Result<(), Fail> {
        let libraries = self.libraries(store, engine)?;
        let name = String::from_utf8_lossy(args.at(1));
        let not_found = || Fail::text("ERR Function not found");
        let library = libraries.with_function(&name).ok_or_else(not_found)?;
        let found = library.function(&name).ok_or_else(not_found)?;
        let keys = keys(args, Fail::text("ERR Bad number of keys provided"))?;
        let function = engine.function(library, &found.name).map_err(Fail::text)?;
        let (kind, name) = (Kind::Function, &found.name[..]);
        let entry = Entry { kind, name, function, command: *args, keys };
        let needs_all = &|| found.needs_all.store(true, Ordering::Release);
        let flags = Some(found.flags);
        self.run_script(store, engine, &Chosen { entry, flags, needs_all }, call, at, out)
    }

    /// Runs it, and once more while nobody else runs if it turns out to need that.
    fn run_script(
        &mut self,
        store: &Store,
        engine: &mut Engine,
        chosen: &Chosen<'_>,
        call: &Call,
        (version, now_ms): (Version, u64),
        out: &mut Vec<u8>,
    ) -> Result<(), Fail> {
        self.admit_script(chosen, call)?;
        // In a transaction, its batch is whole already.
        let nested = self.pending.is_whole();
        if !nested && self.pending.misleads() && !self.commit(Some(store)) {
            return Err(Fail::Lost);
        }
        let before = self.pending.mark();
        let told = self.effects.mark();
        if !nested {
            self.pending.begin_whole();
        }
        let start = out.len();
        let scripting = self.scripts.scripting.clone();
        scripting.running.begin(self.index);
        let mut caller = Caller::new(self, store, call, now_ms, chosen.flags);
        let ran = engine.run(&chosen.entry, &mut caller, version, out);
        scripting.running.end(self.index);
        if !nested {
            self.pending.end_whole();
        }
        let halt = match ran {
            Ended::Answered => return Ok(()),
            Ended::Failed { line, counted } => return Err(Fail::Script(line, counted)),
            Ended::Halted(halt) => halt,
        };
        out.truncate(start);
        self.effects.cut_to(told);
        if halt == Halt::NeedsAll {
            (chosen.needs_all)();
        }
        match halt {
            Halt::Lost => Err(Fail::Lost),
            Halt::NeedsAll if nested => Err(Fail::NeedsAll),
            // The transaction sees for itself what has become of its batch.
            Halt::TooGreat if nested => Err(Fail::text(TOO_GREAT)),
            Halt::TooGreat => {
                self.undo(store, before)?;
                Err(Fail::text(TOO_GREAT))
            }
            Halt::NeedsAll => {
                self.undo(store, before)?;
                let at = (version, store.now_ms());
                self.alone(store, |worker| worker.run_script(store, engine, chosen, call, at, out))
            }
            Halt::Stopping | Halt::Killed => {
                if !nested {
                    self.undo(store, before)?;
                }
                Err(Fail::Lost)
            }
        }
    }

    /// Refuses early what a script says that it would do and may not.
    fn admit_script(&mut self, chosen: &Chosen<'_>, call: &Call) -> Result<(), Fail> {
        let Some(flags) = chosen.flags else { return Ok(()) };
        if flags.has(ScriptFlags::NO_CLUSTER) && self.authority.mode() != Mode::Standalone {
            return Err(Fail::text("ERR Can not run script on cluster, 'no-cluster' flag is set."));
        }
        if flags.has(ScriptFlags::NO_WRITES) {
            return Ok(());
        }
        let entry = &chosen.entry;
        for name in entry.command.from(entry.keys.start).take(entry.keys.len()) {
            self.pending.admit(self.authority.admit_write(keyspace::Slot::of_key(name))?);
        }
        if entry.keys.is_empty() {
            self.admit_whole(&Call { spec: &CHANGE_FUNCTIONS, ..call.like() })?;
        }
        if call.spec.flags.has(Flags::READONLY) {
            return Err(Fail::text(
                "ERR Can not execute a script with write flag using *_ro command.",
            ));
        }
        Ok(())
    }
}

const NO_SCRIPT: &str = "NOSCRIPT No matching script. Please use EVAL.";

/// Which arguments are keys.
fn keys(args: &Args<'_>, not_a_number: Fail) -> Result<std::ops::Range<usize>, Fail> {
    let count = resp::integer(args.at(2)).ok_or(not_a_number)?;
    if count > args.len() as i64 - 3 {
        return Err(Fail::text("ERR Number of keys can't be greater than number of args"));
    }
    let count = usize::try_from(count);
    let count = count.map_err(|_| Fail::text("ERR Number of keys can't be negative"))?;
    Ok(3..3 + count)
}

/// SCRIPT. All workers wait, so what follows it on its connection sees what it did.
fn scripts(
    scripting: &Scripting,
    engine: &mut Engine,
    args: &Args<'_>,
    out: &mut Writer<'_>,
) -> Result<(), Fail> {
    let known = &scripting.scripts;
    match (&args.at(1).to_ascii_lowercase()[..], args.len()) {
        (b"load", 3) => {
            let sha = Sha::of(args.at(2));
            let script = match known.get(sha) {
                Some(script) => script,
                None => Arc::new(
                    Script::new(sha, args.at(2)).map_err(|why| Fail::text(format!("ERR {why}")))?,
                ),
            };
            engine.script(&script).map_err(Fail::text)?;
            if !known.add(&script, true) {
                return Err(Fail::text(
                    "ERR the scripts that are loaded come to 256 MiB: SCRIPT FLUSH forgets them",
                ));
            }
            out.bulk(script.name.as_bytes());
        }
        (b"exists", 3..) => {
            out.array(args.len() - 2);
            for sha in args.from(2) {
                let script = Sha::parse(sha).and_then(|sha| known.get(sha));
                out.integer(script.is_some().into());
            }
        }
        (b"flush", 2) => flush(scripting, out),
        (b"flush", 3) if args.is(2, "sync") || args.is(2, "async") => flush(scripting, out),
        (b"flush", 3..) => {
            return Err(Fail::text("ERR SCRIPT FLUSH only support SYNC|ASYNC option"));
        }
        (b"debug", 3) => {
            return Err(Fail::text("ERR this server has no debugger of scripts"));
        }
        (b"help", 2) => {
            out.array(HELP.len());
            HELP.iter().for_each(|line| out.simple(line));
        }
        (sub @ (b"load" | b"exists" | b"debug" | b"help"), _) => {
            let sub = String::from_utf8_lossy(sub);
            return Err(Fail::text(format!(
                "ERR wrong number of arguments for 'script|{sub}' command"
            )));
        }
        _ => {
            let sub = String::from_utf8_lossy(args.at(1));
            return Err(Fail::text(format!("ERR unknown subcommand '{sub}'. Try SCRIPT HELP.")));
        }
    }
    Ok(())
}

fn flush(scripting: &Scripting, out: &mut Writer<'_>) {
    scripting.scripts.flush();
    scripting.running.forget_memory();
    out.simple("OK");
}

const HELP: [&str; 13] = [
    "SCRIPT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "EXISTS <sha1> [<sha1> ...]",
    "    Return information about the existence of the scripts in the script cache.",
    "FLUSH [ASYNC|SYNC]",
    "    Flush the Lua scripts cache. Very dangerous on replicas.",
    "    Valid modes are:",
    "    * ASYNC: Asynchronously flush the scripts cache.",
    "    * SYNC: Synchronously flush the scripts cache.",
    "KILL",
    "    Kill the currently executing Lua script.",
    "LOAD <script>",
    "    Load a script into the scripts cache without executing it.",
    "HELP",
];
