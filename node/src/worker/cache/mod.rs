//! Records as the database has them, in memory: asked after a batch's own writes and before
//! RocksDB, whose own look at a cached record takes many times as long.
//!
//! It learns what a batch wrote once that is committed, and what was read. It also knows of records
//! that are not there: for a key that was asked for, and for every part of a collection that began
//! while the cache was there and of which it let nothing go.
//!
//! Architecture Invariant: a worker's cache is touched by that worker, or by one that it waits for
//! at a gate. So its lock is free whenever it is taken (INFO's look at the counters aside), and
//! what it says is what the database would.
//!
//! Who changes data otherwise than by a worker's batch tells the store
//! ([`Store::changed_outside`]): all that is cached is dropped then. On a node that does not write,
//! where that happens all the time, nothing is cached.

mod arena;
mod ends;
mod index;
mod pages;
mod shard;
mod whole;

#[cfg(test)]
mod tests;

use std::ops::{Deref, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use keyspace::{Cf, Hlc, Slot};

use self::arena::Name;
use self::shard::{Known, Shard};
use super::cursor::Direction;
use super::overlay::Overlay;
use crate::store::Store;

/// The caches of all workers.
#[derive(Clone)]
pub struct Caches(Arc<[Mutex<Shard>]>);

/// A record that commands are about to ask for.
pub(super) struct Ahead {
    pub(super) hash: u64,
    /// Where its key is among others.
    pub(super) key: Range<usize>,
    /// The collection that a data record belongs to.
    pub(super) version: Option<Hlc>,
}

/// What a worker's cache was asked for so far.
pub(super) struct Counts {
    /// Records.
    pub(super) asked: u64,
    /// Those among them that the database was asked for, for a command or ahead of it.
    pub(super) missed: u64,
    /// The largest record that came of the database lately, in bytes.
    pub(super) largest: usize,
    /// What may be brought before the first of it has to go again, in bytes.
    pub(super) room: usize,
}

/// What is known of a record without asking the database.
pub(super) enum Found<'c> {
    /// Its value.
    Value(Cached<'c>),
    /// There is none.
    Absent,
    /// Ask the database.
    Nothing,
}

/// A value in the cache, which stands still meanwhile.
pub(super) struct Cached<'c> {
    shard: MutexGuard<'c, Shard>,
    at: (usize, usize),
}

impl Deref for Cached<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.shard.value(self.at)
    }
}

impl Caches {
    /// For so many workers, with so many bytes together.
    pub(super) fn new(workers: usize, bytes: u64) -> Self {
        let each = usize::try_from(bytes).unwrap_or(usize::MAX) / workers;
        Self((0..workers).map(|_| Mutex::new(Shard::new(each))).collect())
    }

    fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
        // A worker that panics ends the process.
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cache of the worker that owns this record's slot.
    fn of(&self, key: &[u8]) -> Option<MutexGuard<'_, Shard>> {
        let slot = Slot::of_encoded(key)?;
        Some(Self::lock(&self.0[usize::from(slot.number()) % self.0.len()]))
    }

    /// Whether the cache of this worker is used: where the node writes.
    pub(super) fn turn(&self, worker: u16, on: bool) {
        Self::lock(&self.0[usize::from(worker)]).turn(on);
    }

    /// Looks a record up; `version` is that of the collection which a data record belongs to.
    pub(super) fn find(
        &self,
        store: &Store,
        (hash, cf): (u64, Cf),
        key: &[u8],
        version: Option<Hlc>,
    ) -> Found<'_> {
        let Some(mut shard) = self.of(key).filter(|shard| shard.on) else { return Found::Nothing };
        shard.meet(store.generation());
        match shard.find(&Name { hash, family: cf.id() as u8, key }, version) {
            Known::Value(at) => Found::Value(Cached { shard, at }),
            Known::Absent => Found::Absent,
            Known::Nothing => Found::Nothing,
        }
    }

    /// What the database answered after [`Caches::find`] knew nothing. Where the data has changed
    /// since, the next look drops it.
    pub(super) fn keep(&self, (hash, cf): (u64, Cf), key: &[u8], value: Option<&[u8]>) {
        if let Some(mut shard) = self.of(key).filter(|shard| shard.on) {
            shard.keep(&Name { hash, family: cf.id() as u8, key }, value);
        }
    }

    /// What this worker's cache was asked for; `None`: it is not used.
    pub(super) fn counts(&self, worker: u16) -> Option<Counts> {
        let shard = Self::lock(&self.0[usize::from(worker)]);
        shard.on.then(|| Counts {
            asked: shard.hits + shard.misses,
            missed: shard.misses + shard.ahead,
            largest: shard.largest(),
            room: shard.room(),
        })
    }

    /// Leaves those records of which this worker's cache knows nothing.
    pub(super) fn retain_unknown(
        &self,
        (store, worker): (&Store, u16),
        cf: Cf,
        keys: &[u8],
        wanted: &mut Vec<Ahead>,
    ) {
        let mut shard = Self::lock(&self.0[usize::from(worker)]);
        shard.meet(store.generation());
        wanted.retain(|wanted| {
            let key = &keys[wanted.key.clone()];
            let slot = Slot::of_encoded(key).map(|slot| usize::from(slot.number()));
            let name = Name { hash: wanted.hash, family: cf.id() as u8, key };
            slot.is_some_and(|slot| slot % self.0.len() == usize::from(worker))
                && shard.peek(&name, wanted.version) == Known::Nothing
        });
    }

    /// What the database answered for one of those, each of them once: the command that asks for it
    /// finds it.
    pub(super) fn keep_ahead(&self, whose: (u64, Cf), key: &[u8], value: Option<&[u8]>) {
        if let Some(mut shard) = self.of(key).filter(|shard| shard.on) {
            shard.ahead += 1;
            shard.keep_new(&Name { hash: whose.0, family: whose.1.id() as u8, key }, value);
        }
    }

    /// A record's value, if it is here; not counted.
    pub(super) fn peek(
        &self,
        store: &Store,
        (hash, cf): (u64, Cf),
        key: &[u8],
    ) -> Option<Cached<'_>> {
        let mut shard = self.of(key).filter(|shard| shard.on)?;
        shard.meet(store.generation());
        match shard.peek(&Name { hash, family: cf.id() as u8, key }, None) {
            Known::Value(at) => Some(Cached { shard, at }),
            Known::Absent | Known::Nothing => None,
        }
    }

    /// A collection of this key begins under this version.
    pub(super) fn begin(&self, slot: Slot, version: Hlc) {
        Self::lock(&self.0[usize::from(slot.number()) % self.0.len()]).begin(version);
    }

    /// Where the score records of a collection begin in this direction, as far as is known: a subkey
    /// into `into`. False: at the very end.
    pub(super) fn end(
        &self,
        store: &Store,
        (slot, version): (Slot, Hlc),
        direction: Direction,
        into: &mut Vec<u8>,
    ) -> bool {
        let mut shard = Self::lock(&self.0[usize::from(slot.number()) % self.0.len()]);
        shard.meet(store.generation());
        let found = shard.ends.of(version, direction);
        into.extend_from_slice(found.unwrap_or_default());
        found.is_some()
    }

    /// The first of all score records of a collection in this direction is this one, and nothing
    /// uncommitted hides another.
    pub(super) fn found_end(
        &self,
        (slot, version): (Slot, Hlc),
        direction: Direction,
        subkey: &[u8],
    ) {
        let mut shard = Self::lock(&self.0[usize::from(slot.number()) % self.0.len()]);
        if shard.on {
            shard.ends.found(version, direction, subkey);
        }
    }

    /// A score record is about to be written.
    pub(super) fn put_score(&self, slot: Slot, version: Hlc, subkey: &[u8]) {
        let mut shard = Self::lock(&self.0[usize::from(slot.number()) % self.0.len()]);
        shard.ends.put(version, subkey);
    }

    /// Everything was deleted, or what was written is not known.
    pub(super) fn clear(&self) {
        self.0.iter().for_each(|shard| Self::lock(shard).clear());
    }

    /// Takes over what a batch wrote; `generation` is the data's, from before the commit.
    pub(super) fn learn(&self, overlay: &Overlay, generation: u64) {
        for (hash, cf, key, value) in overlay.records() {
            let Some(mut shard) = self.of(key).filter(|shard| shard.on) else { continue };
            shard.meet(generation);
            let name = Name { hash, family: cf.id() as u8, key };
            match value {
                Some(_) => shard.keep(&name, value),
                None => shard.delete(&name),
            }
        }
    }

    /// Records that were found or known to be absent, and those that the database was asked for.
    pub fn hits_and_misses(&self) -> (u64, u64) {
        self.0.iter().fold((0, 0), |(hits, misses), shard| {
            let shard = Self::lock(shard);
            // What was brought ahead was found by the command that asked for it.
            let found = shard.hits.saturating_sub(shard.ahead);
            (hits + found, misses + shard.misses + shard.ahead)
        })
    }
}
