//! Sending what followers should have of some keys once more: a batch in this node's own log that
//! changes nothing here. Followers stay a past of this node, and each of them is mended alike.

use admin::{Code, Repaired};
use keyspace::meta;
use keyspace::{Cf, Hlc, Slot};
use rocksdb::{ReadOptions, WriteBatch};
use wal::Kind;
use wal::batch::BatchBuilder;

use super::slots::records_of;
use super::{Control, Fault};
use crate::store::Store;

/// Keys are gathered into one batch up to this many bytes.
const BATCH_BYTES: usize = 1 << 20;

impl Control {
    /// Writes all that there is of these keys to the log once more, behind deletes of all that
    /// anyone may have of them. Writers stand meanwhile, so that it is what there is.
    pub(super) fn repair(&self, keys: &[&[u8]]) -> Result<Repaired, Fault> {
        let _turn = self.turn();
        let store = self.store()?;
        let mut permit = None;
        for key in keys {
            let admitted = self.0.authority.admit_write(Slot::of_key(key));
            let refused = |refusal| Fault::role(format!("{refusal}; nothing was written"));
            permit = Some(admitted.map_err(refused)?);
        }
        let _parked = self.0.workers.pause();
        let mut repaired =
            Repaired { position: store.position(), written: 0, deleted: 0, bytes: 0 };
        let mut batch = BatchBuilder::default();
        for key in keys {
            if again(&store, key, &mut batch)? {
                repaired.written += 1;
            } else {
                repaired.deleted += 1;
            }
            if batch.size() >= BATCH_BYTES {
                commit(&store, std::mem::take(&mut batch), &mut repaired)?;
            }
        }
        commit(&store, batch, &mut repaired)?;
        repaired.position = store.position();
        if permit.is_some_and(|permit| !self.0.authority.still_holds(&permit)) {
            let why = "this node stopped being a primary while it sent keys again: compare once more; nothing is changed by that";
            return Err(Fault::new(Code::Io, why));
        }
        Ok(repaired)
    }
}

fn commit(store: &Store, batch: BatchBuilder, repaired: &mut Repaired) -> Result<(), Fault> {
    if batch.count() > 0 {
        repaired.bytes += batch.size() as u64;
        store.commit(WriteBatch::from_data(&batch.finish()), Kind::Data)?;
    }
    Ok(())
}

/// Adds a key; whether it is there.
fn again(store: &Store, key: &[u8], batch: &mut BatchBuilder) -> Result<bool, Fault> {
    let slot = Slot::of_key(key);
    let (from, to) = bounds(slot, key);
    for cf in [Cf::Data, Cf::Score] {
        batch.delete_range(cf, &from, &to);
    }
    let mut raw = Vec::new();
    meta::encode_key(slot, key, &mut raw);
    let mut options = ReadOptions::default();
    options.fill_cache(false);
    let Some(value) = store.db().get_cf_opt(store.cf(Cf::Meta), &raw, &options)? else {
        batch.delete(Cf::Meta, &raw);
        return Ok(false);
    };
    batch.put(Cf::Meta, &raw, &value);
    let snapshot = store.db().snapshot();
    records_of(store, &snapshot, slot, key, &value, |cf, raw, value| {
        batch.put(cf, raw, value);
        Ok(())
    })?;
    Ok(true)
}

/// The first data or score key that a user key may have, and the first one after its last.
fn bounds(slot: Slot, key: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut from = Vec::new();
    keyspace::data::encode_prefix(slot, key, Hlc(0), &mut from);
    from.truncate(from.len() - size_of::<Hlc>());
    let mut to = from.clone();
    // The slot comes first and is below 0xffff, so this ends.
    while let Some(last) = to.pop() {
        if last < u8::MAX {
            to.push(last + 1);
            break;
        }
    }
    (from, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_hold_a_keys_records_and_no_other_keys() {
        for key in [&b"k"[..], b"", b"\xff\xff", b"a\xff"] {
            let slot = Slot::of_key(key);
            let (from, to) = bounds(slot, key);
            let record = |key: &[u8], version| {
                let mut raw = Vec::new();
                keyspace::data::encode_prefix(slot, key, version, &mut raw);
                raw
            };
            for version in [Hlc(0), Hlc(u64::MAX)] {
                let raw = record(key, version);
                assert!(from <= raw && raw < to, "{key:?}");
            }
            // Lengths come before names, so no other key lies between.
            let longer = record(&[key, b"x"].concat(), Hlc(0));
            assert!(longer >= to || longer < from, "{key:?}");
        }
    }
}
