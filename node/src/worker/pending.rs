//! A worker's uncommitted batch.

use std::sync::Arc;

use hashbrown::HashSet;
use keyspace::{Cf, Hlc};
use rocksdb::WriteBatch;
use wal::batch::{BatchBuilder, HEADER, MAX_BATCH};

use super::cache::Caches;
use super::ordered::{Ordered, Over};
use super::overlay::{Overlay, Written};
use crate::control::Permit;

/// A batch is committed once it holds this many bytes, whatever is still waiting.
pub(super) const BATCH_BYTES_MAX: usize = 4 << 20;
/// A command that would miss records of the batch reads them merged with the database's where there
/// are no more than these, and has more committed first: it may have to pass all of them.
const MERGED_MAX: usize = 16;
/// What a record takes in a batch beside its key and value, at most: tags and lengths.
const RECORD_BYTES: usize = 16;

/// The writes of one batch, as later commands read them; what RocksDB gets is made of them at the
/// commit.
pub(super) struct Pending {
    overlay: Overlay,
    /// Range deletes: they come before all records of the overlay.
    ranges: Vec<(Cf, Vec<u8>, Vec<u8>)>,
    /// What the batch had when a transaction swept everything: it may be taken back.
    before_sweep: Option<Overlay>,
    /// Versions of collections with data records in the batch: an iterator does not see those.
    dirty: HashSet<Hlc, foldhash::fast::FixedState>,
    /// The last one of them.
    dirtied: Option<Hlc>,
    /// Under what the batch was admitted; asked again after the commit.
    permits: Vec<Permit>,
    /// Bytes of the batch, never fewer than it has.
    bytes: usize,
    /// Counts the batches that were taken.
    taken: u64,
    /// What is known of the database; learns what a batch wrote.
    caches: Caches,
    /// A transaction runs: nothing is committed before its end.
    whole: bool,
    /// The transaction has swept everything: nothing of the database is seen.
    blank: bool,
    /// The overlay's records in order, once an iterator asked for them.
    ordered: Option<Arc<Ordered>>,
}

/// Where a command's writes begin in the batch.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    taken: u64,
    bytes: usize,
    written: Written,
    ranges: usize,
}

impl Pending {
    pub(super) fn new(caches: Caches) -> Self {
        Self {
            overlay: Overlay::new(),
            ranges: Vec::new(),
            before_sweep: None,
            dirty: HashSet::default(),
            dirtied: None,
            permits: Vec::new(),
            bytes: HEADER,
            taken: 0,
            caches,
            whole: false,
            blank: false,
            ordered: None,
        }
    }

    pub(super) fn put(&mut self, cf: Cf, key: &[u8], value: &[u8]) {
        self.set(cf, key, Some(value));
    }

    pub(super) fn delete(&mut self, cf: Cf, key: &[u8]) {
        self.set(cf, key, None);
    }

    fn set(&mut self, cf: Cf, key: &[u8], value: Option<&[u8]>) {
        if self.grow(key.len() + value.map_or(0, <[u8]>::len)) {
            return;
        }
        self.overlay.set(cf, key, value);
        if self.ordered.is_some() && !self.whole && self.overlay.len() > MERGED_MAX {
            self.ordered = None;
        }
        if let Some(ordered) = &mut self.ordered {
            // A cursor that is still read keeps what it has.
            Arc::make_mut(ordered).set(cf, key, value);
        }
    }

    /// Deletes a range of what there was before the batch. Its records come after that.
    pub(super) fn delete_range(&mut self, cf: Cf, from: &[u8], to: &[u8]) {
        if !self.grow(from.len() + to.len()) {
            self.ranges.push((cf, from.to_vec(), to.to_vec()));
        }
    }

    /// A transaction begins: until its end all that is written stays in this batch. What was
    /// written before must be such that iterators do not miss it ([`Pending::misleads`]).
    pub(super) fn begin_whole(&mut self) {
        self.whole = true;
    }

