//! The raw records of keys: read for another node's rewind, and replaced in one.

use admin::{Code, Exported};
use keyspace::{Cf, Slot, meta};
use rocksdb::{DB, ReadOptions, WriteBatch};
use wal::batch::MAX_BATCH;

use super::{Control, Fault};
use crate::store::Store;

impl Control {
    /// A batch of all raw records of these keys, as of one position; refused beyond what one batch
    /// may be, however few the keys are.
    pub(super) fn export(&self, keys: &[&[u8]]) -> Result<Exported, Fault> {
        let store = self.store()?;
        let exclusive = store.exclusive();
        let position = exclusive.position();
        let snapshot = store.db().snapshot();
        drop(exclusive);
        let mut batch = WriteBatch::default();
        for key in keys {
            let slot = Slot::of_key(key);
            let mut meta_key = Vec::new();
            meta::encode_key(slot, key, &mut meta_key);
            let mut options = ReadOptions::default();
            options.set_snapshot(&snapshot);
            if let Some(value) = store.db().get_cf_opt(store.cf(Cf::Meta), &meta_key, &options)? {
                batch.put_cf(store.cf(Cf::Meta), &meta_key, value);
            }
            for cf in [Cf::Data, Cf::Score] {
                let mut bytes = batch.size_in_bytes();
                let mut options = ReadOptions::default();
                options.set_snapshot(&snapshot);
                each_record(store.db(), &store, cf, key, options, |raw, value| {
                    bytes += raw.len() + value.len();
                    if bytes <= MAX_BATCH {
                        batch.put_cf(store.cf(cf), raw, value);
                    }
                })?;
                if bytes > MAX_BATCH {
                    return Err(Fault::new(
                        Code::Err,
                        format!(
                            "the records of these {} keys are more than the {MAX_BATCH} bytes of a batch: seed the follower instead",
                            keys.len()
                        ),
                    ));
                }
            }
        }
        Ok(Exported { position, batch: batch.data().to_vec() })
    }
}

/// What all data and score records of a key begin with, whatever their version.
fn key_prefix(key: &[u8]) -> Vec<u8> {
    let mut prefix = Vec::new();
    keyspace::data::encode_prefix(Slot::of_key(key), key, keyspace::Hlc(0), &mut prefix);
    prefix.truncate(prefix.len() - size_of::<keyspace::Hlc>());
    prefix
}

/// Each raw record of a key in the data or score family, of all versions.
pub(super) fn each_record(
    db: &DB,
    store: &Store,
    cf: Cf,
    key: &[u8],
    mut options: ReadOptions,
    mut record: impl FnMut(&[u8], &[u8]),
) -> Result<(), rocksdb::Error> {
    let prefix = key_prefix(key);
    options.set_iterate_range(rocksdb::PrefixRange(prefix.clone()));
    let mut records = db.raw_iterator_cf_opt(store.cf(cf), options);
    records.seek(&prefix);
    while let Some((raw, value)) = records.item() {
        record(raw, value);
        records.next();
    }
    records.status()
}
