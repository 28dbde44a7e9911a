//! What whole slots hold: measured, exported piece by piece, and listed.

use std::ops::ControlFlow;

use admin::{Code, ExportedSlots, Measured, StampedKeys};
use keyspace::meta::{self, Body, Meta};
use keyspace::{Cf, Hlc, Slot, SlotSet, data};
use rocksdb::{DB, Range, ReadOptions, SnapshotWithThreadMode, WriteBatch};
use wal::batch::MAX_BATCH;

use super::{Control, Fault};
use crate::store::Store;

/// An answer of `GODWIT.SLOTS EXPORT` ends after the key with which it has this many bytes.
const EXPORT_BYTES: usize = 4 << 20;
/// Keys of one answer of `GODWIT.SLOTS STAMPED`, and bytes of their names.
const KEYS_AT_A_TIME: usize = 4096;
const KEY_BYTES_AT_A_TIME: usize = 1 << 20;

impl Control {
    /// Estimates what the slots hold.
    pub(super) fn measure(&self, slots: &SlotSet) -> Result<Measured, Fault> {
        let store = self.store()?;
        let mut measured = Measured::default();
        let bounds: Vec<_> = slots.ranges().iter().map(|r| bounds(r.first, r.last)).collect();
        let ranges: Vec<_> = bounds.iter().map(|(from, to)| Range::new(from, to)).collect();
        let held = self.own_slots(self.turn().record.as_ref().map(|(record, _)| record));
        let held = held.unwrap_or_else(|_| SlotSet::all()).len().max(1) as u64;
        for cf in Cf::ALL.into_iter().filter(|cf| cf.is_shipped()) {
            let number = |name: &str| -> Result<u64, Fault> {
                Ok(store.db().property_int_value_cf(store.cf(cf), name)?.unwrap_or_default())
            };
            let memory = number("rocksdb.cur-size-all-mem-tables")?;
            measured.all_bytes += number("rocksdb.live-sst-files-size")? + memory;
            // What is in memory is not told by range: it counts by the number of slots.
            let part = slots.len() as u64;
            measured.bytes += (memory.saturating_mul(part) / held).min(memory);
            let sizes = store.db().get_approximate_sizes_cf(store.cf(cf), &ranges);
            measured.bytes += sizes.into_iter().sum::<u64>();
            if cf == Cf::Meta {
                measured.all_keys = number("rocksdb.estimate-num-keys")?;
            }
        }
        Ok(measured)
    }

    /// The records of the next keys of these slots, as of one position: of each key all, of its
    /// present version. A key whose records are more than one batch may be is refused.
    pub(super) fn export_slots(
        &self,
        slots: &SlotSet,
        after: &[u8],
    ) -> Result<ExportedSlots, Fault> {
        let store = self.store()?;
        let exclusive = store.exclusive();
        let position = exclusive.position();
        let snapshot = store.db().snapshot();
        drop(exclusive);
        let (mut batch, mut next) = (WriteBatch::default(), None);
        each_key(&store, &snapshot, slots, after, |raw, slot, key, value| {
            batch.put_cf(store.cf(Cf::Meta), raw, value);
            records_of(&store, &snapshot, slot, key, value, |cf, raw, value| {
                if batch.size_in_bytes() + raw.len() + value.len() > MAX_BATCH {
                    let shown = String::from_utf8_lossy(&key[..key.len().min(64)]).into_owned();
                    return Err(Fault::new(
                        Code::Err,
                        format!(
                            "the records of key `{shown}` are more than the {MAX_BATCH} bytes of a batch: seed the follower instead"
                        ),
                    ));
                }
                batch.put_cf(store.cf(cf), raw, value);
                Ok(())
            })?;
            if batch.size_in_bytes() < EXPORT_BYTES {
                return Ok(ControlFlow::Continue(()));
            }
            next = Some(raw.to_vec());
            Ok(ControlFlow::Break(()))
        })?;
        Ok(ExportedSlots { position, next, batch: batch.data().to_vec() })
    }

    /// The next keys of these slots whose record has this stamp.
    pub(super) fn stamped(
        &self,
        slots: &SlotSet,
        stamp: Hlc,
        after: &[u8],
    ) -> Result<StampedKeys, Fault> {
        let store = self.store()?;
        let snapshot = store.db().snapshot();
        let (mut found, mut bytes) = (StampedKeys::default(), 0);
        each_key(&store, &snapshot, slots, after, |raw, _, key, value| {
            let meta = Meta::decode(value).map_err(|why| damaged(&why))?;
            if meta.stamp != stamp {
                return Ok(ControlFlow::Continue(()));
            }
            found.keys.push(key.to_vec());
            bytes += key.len();
            if found.keys.len() < KEYS_AT_A_TIME && bytes < KEY_BYTES_AT_A_TIME {
                return Ok(ControlFlow::Continue(()));
            }
            found.next = Some(raw.to_vec());
            Ok(ControlFlow::Break(()))
        })?;
        Ok(found)
    }
}

/// The first key of a range of slots, and the first one after it.
pub(super) fn bounds(first: Slot, last: Slot) -> ([u8; 2], [u8; 2]) {
    (first.prefix(), (last.number() + 1).to_be_bytes())
}

pub(super) fn damaged(why: &dyn std::fmt::Display) -> Fault {
    Fault::new(Code::Damaged, format!("{why}; nothing was changed"))
}

/// Each meta record of these slots behind the meta key `after`: raw key, slot, key, value.
pub(super) fn each_key(
    store: &Store,
    snapshot: &SnapshotWithThreadMode<'_, DB>,
    slots: &SlotSet,
    after: &[u8],
    mut key: impl FnMut(&[u8], Slot, &[u8], &[u8]) -> Result<ControlFlow<()>, Fault>,
) -> Result<(), Fault> {
    for range in slots.ranges() {
        let (from, to) = bounds(range.first, range.last);
        if after >= to.as_slice() {
            continue;
        }
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(to.to_vec());
        options.fill_cache(false);
        let mut metas = snapshot.raw_iterator_cf_opt(store.cf(Cf::Meta), options);
        metas.seek(after.max(&from));
        while let Some((raw, value)) = metas.item() {
            if raw > after {
                let (slot, name) = meta::decode_key(raw).map_err(|why| damaged(&why))?;
                if key(raw, slot, name, value)?.is_break() {
                    return Ok(());
                }
            }
            metas.next();
        }
        metas.status()?;
    }
    Ok(())
}

/// Each data and score record that a meta record names.
pub(super) fn records_of(
    store: &Store,
    snapshot: &SnapshotWithThreadMode<'_, DB>,
    slot: Slot,
    key: &[u8],
    value: &[u8],
    mut record: impl FnMut(Cf, &[u8], &[u8]) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let meta = Meta::decode(value).map_err(|why| damaged(&why))?;
    let Body::Collection(collection) = meta.body else { return Ok(()) };
    let mut prefix = Vec::new();
    data::encode_prefix(slot, key, collection.version, &mut prefix);
    for cf in [Cf::Data, Cf::Score] {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        options.set_iterate_range(rocksdb::PrefixRange(prefix.clone()));
        let mut records = snapshot.raw_iterator_cf_opt(store.cf(cf), options);
        records.seek(&prefix);
        while let Some((raw, value)) = records.item() {
            record(cf, raw, value)?;
            records.next();
        }
        records.status()?;
    }
    Ok(())
}
