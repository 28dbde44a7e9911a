//! A worker's uncommitted batch.

use hashbrown::HashSet;
use keyspace::{Cf, Hlc};
use rocksdb::WriteBatch;

use super::overlay::Overlay;
use crate::control::Permit;
use crate::store::Store;

/// A batch is committed once it holds this many bytes, whatever is still waiting.
pub(super) const BATCH_BYTES_MAX: usize = 4 << 20;

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
}

impl Pending {
    pub(super) fn new() -> Self {
        Self {
            batch: WriteBatch::default(),
            overlay: Overlay::new(),
            dirty: HashSet::default(),
            swept: false,
            permits: Vec::new(),
        }
    }

    pub(super) fn put(&mut self, store: &Store, cf: Cf, key: &[u8], value: &[u8]) {
        self.batch.put_cf(store.cf(cf), key, value);
        if cf != Cf::Score {
            self.overlay.set(cf, key, Some(value));
        }
    }

    pub(super) fn delete(&mut self, store: &Store, cf: Cf, key: &[u8]) {
        self.batch.delete_cf(store.cf(cf), key);
        if cf != Cf::Score {
            self.overlay.set(cf, key, None);
        }
    }

    pub(super) fn delete_range(&mut self, store: &Store, cf: Cf, from: &[u8], to: &[u8]) {
        self.batch.delete_range_cf(store.cf(cf), from, to);
        self.swept = true;
    }

    pub(super) fn get(&self, cf: Cf, key: &[u8]) -> Option<Option<&[u8]>> {
        self.overlay.get(cf, key)
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
        self.overlay.bytes() >= BATCH_BYTES_MAX
    }

    /// Takes the batch and its permits out for the commit, and starts an empty one.
    pub(super) fn take(&mut self) -> (WriteBatch, Vec<Permit>) {
        self.overlay.clear();
        self.dirty.clear();
        self.swept = false;
        (std::mem::take(&mut self.batch), std::mem::take(&mut self.permits))
    }
}
