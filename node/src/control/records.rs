//! Raw records of no slot (users, libraries of functions): read for another node's rewind, and replaced
//! in one.

use admin::{Code, Exported};
use keyspace::{Cf, shard};
use rocksdb::{ReadOptions, WriteBatch};
use wal::batch::{BatchRef, MAX_BATCH, Record};

use super::{Control, Fault};

impl Control {
    /// A batch of those of these records that are there, as of one position.
    pub(super) fn records(&self, keys: &[&[u8]]) -> Result<Exported, Fault> {
        check(keys)?;
        let store = self.store()?;
        let exclusive = store.exclusive();
        let position = exclusive.position();
        let snapshot = store.db().snapshot();
        drop(exclusive);
        let mut batch = WriteBatch::default();
        for key in keys {
            let mut options = ReadOptions::default();
            options.set_snapshot(&snapshot);
            let Some(value) = store.db().get_cf_opt(store.cf(Cf::Data), key, &options)? else {
                continue;
            };
            if batch.size_in_bytes() + key.len() + value.len() > MAX_BATCH {
                let why = format!(
                    "these {} records of no slot are more than the {MAX_BATCH} bytes of a batch: seed the follower instead",
                    keys.len()
                );
                return Err(Fault::new(Code::Err, why));
            }
            batch.put_cf(store.cf(Cf::Data), key, value);
        }
        Ok(Exported { position, batch: batch.data().to_vec() })
    }

    /// These records become what the batch puts; those that it does not put go.
    pub(super) fn rewind_records(&self, keys: &[&[u8]], batch: &[u8]) -> Result<(), Fault> {
        let _turn = self.turn();
        let store = self.rewinding()?;
        check(keys)?;
        let damaged =
            |why: String| Fault::new(Code::Damaged, format!("{why}; nothing was changed"));
        let parsed = BatchRef::parse(batch).map_err(|why| damaged(why.to_string()))?;
        let mut replaced = WriteBatch::default();
        for key in keys {
            replaced.delete_cf(store.cf(Cf::Data), key);
        }
        for record in parsed.records() {
            match record {
                Record::Put { cf: Cf::Data, key, value } if keys.contains(&key) => {
                    replaced.put_cf(store.cf(Cf::Data), key, value);
                }
                _ => return Err(damaged("the batch does more than put these records".to_owned())),
            }
        }
        Ok(store.exclusive().replace(replaced)?)
    }
}

/// Nothing else is reached by raw keys.
fn check(keys: &[&[u8]]) -> Result<(), Fault> {
    match keys.iter().find(|key| !shard::is_of_shard(key)) {
        None => Ok(()),
        Some(key) => {
            let key = String::from_utf8_lossy(&key[..key.len().min(64)]).into_owned();
            Err(Fault::new(Code::Err, format!("`{key}` is no key of a record of no slot")))
        }
    }
}
