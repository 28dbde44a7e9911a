//! What a batch has written and not committed yet, so that its later commands read it.

use std::hash::{BuildHasher, Hasher};
use std::sync::LazyLock;

use hashbrown::HashTable;
use keyspace::Cf;

/// Uncommitted records by column family and key. Cleared after each commit, keeping its room, so
/// that a batch in the steady state allocates nothing. What it had goes to the cache then.
///
/// Architecture Invariant: only the worker that owns the slots touches it.
pub(super) struct Overlay {
    arena: Vec<u8>,
    table: HashTable<Record>,
}

struct Record {
    hash: u64,
    cf: Cf,
    key: (usize, usize),
    /// `None`: deleted.
    value: Option<(usize, usize)>,
}

impl Overlay {
    pub(super) fn new() -> Self {
        Self { arena: Vec::new(), table: HashTable::new() }
    }

    /// `None`: this batch has not written it; `Some(None)`: it has deleted it.
    pub(super) fn get(&self, (hash, cf): (u64, Cf), key: &[u8]) -> Option<Option<&[u8]>> {
        if self.table.is_empty() {
            return None;
        }
        let record = self.table.find(hash, |r| r.cf == cf && self.slice(r.key) == key)?;
        Some(record.value.map(|v| self.slice(v)))
    }

    /// Remembers a write; `None` is a delete.
    pub(super) fn set(&mut self, cf: Cf, key: &[u8], value: Option<&[u8]>) {
        let hash = hash(cf, key);
        let value = value.map(|v| append(&mut self.arena, v));
        let arena = &self.arena;
        let found = self.table.find_mut(hash, |r| r.cf == cf && &arena[r.key.0..r.key.1] == key);
        if let Some(record) = found {
            record.value = value;
            return;
        }
        let key = append(&mut self.arena, key);
        self.table.insert_unique(hash, Record { hash, cf, key, value }, |r| r.hash);
    }

    /// What was written last of each record: its hash, family, key and value.
    pub(super) fn records(&self) -> impl Iterator<Item = (u64, Cf, &[u8], Option<&[u8]>)> {
        let value = |record: &Record| record.value.map(|value| self.slice(value));
        self.table.iter().map(move |r| (r.hash, r.cf, self.slice(r.key), value(r)))
    }

    /// Forgets everything; what one large batch needed is given back.
    pub(super) fn clear(&mut self) {
        const KEPT_BYTES_MAX: usize = 4 << 20;
        self.arena.clear();
        self.arena.shrink_to(KEPT_BYTES_MAX);
        self.table.clear();
    }

    fn slice(&self, (from, to): (usize, usize)) -> &[u8] {
        &self.arena[from..to]
    }
}

/// What overlays and caches find a record by. Of chance, so that no client can choose keys that
/// collide.
pub(super) fn hash(cf: Cf, key: &[u8]) -> u64 {
    static STATE: LazyLock<foldhash::fast::RandomState> = LazyLock::new(Default::default);
    let mut hasher = STATE.build_hasher();
    hasher.write_u32(cf.id());
    hasher.write(key);
    hasher.finish()
}

fn append(arena: &mut Vec<u8>, bytes: &[u8]) -> (usize, usize) {
    let from = arena.len();
    arena.extend_from_slice(bytes);
    (from, arena.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_write_is_read_and_families_are_apart() {
        let mut overlay = Overlay::new();
        let get = |overlay: &Overlay, cf| {
            let found = overlay.get((hash(cf, b"k"), cf), b"k");
            found.map(|value| value.map(<[u8]>::to_vec))
        };
        assert_eq!(get(&overlay, Cf::Meta), None);
        overlay.set(Cf::Meta, b"k", Some(b"one"));
        overlay.set(Cf::Meta, b"k", Some(b"two"));
        overlay.set(Cf::Data, b"k", None);
        assert_eq!(get(&overlay, Cf::Meta), Some(Some(b"two".to_vec())));
        assert_eq!(get(&overlay, Cf::Data), Some(None));
        assert_eq!(overlay.records().count(), 2);
        overlay.clear();
        assert_eq!(get(&overlay, Cf::Meta), None);
    }
}
