//! The compaction filters: they drop what the view in use says that nobody can need.
//!
//! RocksDB asks about the newest record of each key that a compaction meets, in the order of the
//! keys, and heeds no snapshot. A record that is dropped above others becomes a tombstone, so
//! nothing older comes back.

use std::ffi::CStr;
use std::sync::Arc;

use keyspace::data::{self, DataKey};
use keyspace::meta::Meta;
use keyspace::{Cf, Slot};
use rocksdb::CompactionDecision as Decision;
use rocksdb::compaction_filter::CompactionFilter;
use rocksdb::compaction_filter_factory::{CompactionFilterContext, CompactionFilterFactory};

use super::view::Names;
use super::{Dropped, Reclaim};

/// So many collections of a slot are looked up one by one; then all of its names are read at once,
/// in the order of the keys.
const LOOKUPS_MAX: u32 = 8;

/// Makes the filters of one column family.
pub(in crate::store) struct Factory {
    reclaim: Arc<Reclaim>,
    cf: Cf,
}

impl Factory {
    pub(in crate::store) const fn new(reclaim: Arc<Reclaim>, cf: Cf) -> Self {
        Self { reclaim, cf }
    }
}

impl CompactionFilterFactory for Factory {
    type Filter = Filter;

    fn create(&mut self, _: CompactionFilterContext) -> Filter {
        Filter {
            on: self.reclaim.is_on(),
            generation: self.reclaim.generation(),
            reclaim: self.reclaim.clone(),
            cf: self.cf,
            prefix: Vec::new(),
            garbage: false,
            slot: None,
            horizon_ms: None,
            lookups: 0,
            names: SlotNames::Unread,
            scratch: Vec::new(),
            dropped: Dropped::default(),
        }
    }

    fn name(&self) -> &CStr {
        c"godwit-reclaim"
    }
}

/// What is known of the slot that the compaction passes.
enum SlotNames {
    Unread,
    TooMany,
    Read(Names),
}

/// The filter of one compaction.
pub(in crate::store) struct Filter {
    reclaim: Arc<Reclaim>,
    cf: Cf,
    /// There was a view when the compaction began; without one it drops nothing.
    on: bool,
    /// Which views the rest was read from.
    generation: u64,
    /// What the records of the collection that was judged last begin with, and the judgement.
    prefix: Vec<u8>,
    garbage: bool,
    slot: Option<Slot>,
    /// Of the view of that slot, if there is one.
    horizon_ms: Option<u64>,
    lookups: u32,
    names: SlotNames,
    scratch: Vec<u8>,
    dropped: Dropped,
}

impl Filter {
    /// Forgets what was read from views that are in use no more.
    fn refresh(&mut self) {
        let now = self.reclaim.generation();
        if now != self.generation {
            self.generation = now;
            self.prefix.clear();
            self.slot = None;
            self.names = SlotNames::Unread;
        }
    }

    fn enter(&mut self, slot: Slot) {
        if self.slot == Some(slot) {
            return;
        }
        self.slot = Some(slot);
        self.horizon_ms = self.reclaim.view_of(slot, |view| view.mark.horizon_ms);
        self.lookups = 0;
        self.names = SlotNames::Unread;
    }

    /// Whether a data or score record is of a collection that the view does not name.
    fn is_garbage(&mut self, key: &[u8]) -> bool {
        if !self.prefix.is_empty() && key.starts_with(&self.prefix) {
            return self.garbage;
        }
        let Ok(record) = DataKey::decode(key) else { return false };
        self.enter(record.slot);
        self.garbage = self.judge(&record);
        let prefix = &key[..data::prefix_len(record.key.len())];
        self.prefix.clear();
        self.prefix.extend_from_slice(prefix);
        self.garbage
    }

    fn judge(&mut self, record: &DataKey<'_>) -> bool {
        if self.horizon_ms.is_none() {
            return false;
        }
        let Self { reclaim, names, lookups, scratch, .. } = self;
        let judged = reclaim.view_of(record.slot, |view| {
            if record.version >= view.mark.bound {
                return false;
            }
            *lookups += 1;
            if *lookups > LOOKUPS_MAX && matches!(names, SlotNames::Unread) {
                let read = view.collections(record.slot);
                *names = read.map_or(SlotNames::TooMany, SlotNames::Read);
            }
            match names {
                SlotNames::Read(names) => names.get(record.key) != Some(&record.version),
                _ => !view.names(record.slot, record.key, record.version, scratch),
            }
        });
        judged.unwrap_or(false)
    }

    /// Whether a meta record had expired by the view's horizon.
    fn is_expired(&mut self, key: &[u8], value: &[u8]) -> bool {
        let Some(slot) = Slot::of_encoded(key) else { return false };
        self.enter(slot);
        let Some(horizon_ms) = self.horizon_ms else { return false };
        Meta::decode(value).is_ok_and(|meta| !meta.is_live(horizon_ms))
    }
}

impl CompactionFilter for Filter {
    fn filter(&mut self, _level: u32, key: &[u8], value: &[u8]) -> Decision {
        if !self.on {
            return Decision::Keep;
        }
        self.refresh();
        let drop = match self.cf {
            Cf::Meta => self.is_expired(key, value),
            Cf::Data | Cf::Score => self.is_garbage(key),
            Cf::System => false,
        };
        if !drop {
            return Decision::Keep;
        }
        self.dropped.records += 1;
        self.dropped.bytes += (key.len() + value.len()) as u64;
        Decision::Remove
    }

    fn name(&self) -> &CStr {
        c"godwit-reclaim"
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        self.reclaim.count(self.dropped);
    }
}
