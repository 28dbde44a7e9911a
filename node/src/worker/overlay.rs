//! What a batch has written and not committed yet, so that its later commands read it.

use hashbrown::HashTable;
use keyspace::Cf;

/// Uncommitted records by column family and key. Cleared after each commit, keeping its room, so
/// that a batch in the steady state allocates nothing.
///
/// Architecture Invariant: only the worker that owns the slots touches it. A cache of decoded
/// values belongs beside it: filled on commit where this is cleared, asked after it and before the
/// database.
pub(super) struct Overlay {
    arena: Vec<u8>,
    table: HashTable<Record>,
    hasher: foldhash::fast::FixedState,
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
        let hasher = foldhash::fast::FixedState::default();
        Self { arena: Vec::new(), table: HashTable::new(), hasher }
    }

    /// `None`: this batch has not written it; `Some(None)`: it has deleted it.
    pub(super) fn get(&self, cf: Cf, key: &[u8]) -> Option<Option<&[u8]>> {
        if self.table.is_empty() {
            return None;
        }
        let hash = self.hash(cf, key);
        let record = self.table.find(hash, |r| r.cf == cf && self.slice(r.key) == key)?;
        Some(record.value.map(|v| self.slice(v)))
    }

    /// Remembers a write; `None` is a delete.
    pub(super) fn set(&mut self, cf: Cf, key: &[u8], value: Option<&[u8]>) {
        let hash = self.hash(cf, key);
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

    /// Bytes that it holds.
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

    fn hash(&self, cf: Cf, key: &[u8]) -> u64 {
        use std::hash::{BuildHasher, Hasher};
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u32(cf.id());
        hasher.write(key);
        hasher.finish()
    }
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
        assert_eq!(overlay.get(Cf::Meta, b"k"), None);
        overlay.set(Cf::Meta, b"k", Some(b"one"));
        overlay.set(Cf::Meta, b"k", Some(b"two"));
        overlay.set(Cf::Data, b"k", None);
        assert_eq!(overlay.get(Cf::Meta, b"k"), Some(Some(&b"two"[..])));
        assert_eq!(overlay.get(Cf::Data, b"k"), Some(None));
        overlay.clear();
        assert_eq!(overlay.get(Cf::Meta, b"k"), None);
    }
}