    /// The transaction has written all that it will.
    pub(super) fn end_whole(&mut self) {
        (self.whole, self.blank) = (false, false);
        if self.overlay.len() > MERGED_MAX {
            self.ordered = None;
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// The transaction has swept everything.
    pub(super) fn sweep_whole(&mut self) {
        if self.whole {
            let before = std::mem::replace(&mut self.overlay, Overlay::new());
            self.before_sweep.get_or_insert(before);
            (self.blank, self.ordered) = (true, None);
        }
    }

    /// Whether nothing of the database is seen.
    pub(super) fn is_blank(&self) -> bool {
        self.blank
    }

    /// What the batch of a transaction, if there is one, has in a range.
    pub(super) fn over(&mut self, cf: Cf, lower: &[u8], upper: &[u8]) -> Option<Over> {
        self.whole.then(|| Over::new(self.ordered(), cf, (lower, upper), self.blank))
    }

    /// What the batch has in a range of a collection of this version, for an iterator that would
    /// miss it; call it where [`Pending::misleads`] is false of that version.
    pub(super) fn over_collection(
        &mut self,
        (cf, version): (Cf, Hlc),
        lower: &[u8],
        upper: &[u8],
    ) -> Option<Over> {
        let missed = self.whole || self.is_dirty(version);
        missed.then(|| Over::new(self.ordered(), cf, (lower, upper), self.blank))
    }

    fn ordered(&mut self) -> Arc<Ordered> {
        let overlay = &self.overlay;
        self.ordered.get_or_insert_with(|| Arc::new(Ordered::of(overlay))).clone()
    }

    /// Whether an iterator over some collection would miss records of the batch, and these are more
    /// than it should read beside the database's.
    pub(super) fn misleads(&self) -> bool {
        self.is_swept() || !self.dirty.is_empty() && self.overlay.len() > MERGED_MAX
    }

    /// The same of a collection of this version.
    pub(super) fn misleads_about(&self, version: Hlc) -> bool {
        self.misleads() && (self.is_swept() || self.is_dirty(version))
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
        Mark {
            taken: self.taken,
            bytes: self.bytes,
            written: self.overlay.written(),
            ranges: self.ranges.len(),
        }
    }

    /// Drops what was written since the mark.
    pub(super) fn cut_to(&mut self, mark: Mark) {
        if let Some(before) = self.before_sweep.take() {
            self.overlay = before;
        }
        self.ordered = None;
        if mark.taken == self.taken {
            self.overlay.take_back(mark.written);
            self.ranges.truncate(mark.ranges);
            self.bytes = mark.bytes;
        } else {
            self.overlay.clear();
            self.ranges.clear();
            self.bytes = HEADER;
        }
    }

    pub(super) fn get(&self, (hash, cf): (u64, Cf), key: &[u8]) -> Option<Option<&[u8]>> {
        self.overlay.get((hash, cf), key)
    }

    /// What is known of the database.
    pub(super) fn caches(&self) -> &Caches {
        &self.caches
    }

    pub(super) fn mark_dirty(&mut self, version: Hlc) {
        // A command writes many records of a collection.
        if self.dirtied != Some(version) {
            self.dirtied = Some(version);
            self.dirty.insert(version);
        }
    }

    pub(super) fn is_dirty(&self, version: Hlc) -> bool {
        self.dirty.contains(&version)
    }

    /// Whether reads of the database would miss what the batch swept.
    pub(super) fn is_swept(&self) -> bool {
        !self.ranges.is_empty()
    }

    pub(super) fn admit(&mut self, permit: Permit) {
        if self.permits.last() != Some(&permit) {
            self.permits.push(permit);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.overlay.is_empty() && self.ranges.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES_MAX
    }

    /// The batch and its permits, for the commit. Call [`Pending::clear`] when it is known what
    /// became of it.
    pub(super) fn take(&mut self) -> (WriteBatch, Vec<Permit>) {
        let mut batch = BatchBuilder::default();
        for (cf, from, to) in &self.ranges {
            batch.delete_range(*cf, from, to);
        }
        self.overlay.build(&mut batch);
        (WriteBatch::from_data(&batch.finish()), std::mem::take(&mut self.permits))
    }

    /// Starts an empty batch; `became` says what the database has of the last one, and `generation`
    /// which state of the data that was committed to.
    pub(super) fn clear(&mut self, became: Became, generation: u64) {
        match became {
            Became::Nothing => {}
            Became::All if !self.is_swept() => self.caches.learn(&self.overlay, generation),
            Became::All | Became::Unknown => self.caches.clear(),
        }
        self.permits.clear();
        self.overlay.clear();
        self.ranges.clear();
        self.before_sweep = None;
        self.ordered = None;
        self.dirty.clear();
        self.dirtied = None;
        self.bytes = HEADER;
        self.taken += 1;
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
