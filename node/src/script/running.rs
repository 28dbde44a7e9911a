//! What runs now, and how it is stopped.
//!
//! A script that takes longer than `busy-reply-threshold` is *slow*: while one is, clients get
//! `-BUSY`, and it can be killed if it has not written.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::runner::Halt;
use crate::settings;

/// Whether it was called by EVAL or by FCALL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A script.
    Eval,
    /// A function.
    Function,
}

impl Kind {
    /// What other clients get while it is slow.
    pub(crate) const fn busy(self) -> &'static str {
        match self {
            Self::Eval => {
                "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN \
                 NOSAVE."
            }
            Self::Function => {
                "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN \
                 NOSAVE."
            }
        }
    }
}

/// Nothing that is slow could be killed.
const NOT_BUSY: &str = "NOTBUSY No scripts in execution right now.";
const UNKILLABLE: &str = "UNKILLABLE Sorry the script already executed write commands against the \
    dataset. You can either wait the script termination or kill the server in a hard way using the \
    SHUTDOWN NOSAVE command.";
/// However long scripts may take, one is not waited for so long when the node ends.
const STOP_AFTER: Duration = Duration::from_secs(5);

/// A worker's script.
struct Slot {
    /// [`IDLE`], [`RUNS`], [`WROTE`] or [`KILLED`].
    state: AtomicU8,
    slow: Mutex<Option<Slow>>,
    /// Bytes that its Lua holds.
    memory: AtomicUsize,
}

const IDLE: u8 = 0;
const RUNS: u8 = 1;
const WROTE: u8 = 2;
const KILLED: u8 = 3;

/// A script that is slow.
#[derive(Clone)]
pub(crate) struct Slow {
    /// Whether it is a script or a function.
    pub(crate) kind: Kind,
    /// Its hash, or its name.
    pub(crate) name: String,
    /// What the client sent.
    pub(crate) command: Vec<Vec<u8>>,
    /// Since when.
    pub(crate) since: Instant,
}

/// What runs, by worker.
pub(crate) struct Running {
    slots: Box<[Slot]>,
    slow: AtomicUsize,
}

impl Running {
    pub(super) fn new(workers: usize) -> Self {
        let slot = |_| Slot {
            state: AtomicU8::new(IDLE),
            slow: Mutex::default(),
            memory: AtomicUsize::new(0),
        };
        let slots = (0..workers).map(slot).collect();
        Self { slots, slow: AtomicUsize::new(0) }
    }

    fn slow_of(&self, worker: u16) -> MutexGuard<'_, Option<Slow>> {
        self.slots[usize::from(worker)].slow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker begins a script.
    pub(crate) fn begin(&self, worker: u16) {
        self.slots[usize::from(worker)].state.store(RUNS, Ordering::Release);
    }

    /// The script is about to write. False: it was killed, and must not.
    pub(crate) fn will_write(&self, worker: u16) -> bool {
        let state = &self.slots[usize::from(worker)].state;
        let changed = state.compare_exchange(RUNS, WROTE, Ordering::AcqRel, Ordering::Acquire);
        changed != Err(KILLED)
    }

    /// The script has ended, or begins anew: nothing of it is written.
    pub(crate) fn end(&self, worker: u16) {
        self.slots[usize::from(worker)].state.store(IDLE, Ordering::Release);
        if self.slow.load(Ordering::Acquire) > 0 && self.slow_of(worker).take().is_some() {
            self.slow.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Asked now and then while a script runs: whether it has to stop.
    pub(super) fn check(
        &self,
        worker: u16,
        since: Instant,
        stopping: bool,
        describe: impl FnOnce() -> Slow,
    ) -> Option<Halt> {
        let threshold_ms = settings::BUSY_REPLY_MS.get();
        let elapsed = since.elapsed();
        let is_slow = threshold_ms > 0 && elapsed.as_millis() >= threshold_ms.unsigned_abs().into();
        if is_slow {
            let mut slow = self.slow_of(worker);
            if slow.is_none() {
                let found = describe();
                tracing::warn!(name = found.name, "a script is slow; it can be killed");
                *slow = Some(found);
                self.slow.fetch_add(1, Ordering::AcqRel);
            }
        }
        if stopping && (is_slow || elapsed >= STOP_AFTER) {
            return Some(Halt::Stopping);
        }
        let state = self.slots[usize::from(worker)].state.load(Ordering::Acquire);
        (state == KILLED).then_some(Halt::Killed)
    }

    /// What a worker's Lua holds, in bytes.
    pub(crate) fn note_memory(&self, worker: u16, bytes: usize) {
        self.slots[usize::from(worker)].memory.store(bytes, Ordering::Relaxed);
    }

    /// All Lua begins anew.
    pub(crate) fn forget_memory(&self) {
        self.slots.iter().for_each(|slot| slot.memory.store(0, Ordering::Relaxed));
    }

    /// What each worker's Lua holds, in bytes.
    pub(crate) fn memory(&self) -> impl Iterator<Item = usize> {
        self.slots.iter().map(|slot| slot.memory.load(Ordering::Relaxed))
    }

    /// One that is slow, if any is.
    pub(crate) fn slow(&self) -> Option<Slow> {
        if self.slow.load(Ordering::Acquire) == 0 {
            return None;
        }
        (0..self.slots.len()).find_map(|worker| self.slow_of(worker as u16).clone())
    }

    /// SCRIPT KILL and FUNCTION KILL: those of the kind that are slow and have not written.
    pub(crate) fn kill(&self, kind: Kind) -> Result<(), &'static str> {
        let mut why = NOT_BUSY;
        let mut killed = false;
        for (worker, slot) in self.slots.iter().enumerate() {
            let slow = self.slow_of(worker as u16);
            let Some(found) = slow.as_ref() else { continue };
            if slot.state.load(Ordering::Acquire) == WROTE {
                why = UNKILLABLE;
            } else if found.kind != kind {
                why = found.kind.busy();
            } else {
                let state =
                    slot.state.compare_exchange(RUNS, KILLED, Ordering::AcqRel, Ordering::Acquire);
                match state {
                    Ok(_) | Err(KILLED) => killed = true,
                    Err(WROTE) => why = UNKILLABLE,
                    Err(_) => {}
                }
            }
        }
        if killed { Ok(()) } else { Err(why) }
    }
}
