//! Keys that clients keep copies of (CLIENT TRACKING): who is to be told when one changes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;

use super::listeners::Event;
use super::view::Key;

/// Tables of their own, by slot, so that workers seldom meet.
const SHARDS: usize = 16;
/// The most keys that are remembered by default, as in Redis.
const KEYS_MAX: usize = 1_000_000;

type Table = HashMap<Vec<u8>, Vec<u64>>;

/// Which clients have read which keys.
pub struct Tracked {
    shards: [Mutex<Table>; SHARDS],
    keys: AtomicUsize,
    items: AtomicUsize,
    keys_max: AtomicUsize,
    /// Clients that follow prefixes: each change is told.
    followers: AtomicUsize,
}

impl Default for Tracked {
    fn default() -> Self {
        let (shards, keys, items, followers) = Default::default();
        Self { shards, keys, items, keys_max: AtomicUsize::new(KEYS_MAX), followers }
    }
}

impl Tracked {
    fn shard(&self, at: usize) -> MutexGuard<'_, Table> {
        self.shards[at].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, key: Key<'_>) -> MutexGuard<'_, Table> {
        self.shard(usize::from(key.slot.number()) % SHARDS)
    }

    /// A client has read a key. What is pushed out by it is told like a change.
    pub(super) fn remember(&self, key: Key<'_>, client: u64) -> Option<Event> {
        let mut table = self.of(key);
        let clients = table.entry_ref(key.name).or_default();
        if clients.contains(&client) {
            return None;
        }
        clients.push(client);
        self.items.fetch_add(1, Ordering::Relaxed);
        if clients.len() > 1 {
            return None;
        }
        let keys = self.keys.fetch_add(1, Ordering::Relaxed) + 1;
        if keys <= self.keys_max.load(Ordering::Relaxed) {
            return None;
        }
        let other = table.keys().find(|other| *other != key.name).cloned();
        let pushed = other.unwrap_or_else(|| key.name.to_vec());
        self.remove(&mut table, &pushed, 0)
    }

    fn remove(&self, table: &mut Table, key: &[u8], by: u64) -> Option<Event> {
        let clients = table.remove(key)?;
        self.keys.fetch_sub(1, Ordering::Relaxed);
        self.items.fetch_sub(clients.len(), Ordering::Relaxed);
        Some(Event::Stale { key: key.to_vec(), clients, by })
    }

    /// A key changes: those who read it forget it. One look where nobody tracks.
    pub(super) fn change(&self, key: Key<'_>, by: u64) -> Option<Event> {
        if self.keys.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut table = self.of(key);
        self.remove(&mut table, key.name, by)
    }

    /// Whether changes of all keys are to be told.
    pub(super) fn has_followers(&self) -> bool {
        self.followers.load(Ordering::Relaxed) > 0
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        for at in 0..SHARDS {
            let mut table = self.shard(at);
            self.keys.fetch_sub(table.len(), Ordering::Relaxed);
            self.items.fetch_sub(table.values().map(Vec::len).sum(), Ordering::Relaxed);
            table.clear();
        }
    }

    /// A client begins or ends to follow prefixes.
    pub fn count_followers(&self, followers: usize) {
        self.followers.store(followers, Ordering::Relaxed);
    }

    /// How many keys are remembered, and how many clients for them in all.
    pub fn len(&self) -> (usize, usize) {
        (self.keys.load(Ordering::Relaxed), self.items.load(Ordering::Relaxed))
    }

    /// The most keys that are remembered.
    pub fn keys_max(&self) -> usize {
        self.keys_max.load(Ordering::Relaxed)
    }

    /// Changes that; 0 is no bound in Redis, and here as many as fit a number. What is pushed out is
    /// to be told.
    pub fn bound(&self, keys_max: usize) -> Vec<Event> {
        let keys_max = if keys_max == 0 { usize::MAX } else { keys_max };
        self.keys_max.store(keys_max, Ordering::Relaxed);
        let mut pushed = Vec::new();
        for at in 0..SHARDS {
            let mut table = self.shard(at);
            while self.keys.load(Ordering::Relaxed) > keys_max
                && let Some(key) = table.keys().next().cloned()
            {
                pushed.extend(self.remove(&mut table, &key, 0));
            }
        }
        pushed
    }
}
