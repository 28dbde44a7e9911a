//! What a batch writes: so that its later commands read it, and so that each record is in the log
//! once, however often the batch wrote it.

use std::hash::{BuildHasher, Hasher};
use std::sync::LazyLock;

use hashbrown::HashTable;
use keyspace::Cf;
use wal::batch::BatchBuilder;

/// Uncommitted records by column family and key. Cleared after each commit, keeping its room, so
/// that a batch in the steady state allocates nothing. What it had goes to the cache then.
///
/// Architecture Invariant: only the worker that owns the slots touches it.
pub(super) struct Overlay {
    arena: Vec<u8>,
    records: Vec<Record>,
    /// Indices of records; not of those of the score family, which are never looked up.
    table: HashTable<u32>,
    /// What each write was over, so that the last ones can be taken back.
    undo: Vec<Undo>,
    /// Kept for its room: the order in which the records are written.
    order: Vec<(u64, u32)>,
}

type Span = (usize, usize);

struct Record {
    hash: u64,
    cf: Cf,
    key: Span,
    /// `None`: deleted.
    value: Option<Span>,
}

enum Undo {
    /// The last record is new.
    Added,
    /// A record had this.
    Changed { index: u32, value: Option<Span> },
}

/// How much had been written.
#[derive(Clone, Copy)]
pub(super) struct Written(usize);

impl Overlay {
    pub(super) fn new() -> Self {
        Self {
            arena: Vec::new(),
            records: Vec::new(),
            table: HashTable::new(),
            undo: Vec::new(),
            order: Vec::new(),
        }
    }

    /// `None`: this batch has not written it; `Some(None)`: it has deleted it.
    pub(super) fn get(&self, (hash, cf): (u64, Cf), key: &[u8]) -> Option<Option<&[u8]>> {
        if self.table.is_empty() {
            return None;
        }
        let is = |&index: &u32| self.records[index as usize].is(&self.arena, cf, key);
        let record = &self.records[*self.table.find(hash, is)? as usize];
        Some(record.value.map(|value| self.slice(value)))
    }

    /// Remembers a write; `None` is a delete.
    pub(super) fn set(&mut self, cf: Cf, key: &[u8], value: Option<&[u8]>) {
        let value = value.map(|value| append(&mut self.arena, value));
        let mut hash = 0;
        if cf != Cf::Score {
            hash = self::hash(cf, key);
            let (records, arena) = (&self.records, &self.arena);
            let is = |&index: &u32| records[index as usize].is(arena, cf, key);
            if let Some(&index) = self.table.find(hash, is) {
                let before = std::mem::replace(&mut self.records[index as usize].value, value);
                self.undo.push(Undo::Changed { index, value: before });
                return;
            }
            let records = &self.records;
            let rehash = |&index: &u32| records[index as usize].hash;
            self.table.insert_unique(hash, records.len() as u32, rehash);
        }
        let key = append(&mut self.arena, key);
        self.records.push(Record { hash, cf, key, value });
        self.undo.push(Undo::Added);
    }

    /// What was written last of each record that can be looked up: hash, family, key and value.
    pub(super) fn records(&self) -> impl Iterator<Item = (u64, Cf, &[u8], Option<&[u8]>)> {
        let known = self.records.iter().filter(|record| record.cf != Cf::Score);
        let value = |record: &Record| record.value.map(|value| self.slice(value));
        known.map(move |r| (r.hash, r.cf, self.slice(r.key), value(r)))
    }

