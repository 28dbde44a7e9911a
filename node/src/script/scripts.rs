//! The scripts that are known by their hash.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use hashbrown::HashMap;

use super::flags::ScriptFlags;
use super::metadata;
use super::sha::Sha;

/// Scripts that are remembered because EVAL ran them; the oldest go first, as in Redis 7.4.
const EVALUATED_MAX: usize = 500;
/// What all known scripts may come to, in bytes.
const BYTES_MAX: usize = 256 << 20;

/// A script that is known.
pub(crate) struct Script {
    /// What it is known by.
    pub(crate) sha: Sha,
    /// The same, as it is said.
    pub(crate) name: String,
    /// What it says of itself; `None`: nothing, so it may do all that scripts could before flags.
    pub(crate) flags: Option<ScriptFlags>,
    /// It touched keys that it did not name: it runs while all workers wait.
    pub(crate) needs_all: AtomicBool,
    text: Box<[u8]>,
    code: usize,
}

impl Script {
    /// Reads a script's first line.
    pub(crate) fn new(sha: Sha, text: &[u8]) -> Result<Self, String> {
        let (flags, code) = metadata::of_script(text)?;
        let code = text.len() - code.len();
        let (name, needs_all) = (sha.to_string(), AtomicBool::new(false));
        Ok(Self { sha, name, flags, needs_all, text: text.into(), code })
    }

    /// What Lua compiles.
    pub(crate) fn code(&self) -> &[u8] {
        &self.text[self.code..]
    }
}

/// All that are known.
#[derive(Default)]
pub(crate) struct Scripts {
    known: RwLock<Known>,
    /// Some script needs all workers: so those who place scripts look.
    any_needs_all: AtomicBool,
    /// Counts SCRIPT FLUSH: engines forget what they compiled.
    flushes: AtomicU64,
}

#[derive(Default)]
struct Known {
    by_sha: HashMap<Sha, Arc<Script>>,
    /// Those that EVAL brought, the oldest first.
    evaluated: VecDeque<Sha>,
    bytes: usize,
}

impl Known {
    fn remove(&mut self, sha: Sha) {
        if let Some(script) = self.by_sha.remove(&sha) {
            self.bytes -= script.text.len();
        }
    }
}

impl Scripts {
    fn read<T>(&self, look: impl FnOnce(&Known) -> T) -> T {
        look(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, change: impl FnOnce(&mut Known) -> T) -> T {
        change(&mut self.known.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// The script of this hash.
    pub(crate) fn get(&self, sha: Sha) -> Option<Arc<Script>> {
        self.read(|known| known.by_sha.get(&sha).cloned())
    }

    /// Remembers a script: one that EVAL brought until it is among the oldest, one that was loaded
    /// until SCRIPT FLUSH. False: there is no room for it.
    pub(crate) fn add(&self, script: &Arc<Script>, loaded: bool) -> bool {
        self.write(|known| {
            if known.by_sha.contains_key(&script.sha) {
                if loaded {
                    known.evaluated.retain(|sha| *sha != script.sha);
                }
                return true;
            }
            let size = script.text.len();
            while known.evaluated.len() >= EVALUATED_MAX || known.bytes + size > BYTES_MAX {
                let Some(oldest) = known.evaluated.pop_front() else { return false };
                known.remove(oldest);
            }
            if !loaded {
                known.evaluated.push_back(script.sha);
            }
            known.bytes += size;
            known.by_sha.insert(script.sha, script.clone());
            true
        })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.read(|known| known.by_sha.len())
    }

    /// What their texts come to, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.read(|known| known.bytes)
    }

    /// Forgets all.
    pub(crate) fn flush(&self) {
        self.write(|known| *known = Known::default());
        self.any_needs_all.store(false, Ordering::Release);
        self.flushes.fetch_add(1, Ordering::AcqRel);
    }

    /// How often all were forgotten.
    pub(crate) fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::Acquire)
    }

    /// From now on this script runs while all workers wait.
    pub(crate) fn mark_needs_all(&self, script: &Script) {
        script.needs_all.store(true, Ordering::Release);
        self.any_needs_all.store(true, Ordering::Release);
    }

    /// Whether the script that these bytes name, or are, needs all workers.
    pub(crate) fn needs_all(&self, sha: impl FnOnce() -> Option<Sha>) -> bool {
        if !self.any_needs_all.load(Ordering::Acquire) {
            return false;
        }
        let script = sha().and_then(|sha| self.get(sha));
        script.is_some_and(|script| script.needs_all.load(Ordering::Acquire))
    }
}
