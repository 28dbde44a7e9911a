//! What an engine's functions and its hook share: they are called by Lua, with nothing of ours at
//! hand.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mlua::{HookTriggers, Lua, VmState};
use resp::Version;

use super::Scripting;
use super::runner::Halt;
use super::running::{Kind, Slow};
use crate::command::Args;

/// After so many of Lua's instructions the hook looks whether to stop: a millisecond of them.
const HOOK_EVERY: u32 = 100_000;
/// How long the code of a library may take to register its functions, as in Redis.
const LOADING_MAX: Duration = Duration::from_millis(500);
/// What is shown of a slow script's command, in bytes.
const SHOWN_BYTES_MAX: usize = 4096;

/// The state of one engine.
pub(super) struct State {
    scripting: Arc<Scripting>,
    worker: u16,
    /// The protocol that the script wants its answers in.
    speaks_v3: AtomicBool,
    /// Why the script is stopped; 0: it is not.
    halt: AtomicU8,
    now: Mutex<Now>,
}

/// What runs.
struct Now {
    kind: Kind,
    name: String,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    since: Instant,
    /// A library registers its functions.
    loading: bool,
}

const HALTS: [Halt; 5] = [Halt::Lost, Halt::TooGreat, Halt::NeedsAll, Halt::Killed, Halt::Stopping];

impl State {
    pub(super) fn new(scripting: Arc<Scripting>, worker: u16) -> Self {
        let now = Now {
            kind: Kind::Eval,
            name: String::new(),
            bytes: Vec::new(),
            ends: Vec::new(),
            since: Instant::now(),
            loading: false,
        };
        let (speaks_v3, halt) = (AtomicBool::new(false), AtomicU8::new(0));
        Self { scripting, worker, speaks_v3, halt, now: Mutex::new(now) }
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A script begins.
    pub(super) fn begin(&self, kind: Kind, name: &str, command: &Args<'_>) {
        self.speaks_v3.store(false, Ordering::Relaxed);
        self.halt.store(0, Ordering::Relaxed);
        let mut now = self.now();
        (now.kind, now.loading, now.since) = (kind, false, Instant::now());
        now.name.clear();
        now.name.push_str(name);
        now.bytes.clear();
        now.ends.clear();
        for arg in command.from(0) {
            let room = SHOWN_BYTES_MAX.saturating_sub(now.bytes.len());
            now.bytes.extend_from_slice(&arg[..arg.len().min(room)]);
            let end = now.bytes.len();
            now.ends.push(end);
            if end >= SHOWN_BYTES_MAX {
                break;
            }
        }
    }

    /// The code of a library begins.
    pub(super) fn begin_loading(&self) {
        self.halt.store(0, Ordering::Relaxed);
        let mut now = self.now();
        (now.loading, now.since) = (true, Instant::now());
    }

    pub(super) fn version(&self) -> Version {
        if self.speaks_v3.load(Ordering::Relaxed) { Version::V3 } else { Version::V2 }
    }

    pub(super) fn speak(&self, version: Version) {
        self.speaks_v3.store(version == Version::V3, Ordering::Relaxed);
    }

    /// Why the script is stopped.
    pub(super) fn halted(&self) -> Option<Halt> {
        let number = self.halt.load(Ordering::Relaxed);
        usize::from(number).checked_sub(1).and_then(|index| HALTS.get(index)).copied()
    }

    /// The script is to stop; the first reason stays.
    pub(super) fn halt(&self, why: Halt) {
        if self.halted().is_none() {
            let index = HALTS.iter().position(|halt| *halt == why).unwrap_or(0);
            self.halt.store(index as u8 + 1, Ordering::Relaxed);
        }
    }

    /// Looks whether what runs has to stop.
    fn check(&self) -> mlua::Result<VmState> {
        let now = self.now();
        if now.loading {
            if now.since.elapsed() > LOADING_MAX {
                self.halt(Halt::Killed);
                return Err(mlua::Error::runtime("FUNCTION LOAD timeout"));
            }
            return Ok(VmState::Continue);
        }
        let stopping = self.scripting.stopping.load(Ordering::Relaxed);
        let describe = || {
            let starts = std::iter::once(0).chain(now.ends.iter().copied());
            let args = starts.zip(&now.ends).map(|(from, &to)| now.bytes[from..to].to_vec());
            let (kind, name, since) = (now.kind, now.name.clone(), now.since);
            Slow { kind, name, command: args.collect(), since }
        };
        let running = &self.scripting.running;
        match running.check(self.worker, now.since, stopping, describe) {
            Some(why) => {
                self.halt(why);
                Err(mlua::Error::runtime(KILLED))
            }
            None => Ok(VmState::Continue),
        }
    }
}

/// What a script that was killed is told.
pub(super) const KILLED: &str = "Script killed by user with SCRIPT KILL...";

/// Has Lua look now and then.
pub(super) fn set(lua: &Lua, state: Arc<State>) -> mlua::Result<()> {
    let every = HookTriggers::new().every_nth_instruction(HOOK_EVERY);
    lua.set_global_hook(every, move |_, _| state.check())
}