    /// Every record, in the order of their first writes; one of the score family more than once,
    /// where it was written so.
    pub(super) fn all(&self) -> impl Iterator<Item = (Cf, &[u8], Option<&[u8]>)> {
        let value = |record: &Record| record.value.map(|value| self.slice(value));
        self.records.iter().map(move |r| (r.cf, self.slice(r.key), value(r)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// How much was written until now.
    pub(super) fn written(&self) -> Written {
        Written(self.undo.len())
    }

    /// Takes back what was written since.
    pub(super) fn take_back(&mut self, to: Written) {
        while self.undo.len() > to.0 {
            match self.undo.pop() {
                Some(Undo::Changed { index, value }) => self.records[index as usize].value = value,
                Some(Undo::Added) => {
                    let index = self.records.len() as u32 - 1;
                    let record = self.records.pop().expect("it was added");
                    if let Ok(found) = self.table.find_entry(record.hash, |&at| at == index) {
                        found.remove();
                    }
                }
                None => {}
            }
        }
    }

    /// Adds all records to a batch, each as it was written last, in the order of their families and
    /// keys: RocksDB finds the place of one near that of the one before.
    pub(super) fn build(&mut self, batch: &mut BatchBuilder) {
        let (records, arena) = (&self.records, &self.arena);
        let key = |index: u32| {
            let (from, to) = records[index as usize].key;
            &arena[from..to]
        };
        for cf in Cf::ALL {
            let of_family = (0..records.len() as u32).filter(|&at| records[at as usize].cf == cf);
            // What all keys begin with, as those of one collection do, says nothing of their order.
            let Some(common) = of_family.clone().map(key).reduce(common_prefix) else { continue };
            self.order.clear();
            self.order.extend(of_family.map(|index| (leading(&key(index)[common.len()..]), index)));
            // One that was written several times without being looked up stands in the order of its
            // writes.
            self.order.sort_unstable_by(|a, b| {
                a.0.cmp(&b.0).then_with(|| key(a.1).cmp(key(b.1))).then(a.1.cmp(&b.1))
            });
            for (at, &(_, index)) in self.order.iter().enumerate() {
                let is_same = |&(_, next): &(u64, u32)| key(next) == key(index);
                if cf == Cf::Score && self.order.get(at + 1).is_some_and(is_same) {
                    continue;
                }
                match records[index as usize].value {
                    Some((from, to)) => batch.put(cf, key(index), &arena[from..to]),
                    None => batch.delete(cf, key(index)),
                };
            }
        }
    }

    /// Forgets everything; what one large batch needed is given back.
    pub(super) fn clear(&mut self) {
        const KEPT_BYTES_MAX: usize = 4 << 20;
        const KEPT_RECORDS_MAX: usize = 64 << 10;
        self.arena.clear();
        self.arena.shrink_to(KEPT_BYTES_MAX);
        self.table.clear();
        self.records.clear();
        self.undo.clear();
        if self.records.capacity() > KEPT_RECORDS_MAX {
            self.table.shrink_to(0, |_| 0);
            self.records.shrink_to(KEPT_RECORDS_MAX);
            self.undo.shrink_to(KEPT_RECORDS_MAX);
            self.order = Vec::new();
        }
    }

    fn slice(&self, (from, to): Span) -> &[u8] {
        &self.arena[from..to]
    }
}

impl Record {
    fn is(&self, arena: &[u8], cf: Cf, key: &[u8]) -> bool {
        self.cf == cf && &arena[self.key.0..self.key.1] == key
    }
}

/// What both begin with.
fn common_prefix<'k>(prefix: &'k [u8], key: &'k [u8]) -> &'k [u8] {
    if key.starts_with(prefix) {
        return prefix;
    }
    &prefix[..prefix.iter().zip(key).take_while(|(a, b)| a == b).count()]
}

/// The first bytes, as a number that is in their order.
fn leading(bytes: &[u8]) -> u64 {
    let mut first = [0; 8];
    let length = bytes.len().min(first.len());
    first[..length].copy_from_slice(&bytes[..length]);
    u64::from_be_bytes(first)
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

fn append(arena: &mut Vec<u8>, bytes: &[u8]) -> Span {
    let from = arena.len();
    arena.extend_from_slice(bytes);
    (from, arena.len())
}

#[cfg(test)]
mod tests {
    use wal::batch::{BatchRef, Record};

    use super::*;

    fn get(overlay: &Overlay, cf: Cf, key: &[u8]) -> Option<Option<Vec<u8>>> {
        let found = overlay.get((hash(cf, key), cf), key);
        found.map(|value| value.map(<[u8]>::to_vec))
    }

    #[test]
    fn the_last_write_is_read_and_families_are_apart() {
        let mut overlay = Overlay::new();
        assert_eq!(get(&overlay, Cf::Meta, b"k"), None);
        overlay.set(Cf::Meta, b"k", Some(b"one"));
        overlay.set(Cf::Meta, b"k", Some(b"two"));
        overlay.set(Cf::Data, b"k", None);
        assert_eq!(get(&overlay, Cf::Meta, b"k"), Some(Some(b"two".to_vec())));
        assert_eq!(get(&overlay, Cf::Data, b"k"), Some(None));
        assert_eq!(overlay.records().count(), 2);
        overlay.clear();
        assert_eq!(get(&overlay, Cf::Meta, b"k"), None);
        assert!(overlay.is_empty());
    }

    #[test]
    fn what_is_taken_back_was_never_there() {
        let mut overlay = Overlay::new();
        overlay.set(Cf::Meta, b"k", Some(b"one"));
        let before = overlay.written();
        overlay.set(Cf::Meta, b"k", None);
        overlay.set(Cf::Data, b"other", Some(b"two"));
        overlay.set(Cf::Score, b"third", Some(b""));
        overlay.set(Cf::Meta, b"k", Some(b"four"));
        overlay.take_back(before);
        assert_eq!(get(&overlay, Cf::Meta, b"k"), Some(Some(b"one".to_vec())));
        assert_eq!(get(&overlay, Cf::Data, b"other"), None);
        overlay.set(Cf::Data, b"other", Some(b"five"));
        assert_eq!(get(&overlay, Cf::Data, b"other"), Some(Some(b"five".to_vec())));
        let mut batch = BatchBuilder::default();
        overlay.build(&mut batch);
        assert_eq!(batch.count(), 2);
    }

    #[test]
    fn records_are_in_the_order_of_their_families_and_keys() {
        let mut overlay = Overlay::new();
        let name = |number: u32| format!("a-long-name-that-all-begin-with:{number}").into_bytes();
        let mut wanted = Vec::new();
        for number in [17, 3, 170, 1, 20, 2] {
            for cf in [Cf::Data, Cf::Meta] {
                overlay.set(cf, &name(number), Some(b"v"));
                wanted.push((cf.id(), name(number)));
            }
        }
        overlay.set(Cf::Meta, b"a", None);
        wanted.push((Cf::Meta.id(), b"a".to_vec()));
        wanted.sort();
        let mut batch = BatchBuilder::default();
        overlay.build(&mut batch);
        let bytes = batch.finish();
        let found: Vec<_> = BatchRef::parse(&bytes)
            .unwrap()
            .records()
            .map(|record| match record {
                Record::Put { cf, key, .. } | Record::Delete { cf, key } => (cf.id(), key.to_vec()),
                _ => panic!("nothing else was written"),
            })
            .collect();
        assert_eq!(found, wanted);
    }

    #[test]
    fn a_batch_has_each_record_once_as_it_was_written_last() {
        let mut overlay = Overlay::new();
        for (cf, key, value) in [
            (Cf::Score, &b"b"[..], Some(&b""[..])),
            (Cf::Meta, b"b", Some(b"1")),
            (Cf::Score, b"b", None),
            (Cf::Meta, b"a", None),
            (Cf::Score, b"a", None),
            (Cf::Score, b"a", Some(b"")),
            (Cf::Meta, b"b", Some(b"2")),
        ] {
            overlay.set(cf, key, value);
        }
        let mut batch = BatchBuilder::default();
        overlay.build(&mut batch);
        let bytes = batch.finish();
        let mut found = Vec::new();
        for record in BatchRef::parse(&bytes).unwrap().records() {
            found.push(match record {
                Record::Put { cf, key, value } => (cf, key.to_vec(), Some(value.to_vec())),
                Record::Delete { cf, key } => (cf, key.to_vec(), None),
                _ => panic!("nothing else was written"),
            });
        }
        found.sort_by_key(|(cf, key, _)| (cf.id(), key.clone()));
        assert_eq!(
            found,
            [
                (Cf::Meta, b"a".to_vec(), None),
                (Cf::Meta, b"b".to_vec(), Some(b"2".to_vec())),
                (Cf::Score, b"a".to_vec(), Some(b"".to_vec())),
                (Cf::Score, b"b".to_vec(), None),
            ]
        );
    }
}
