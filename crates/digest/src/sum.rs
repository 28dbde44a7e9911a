//! The entries of one key, added up.

use admin::SlotDigest;
use keyspace::meta::{Body, Collection, Meta, Type};
use keyspace::{Cf, Hlc, data};
use wal::batch::{BatchRef, Record};
use xxhash_rust::xxh3::Xxh3;

/// What a key comes to whose records a batch puts, its meta record first; in words, why that cannot
/// be told. `None`: it is not live by `now`.
///
/// # Errors
/// A sentence.
pub fn of_records(
    key: &[u8],
    batch: &BatchRef<'_>,
    now: Hlc,
) -> Result<Option<SlotDigest>, String> {
    let mut digest = SlotDigest::default();
    let mut records = batch.records();
    let Some(Record::Put { cf: Cf::Meta, value, .. }) = records.next() else {
        return Err("the batch does not begin with a meta record".to_owned());
    };
    let record = Meta::decode(value).map_err(|why| why.to_string())?;
    let mut entry = Sum::begin(&mut digest, key, &record);
    match record.body {
        Body::String(bytes) => entry.add(&[], 0, bytes),
        Body::Collection(collection) => {
            let prefix = data::prefix_len(key.len());
            for record in records {
                let Record::Put { cf, key: raw, value } = record else {
                    return Err("the batch does more than put".to_owned());
                };
                let subkey = raw.get(prefix..).ok_or("a record whose key is cut off")?;
                match cf {
                    Cf::Data => entry.add_data(&collection, subkey, value, now)?,
                    Cf::Score => entry.add(subkey, u64::MAX, &[]),
                    Cf::Meta | Cf::System => return Err("a record of another kind".to_owned()),
                }
            }
        }
    }
    Ok(record.is_live(now.ms()).then_some(digest))
}

/// Adds the entries of one key.
#[derive(Debug)]
pub struct Sum<'a> {
    digest: &'a mut SlotDigest,
    name: &'a [u8],
    kind: Type,
    expire_ms: u64,
    stamp: Hlc,
}

impl<'a> Sum<'a> {
    /// Begins a key, which counts from here on.
    pub fn begin(digest: &'a mut SlotDigest, name: &'a [u8], record: &Meta<'_>) -> Self {
        digest.keys += 1;
        digest.bytes += name.len() as u64;
        let (kind, expire_ms) = (record.kind(), record.expire_ms);
        Self { digest, name, kind, expire_ms, stamp: record.stamp }
    }

    /// The highest stamp of the records so far.
    pub fn stamp(&self) -> Hlc {
        self.stamp
    }

    /// Adds a data record of a collection, unless it has expired by `now`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn add_data(
        &mut self,
        collection: &Collection,
        subkey: &[u8],
        value: &[u8],
        now: Hlc,
    ) -> Result<(), String> {
        let value = data::DataValue::decode(value).map_err(|why| why.to_string())?;
        self.stamp = self.stamp.max(value.stamp);
        if value.expire_ms != 0 && value.expire_ms <= now.ms() {
            return Ok(());
        }
        match <[u8; 8]>::try_from(subkey) {
            // A list's elements count by their place, not by the index that pushes and pops left
            // them.
            Ok(index) if collection.kind == Type::List => {
                let place = u64::from_be_bytes(index).wrapping_sub(collection.head);
                self.add(&place.to_be_bytes(), value.expire_ms, value.bytes);
            }
            _ => self.add(subkey, value.expire_ms, value.bytes),
        }
        Ok(())
    }

    /// The hash of one entry: lengths first, so that no two entries look alike.
    pub fn add(&mut self, field: &[u8], field_expire_ms: u64, value: &[u8]) {
        let mut hash = Xxh3::new();
        hash.update(&[self.kind as u8]);
        hash.update(&self.expire_ms.to_le_bytes());
        hash.update(&(self.name.len() as u64).to_le_bytes());
        hash.update(self.name);
        hash.update(&(field.len() as u64).to_le_bytes());
        hash.update(field);
        hash.update(&field_expire_ms.to_le_bytes());
        hash.update(value);
        self.digest.digest = self.digest.digest.wrapping_add(hash.digest128());
        self.digest.bytes += (field.len() + value.len()) as u64;
    }
}
