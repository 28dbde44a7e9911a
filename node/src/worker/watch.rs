//! WATCH: keys that a connection wants to find unchanged when its transaction runs.
//!
//! A watch also fails where it cannot be known whether a key changed: after a change of role, a
//! swap of the database, and, on a node that does not write itself, after any change at all.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;
use wal::Position;

use super::view::Key;
use crate::control::Permit;

/// The watched keys of all connections, by the worker that owns them. A key that is written is
/// looked up only while some key of that worker is watched.
#[derive(Clone)]
pub struct Watches(Arc<[Shard]>);

#[derive(Default)]
struct Shard {
    watched: AtomicUsize,
    keys: Mutex<HashMap<Vec<u8>, Vec<Watcher>>>,
}

struct Watcher {
    /// Nothing but a write of the key makes one that was not there change.
    existed: bool,
    touched: Arc<AtomicBool>,
}

impl Shard {
    fn keys(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Vec<Watcher>>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watches {
    pub(super) fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| Shard::default()).collect())
    }

    fn shard(&self, key: Key<'_>) -> &Shard {
        &self.0[usize::from(key.slot.number()) % self.0.len()]
    }

    /// A key is about to be written. Only its worker calls this, or one that its worker waits for.
    pub(super) fn touch(&self, key: Key<'_>) {
        let shard = self.shard(key);
        if shard.watched.load(Ordering::Relaxed) == 0 {
            return;
        }
        for watcher in shard.keys().get(key.name).into_iter().flatten() {
            watcher.touched.store(true, Ordering::Release);
        }
    }

    /// Any key may have changed beside the workers.
    pub(super) fn fail_all(&self) {
        for shard in self.0.iter() {
            for watcher in shard.keys().values().flatten() {
                watcher.touched.store(true, Ordering::Release);
            }
        }
    }

    /// Every key is about to be deleted.
    pub(super) fn touch_all(&self) {
        for shard in self.0.iter() {
            for watcher in shard.keys().values().flatten().filter(|watcher| watcher.existed) {
                watcher.touched.store(true, Ordering::Release);
            }
        }
    }
}

/// What one connection watches; dropped when it watches no more.
pub struct Watch {
    watches: Watches,
    touched: Arc<AtomicBool>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    keys: Vec<Watched>,
    /// Under what the first key was watched.
    under: Option<Under>,
}

struct Watched {
    name: Vec<u8>,
    /// When it expires; 0: never, or it was not there.
    expire_ms: u64,
}

/// What a node's role and database were.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Under {
    permit: Option<Permit>,
    position: Position,
}

impl Under {
    /// A node that writes knows of all its writes: only the timeline counts. One that does not
    /// is changed from outside of its workers: each position counts.
    pub(super) fn new(permit: Option<Permit>, mut position: Position) -> Self {
        if permit.is_some() {
            position.sequence = wal::Sequence(0);
        }
        Self { permit, position }
    }
}

impl Watch {
    /// The most keys that a connection may watch.
    pub const KEYS_MAX: usize = 64 << 10;

    /// Watches nothing yet.
    pub fn new(watches: Watches) -> Self {
        Self { watches, touched: Arc::default(), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a key, as it is now: when it expires, if it is there. False: it watches too many.
    pub(super) fn add(&self, key: Key<'_>, live_until: Option<u64>, under: Under) -> bool {
        let mut state = self.state();
        let before = *state.under.get_or_insert(under);
        if before != under {
            self.touched.store(true, Ordering::Release);
        }
        let shard = self.watches.shard(key);
        let mut keys = shard.keys();
        let watchers = keys.entry_ref(key.name).or_default();
        if watchers.iter().any(|watcher| Arc::ptr_eq(&watcher.touched, &self.touched)) {
            return true;
        }
        if state.keys.len() >= Self::KEYS_MAX {
            return false;
        }
        let existed = live_until.is_some();
        watchers.push(Watcher { existed, touched: self.touched.clone() });
        shard.watched.fetch_add(1, Ordering::Relaxed);
        drop(keys);
        let expire_ms = live_until.unwrap_or(0);
        state.keys.push(Watched { name: key.name.to_vec(), expire_ms });
        true
    }

    fn is_touched(&self) -> bool {
        self.touched.load(Ordering::Acquire)
    }

    /// The first key that it watches, if there is one.
    pub(super) fn first(&self) -> Option<Vec<u8>> {
        self.state().keys.first().map(|watched| watched.name.clone())
    }

    /// Whether all keys are as they were. Ask it while the workers of the keys wait.
    pub(super) fn holds(&self, under: Under, now_ms: u64) -> bool {
        let state = self.state();
        let expired = |watched: &Watched| watched.expire_ms > 0 && watched.expire_ms <= now_ms;
        !self.is_touched()
            && state.under.is_none_or(|before| before == under)
            && !state.keys.iter().any(expired)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let keys = std::mem::take(&mut self.state().keys);
        for Watched { name, .. } in keys {
            let shard = self.watches.shard(Key::new(&name));
            let mut keys = shard.keys();
            if let Some(watchers) = keys.get_mut(&name) {
                watchers.retain(|watcher| !Arc::ptr_eq(&watcher.touched, &self.touched));
                if watchers.is_empty() {
                    keys.remove(&name);
                }
                shard.watched.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}
