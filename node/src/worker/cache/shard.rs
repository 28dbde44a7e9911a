//! One worker's cache: an index into an arena, and which collections it has all of.

use keyspace::data::DataKey;
use keyspace::{Cf, Hlc};

use super::arena::{Arena, Name};
use super::ends::Ends;
use super::index::Index;
use super::whole::Whole;

/// The index has this part of the bytes: a bucket of ten places for each 320 bytes of records.
const INDEX_PART: usize = 6;

/// What the cache knows of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Where its value is.
    Value((usize, usize)),
    /// The database has none.
    Absent,
    /// Ask the database.
    Nothing,
}

/// Records as the database has them.
#[derive(Default)]
pub(super) struct Shard {
    /// What it may use in bytes.
    bytes: usize,
    pub(super) on: bool,
    /// It was said whether it is used.
    met: bool,
    /// Which state of the data it is of ([`crate::store::Store::generation`]).
    generation: u64,
    index: Index,
    arena: Arena,
    whole: Whole,
    pub(super) ends: Ends,
    /// Memory was taken: since the first record after it was made or emptied.
    begun: bool,
    pub(super) hits: u64,
    pub(super) misses: u64,
    /// Records that were brought before a command asked for them.
    pub(super) ahead: u64,
    largest: usize,
}

/// The largest record of late is forgotten by this part with each that comes.
const LARGEST_FADES: usize = 64;
/// What is brought ahead may take this part of the cache.
const AHEAD_PART: usize = 8;

impl Shard {
    pub(super) fn new(bytes: usize) -> Self {
        Self { bytes, ..Self::default() }
    }

    /// Forgets everything and gives the memory back.
    pub(super) fn clear(&mut self) {
        if self.begun {
            (self.index, self.arena, self.begun) = (Index::default(), Arena::default(), false);
        }
        self.whole = Whole::default();
        self.ends = Ends::default();
    }

    /// Everything that is of another state of the data goes.
    pub(super) fn meet(&mut self, generation: u64) {
        if self.generation != generation {
            // At the start it has met none, and nothing is in it.
            if self.generation != 0 {
                self.clear();
            }
            self.generation = generation;
        }
    }

    fn begin_empty(&mut self) {
        if !self.begun {
            let index = self.bytes / INDEX_PART;
            self.index = Index::new((index / Index::BUCKET_BYTES).max(1) as u32);
            self.arena = Arena::new(self.bytes - index);
            self.begun = true;
        }
    }

    /// Whether it is used from here on. One that is from the start takes the memory of its index
    /// before anybody waits for it; later that would be a pause.
    pub(super) fn turn(&mut self, on: bool) {
        if !std::mem::replace(&mut self.met, true) && on {
            self.begin_empty();
            self.index.take();
        }
        if self.on && !on {
            self.clear();
        }
        self.on = on;
    }

    /// Looks a record up; `version` is that of the collection which a data record belongs to.
    pub(super) fn find(&mut self, name: &Name<'_>, version: Option<Hlc>) -> Known {
        let arena = &self.arena;
        match self.index.find(name.hash, |place| arena.is(place, name)) {
            Some(place) => {
                self.hits += 1;
                self.arena.visit(place);
                self.arena.value(place).map_or(Known::Absent, Known::Value)
            }
            None if version.is_some_and(|version| self.whole.has(version)) => {
                self.hits += 1;
                Known::Absent
            }
            None => {
                self.misses += 1;
                Known::Nothing
            }
        }
    }

    /// The same without counting it.
    pub(super) fn peek(&mut self, name: &Name<'_>, version: Option<Hlc>) -> Known {
        let arena = &self.arena;
        match self.index.find(name.hash, |place| arena.is(place, name)) {
            Some(place) => arena.value(place).map_or(Known::Absent, Known::Value),
            None if version.is_some_and(|version| self.whole.has(version)) => Known::Absent,
            None => Known::Nothing,
        }
    }

    /// The largest record that came lately, in bytes.
    pub(super) fn largest(&self) -> usize {
        self.largest
    }

    /// What may be brought ahead at once, in bytes.
    pub(super) fn room(&self) -> usize {
        self.bytes / AHEAD_PART
    }

    pub(super) fn value(&self, at: (usize, usize)) -> &[u8] {
        self.arena.slice(at)
    }

    /// A collection begins: nothing of its version is in the database.
    pub(super) fn begin(&mut self, version: Hlc) {
        if self.on {
            self.whole.add(version);
        }
    }

    /// The database has this now, or was found not to have it.
    pub(super) fn keep(&mut self, name: &Name<'_>, value: Option<&[u8]>) {
        let arena = &self.arena;
        let found = self.index.find(name.hash, |place| arena.is(place, name));
        if let Some(place) = found {
            if self.arena.overwrite(place, value) {
                return;
            }
            self.kill(name.hash, place);
        }
        self.keep_new(name, value);
    }

    /// The same of a record of which it knows nothing.
    pub(super) fn keep_new(&mut self, name: &Name<'_>, value: Option<&[u8]>) {
        let size = name.key.len() + value.map_or(0, <[u8]>::len);
        self.largest = size.max(self.largest - self.largest.div_ceil(LARGEST_FADES));
        self.begin_empty();
        let len = value.map_or(0, <[u8]>::len);
        let placed = Arena::size_of(self.bytes, name, len).is_some_and(|size| {
            let place = loop {
                match self.arena.append(name, value, size) {
                    Some(place) => break place,
                    None => self.evict(),
                }
            };
            while let Err(victim) = self.index.insert(name.hash, place) {
                self.forget_at(victim);
            }
            true
        });
        if !placed && value.is_some() {
            self.part(name.family, name.key);
        }
    }

    /// The database has it no more.
    pub(super) fn delete(&mut self, name: &Name<'_>) {
        let arena = &self.arena;
        let Some(place) = self.index.find(name.hash, |place| arena.is(place, name)) else { return };
        // A key is likely to be asked for again, an element or a member is not.
        if name.family == Cf::Meta.id() as u8 && self.arena.overwrite(place, None) {
            return;
        }
        self.kill(name.hash, place);
    }

    fn kill(&mut self, hash: u64, place: u32) {
        self.index.remove(hash, place);
        self.arena.kill(place);
    }

    fn forget_at(&mut self, place: u32) {
        self.kill(self.arena.hash(place), place);
        if self.arena.value(place).is_some() && self.arena.family(place) == Cf::Data.id() as u8 {
            let version = DataKey::decode(self.arena.key(place)).map(|key| key.version);
            version.into_iter().for_each(|version| self.whole.remove(version));
        }
    }

    /// A record is in the database and not here.
    fn part(&mut self, family: u8, key: &[u8]) {
        if family == Cf::Data.id() as u8
            && let Ok(key) = DataKey::decode(key)
        {
            self.whole.remove(key.version);
        }
    }

    /// The oldest record that nobody asked for goes.
    fn evict(&mut self) {
        let index = &mut self.index;
        let oldest = self.arena.oldest(|hash, from, to| index.replace(hash, from, to));
        if let Some(oldest) = oldest {
            if !oldest.dead {
                self.forget_at(oldest.place);
            }
            self.arena.drop_oldest();
        }
    }
}
