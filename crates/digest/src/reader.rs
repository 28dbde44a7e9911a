//! What is live in a snapshot of a database.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use admin::SlotDigest;
use keyspace::meta::{self, Body, Collection, Meta, Type};
use keyspace::{Cf, Hlc, Slot, SlotSet, data};
use rocksdb::{ColumnFamily, DB, ReadOptions, SnapshotWithThreadMode};

use crate::Sum;

/// Reads a snapshot. Nothing that it reads stays in the database's caches.
pub struct Reader<'a> {
    /// The database.
    pub db: &'a DB,
    /// Of it, the moment that is digested.
    pub snapshot: &'a SnapshotWithThreadMode<'a, DB>,
    /// What expires at or before this counts as gone.
    pub stamp: Hlc,
    /// Set to give up.
    pub stop: &'a AtomicBool,
}

impl Reader<'_> {
    /// The digest of each slot that has a live key.
    ///
    /// # Errors
    /// It was stopped, or a record cannot be read: a sentence.
    pub fn slots(&self, slots: &SlotSet) -> Result<BTreeMap<u16, SlotDigest>, String> {
        let mut digests = BTreeMap::new();
        for range in slots.ranges() {
            let mut options = ReadOptions::default();
            options.set_iterate_upper_bound((range.last.number() + 1).to_be_bytes().to_vec());
            options.fill_cache(false);
            let meta = self.cf(Cf::Meta)?;
            let mut keys = self.snapshot.raw_iterator_cf_opt(meta, options);
            keys.seek(range.first.prefix());
            while let Some((key, value)) = keys.item() {
                if self.stop.load(Ordering::Acquire) {
                    return Err("it was dropped before its end".to_owned());
                }
                let (slot, name) = meta::decode_key(key).map_err(|why| why.to_string())?;
                let record = Meta::decode(value).map_err(|why| why.to_string())?;
                if record.is_live(self.stamp.ms()) {
                    self.key(digests.entry(slot.number()).or_default(), slot, name, &record)?;
                }
                keys.next();
            }
            keys.status().map_err(|why| why.to_string())?;
        }
        Ok(digests)
    }

    /// Adds a key, and answers its highest stamp.
    ///
    /// # Errors
    /// A record cannot be read: a sentence.
    pub fn key(
        &self,
        digest: &mut SlotDigest,
        slot: Slot,
        name: &[u8],
        record: &Meta<'_>,
    ) -> Result<Hlc, String> {
        let mut entry = Sum::begin(digest, name, record);
        match record.body {
            Body::String(bytes) => entry.add(&[], 0, bytes),
            Body::Collection(collection) => self.collection(&mut entry, slot, name, &collection)?,
        }
        Ok(entry.stamp())
    }

    fn collection(
        &self,
        entry: &mut Sum<'_>,
        slot: Slot,
        name: &[u8],
        collection: &Collection,
    ) -> Result<(), String> {
        self.each(Cf::Data, slot, name, collection.version, |subkey, value| {
            entry.add_data(collection, subkey, value, self.stamp)
        })?;
        if collection.kind == Type::Zset {
            // The order that ranges are read from must agree with the members.
            self.each(Cf::Score, slot, name, collection.version, |subkey, _| {
                entry.add(subkey, u64::MAX, &[]);
                Ok(())
            })?;
        }
        Ok(())
    }

    fn each(
        &self,
        cf: Cf,
        slot: Slot,
        name: &[u8],
        version: Hlc,
        mut entry: impl FnMut(&[u8], &[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut prefix = Vec::with_capacity(data::prefix_len(name.len()));
        data::encode_prefix(slot, name, version, &mut prefix);
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        options.set_iterate_range(rocksdb::PrefixRange(prefix.clone()));
        let mut entries = self.snapshot.raw_iterator_cf_opt(self.cf(cf)?, options);
        entries.seek(&prefix);
        while let Some((key, value)) = entries.item() {
            entry(&key[prefix.len()..], value)?;
            entries.next();
        }
        entries.status().map_err(|why| why.to_string())
    }

    fn cf(&self, cf: Cf) -> Result<&ColumnFamily, String> {
        let name = cf.name();
        self.db.cf_handle(name).ok_or_else(|| format!("the database lacks the family `{name}`"))
    }
}
