//! A worker's uncommitted batch.

use hashbrown::HashSet;
use keyspace::{Cf, Hlc};
use rocksdb::WriteBatch;
use wal::batch::{HEADER, MAX_BATCH};

use super::cache::{Caches, Learn};
use super::ordered::{Ordered, Over};
use super::overlay::Overlay;
use crate::control::Permit;
use crate::store::Store;

/// A batch is committed once it holds this many bytes, whatever is still waiting.
pub(super) const BATCH_BYTES_MAX: usize = 4 << 20;
/// What a record takes in a batch beside its key and value, at most: tags and lengths.
const RECORD_BYTES: usize = 16;

/// The writes of one batch, as RocksDB wants them and as later commands read them.
pub(super) struct Pending {
    batch: WriteBatch,
    overlay: Overlay,
    /// Versions of collections with data records in the batch: an iterator does not see those.
    dirty: HashSet<Hlc, foldhash::fast::FixedState>,
    /// Range deletes are in the batch: no read of the database is to be trusted.
    swept: bool,
    /// Under what the batch was admitted; asked again after the commit.
    permits: Vec<Permit>,
    /// Bytes of the batch, never fewer than it has.
    bytes: usize,
    /// Counts the batches that were taken.
    taken: u64,
    /// What is known of the database; learns what a batch wrote.
    caches: Caches,
    /// Writes were cut off which the overlay still has.
    cut: bool,
    /// A transaction runs: what it has written, and nothing is committed before its end.
    whole: Option<Ordered>,
}

/// Where a command's writes begin in the batch.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    taken: u64,
    len: usize,
    count: u32,
}

impl Pending {
    pub(super) fn new(caches: Caches) -> Self {
        Self {
            batch: WriteBatch::default(),
            overlay: Overlay::new(),
            dirty: HashSet::default(),
            swept: false,
            permits: Vec::new(),
            bytes: HEADER,
            taken: 0,
            caches,
            cut: false,
            whole: None,
        }
    }

    pub(super) fn put(&mut self, store: &Store, cf: Cf, key: &[u8], value: &[u8]) {
        if self.grow(key.len() + value.len()) {
            return;
        }
        self.batch.put_cf(store.cf(cf), key, value);
        if let Some(whole) = &mut self.whole {
            whole.set(cf, key, Some(value));
        }
        if cf != Cf::Score {
            self.overlay.set(cf, key, Some(value));
        }
    }

    pub(super) fn delete(&mut self, store: &Store, cf: Cf, key: &[u8]) {
        if self.grow(key.len()) {
            return;
        }
        self.batch.delete_cf(store.cf(cf), key);
        if let Some(whole) = &mut self.whole {
            whole.set(cf, key, None);
        }
        if cf != Cf::Score {
            self.overlay.set(cf, key, None);
        }
    }

    pub(super) fn delete_range(&mut self, store: &Store, cf: Cf, from: &[u8], to: &[u8]) {
        if self.grow(from.len() + to.len()) {
            return;
        }
        self.batch.delete_range_cf(store.cf(cf), from, to);
        self.swept = true;
    }

    /// A transaction begins: until its end all that is written stays in this batch. What was
    /// written before must be such that iterators do not miss it ([`Pending::misleads`]).
    pub(super) fn begin_whole(&mut self) {
        self.whole = Some(Ordered::default());
    }

    /// The transaction has written all that it will.
    pub(super) fn end_whole(&mut self) {
        self.whole = None;
    }

    pub(super) fn is_whole(&self) -> bool {
        self.whole.is_some()
    }

    /// The transaction has swept everything.
    pub(super) fn sweep_whole(&mut self) {
        if let Some(whole) = &mut self.whole {
            self.overlay.clear();
            whole.sweep();
        }
    }

    /// Whether nothing of the database is seen.
    pub(super) fn is_blank(&self) -> bool {
        self.whole.as_ref().is_some_and(Ordered::is_blank)
    }

    /// What the transaction, if there is one, has written in a range.
    pub(super) fn over(&self, cf: Cf, lower: &[u8], upper: &[u8]) -> Option<Over> {
        self.whole.as_ref().map(|whole| whole.over(cf, lower, upper))
    }

    /// Whether an iterator over some collection would miss records of the batch.
    pub(super) fn misleads(&self) -> bool {
        self.swept || !self.dirty.is_empty()
    }

    /// Counts a record. True: the batch is past the limit and takes no more; the command that did it
    /// is refused when it has ended.
    fn grow(&mut self, bytes: usize) -> bool {
        self.bytes = self.bytes.saturating_add(bytes + RECORD_BYTES);
        self.is_too_great()
    }

    /// Whether the last command wrote more than one batch may hold.
    pub(super) fn is_too_great(&self) -> bool {
        self.bytes > MAX_BATCH
    }

    /// Where the next command's writes begin.
    pub(super) fn mark(&self) -> Mark {
        let count = u32::try_from(self.batch.len()).unwrap_or(u32::MAX);
        Mark { taken: self.taken, len: self.batch.size_in_bytes(), count }
    }

    /// Drops what was written since the mark. The overlay still has it: commit next.
    pub(super) fn cut_to(&mut self, mark: Mark) {
        let here = mark.taken == self.taken;
        let (len, count) = if here { (mark.len, mark.count) } else { (HEADER, 0) };
        let mut kept = self.batch.data()[..len].to_vec();
        kept[HEADER - size_of::<u32>()..HEADER].copy_from_slice(&count.to_le_bytes());
        self.batch = WriteBatch::from_data(&kept);
        self.bytes = len;
        self.cut = true;
    }

    pub(super) fn get(&self, (hash, cf): (u64, Cf), key: &[u8]) -> Option<Option<&[u8]>> {
        self.overlay.get((hash, cf), key)
    }

    /// What is known of the database.
    pub(super) fn caches(&self) -> &Caches {
        &self.caches
    }

    pub(super) fn mark_dirty(&mut self, version: Hlc) {
        self.dirty.insert(version);
    }

    pub(super) fn is_dirty(&self, version: Hlc) -> bool {
        self.dirty.contains(&version)
    }

    /// Whether reads of the database would miss what the batch swept.
    pub(super) fn is_swept(&self) -> bool {
        self.swept
    }

    pub(super) fn admit(&mut self, permit: Permit) {
        if self.permits.last() != Some(&permit) {
            self.permits.push(permit);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES_MAX
    }

    /// Takes the batch and its permits out for the commit. Call [`Pending::clear`] when it is known
    /// what became of it.
    pub(super) fn take(&mut self) -> (WriteBatch, Vec<Permit>) {
        self.bytes = HEADER;
        self.taken += 1;
        (std::mem::take(&mut self.batch), std::mem::take(&mut self.permits))
    }

    /// Starts an empty batch; `became` says what the database has of the last one, and `generation`
    /// which state of the data that was committed to.
    pub(super) fn clear(&mut self, became: Became, generation: u64) {
        let learn = match became {
            Became::Nothing => None,
            Became::All if self.swept => Some(Learn::Nothing),
            Became::All if self.cut => Some(Learn::Some),
            Became::All => Some(Learn::All),
            Became::Unknown => Some(Learn::Nothing),
        };
        if let Some(learn) = learn {
            self.caches.learn(&self.overlay, learn, generation);
        }
        self.overlay.clear();
        self.dirty.clear();
        self.swept = false;
        self.cut = false;
    }
}

/// What the database has of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Became {
    All,
    Nothing,
    /// All of it or nothing.
    Unknown,
}
