//! A reclaim view: the metadata as it was at one position.

use std::sync::Arc;
use std::time::Instant;

use hashbrown::HashMap;
use keyspace::meta::{self, Body, Meta};
use keyspace::{Cf, Hlc, Slot, SlotSet};
use rocksdb::{DB, ReadOptions};
use topology::ShardName;
use wal::{Position, Sequence, ViewMark};

use super::pinned::Pinned;

/// The keys of one slot are kept in memory while a compaction passes, if they are at most so many.
const SLOT_KEYS_MAX: usize = 65_536;
/// And if their names are at most so many bytes.
const SLOT_BYTES_MAX: usize = 8 << 20;

/// Which collections a slot has, by name, with the version of each.
pub(super) type Names = HashMap<Box<[u8]>, Hlc, foldhash::fast::FixedState>;

/// The metadata at a position that a primary announced in its log.
pub struct ReclaimView {
    /// Whose log it was announced in; none: this node's own.
    pub source: Option<ShardName>,
    /// The end of the batch that announced it, in that log.
    pub at: Position,
    /// The end of this node's log at that point.
    pub local: Sequence,
    /// What the batch says.
    pub mark: ViewMark,
    /// The slots that it speaks of.
    pub slots: SlotSet,
    /// When it was taken.
    pub taken: Instant,
    /// A stamp that was given after it was taken: who began to read at a later one sees no more
    /// than it does.
    pub(in crate::store) after: Hlc,
    /// Every follower has it, as the log says.
    pub(super) released: bool,
    pinned: Pinned,
}

impl ReclaimView {
    pub(in crate::store) fn new(
        db: Arc<DB>,
        source: Option<ShardName>,
        at: Position,
        mark: ViewMark,
        slots: SlotSet,
    ) -> Self {
        let local = Sequence(db.latest_sequence_number());
        let pinned = Pinned::new(db);
        let taken = Instant::now();
        Self { source, at, local, mark, slots, taken, after: Hlc(0), released: false, pinned }
    }

    /// Whether it names a collection of this key and version. An error names everything: what
    /// cannot be known to be garbage stays.
    pub(super) fn names(
        &self,
        slot: Slot,
        key: &[u8],
        version: Hlc,
        scratch: &mut Vec<u8>,
    ) -> bool {
        scratch.clear();
        meta::encode_key(slot, key, scratch);
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        let Some(cf) = self.pinned.db().cf_handle(Cf::Meta.name()) else { return true };
        let found = self.pinned.snapshot().get_pinned_cf_opt(cf, scratch, options);
        match found.as_ref().map(|value| value.as_deref().map(Meta::decode)) {
            Ok(None) => false,
            Ok(Some(Ok(meta))) => self.version_of(&meta) == Some(version),
            Ok(Some(Err(_))) | Err(_) => true,
        }
    }

    /// All collections of a slot; `None`: they are too many, or cannot be read.
    pub(super) fn collections(&self, slot: Slot) -> Option<Names> {
        let cf = self.pinned.db().cf_handle(Cf::Meta.name())?;
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        options.set_total_order_seek(true);
        options.set_iterate_upper_bound((slot.number() + 1).to_be_bytes().to_vec());
        let mut keys = self.pinned.snapshot().raw_iterator_cf_opt(cf, options);
        keys.seek(slot.prefix());
        let mut names = Names::default();
        let (mut seen, mut bytes) = (0, 0);
        while let Some((key, value)) = keys.item() {
            let (_, name) = meta::decode_key(key).ok()?;
            if let Some(version) = self.version_of(&Meta::decode(value).ok()?) {
                bytes += name.len();
                names.insert(name.into(), version);
            }
            seen += 1;
            if seen > SLOT_KEYS_MAX || bytes > SLOT_BYTES_MAX {
                return None;
            }
            keys.next();
        }
        keys.status().ok().map(|()| names)
    }

    /// The version that a meta record names: none for a string, and for what had expired.
    fn version_of(&self, meta: &Meta<'_>) -> Option<Hlc> {
        match &meta.body {
            Body::Collection(at) if meta.is_live(self.mark.horizon_ms) => Some(at.version),
            _ => None,
        }
    }
}

impl std::fmt::Debug for ReclaimView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReclaimView")
            .field("source", &self.source)
            .field("at", &self.at)
            .field("local", &self.local)
            .finish_non_exhaustive()
    }
}
