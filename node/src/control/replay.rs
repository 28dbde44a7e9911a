//! Writing what was stranded on an old primary, here, where its keys live now: as ordinary batches
//! with stamps of this node, under its lease.

use admin::{Code, Outcome, Replay, ReplayEntry, ReplayMode, Replayed};
use keyspace::data::{DataKey, DataValue};
use keyspace::meta::{self, Body, Meta};
use keyspace::score::ScoreKey;
use keyspace::{Cf, Hlc, Slot};
use rocksdb::WriteBatch;
use wal::Kind;
use wal::batch::{BatchBuilder, BatchRef, Record};

use super::{Control, Fault, Permit, digest};
use crate::store::Store;

/// Entries are gathered into one batch up to this many bytes.
const BATCH_BYTES: usize = 1 << 20;

impl Control {
    /// Writes entries whose keys may have them; all are looked at before one is written. Writers
    /// stand meanwhile.
    ///
    /// After a failure some entries may have been written: asked again, they are [`Outcome::Same`].
    pub(super) fn replay(&self, replay: &Replay<'_>) -> Result<Replayed, Fault> {
        let _turn = self.turn();
        let store = self.store()?;
        let mut permit = None;
        for entry in &replay.entries {
            permit = Some(self.admit(entry)?);
        }
        let parked = self.0.workers.pause();
        let written = replay_all(&store, replay);
        if !replay.dry {
            // What workers know of the keys is worth nothing, after a failure too.
            self.changed_outside();
        }
        drop(parked);
        let outcomes = written?;
        let permit = permit.filter(|_| !replay.dry);
        if permit.is_some_and(|permit| !self.0.authority.still_holds(&permit)) {
            let why = "this node stopped being a primary while it replayed: whether that counts is not known; replay again at the new primary";
            return Err(Fault::new(Code::Io, why));
        }
        Ok(Replayed { position: store.position(), outcomes })
    }

    /// Whether an entry may be written here, and reads.
    fn admit(&self, entry: &ReplayEntry<'_>) -> Result<Permit, Fault> {
        let damaged = |why: String| {
            let key = String::from_utf8_lossy(&entry.key[..entry.key.len().min(64)]).into_owned();
            Fault::new(
                Code::Damaged,
                format!("the entry of key `{key}`: {why}; nothing was written"),
            )
        };
        if !entry.records.is_empty() {
            let batch = BatchRef::parse(entry.records).map_err(|why| damaged(why.to_string()))?;
            restamp(entry.key, &batch, Hlc(0), &mut BatchBuilder::default()).map_err(damaged)?;
        }
        let admitted = self.0.authority.admit_write(Slot::of_key(entry.key));
        admitted.map_err(|refusal| Fault::role(format!("{refusal}; nothing was written")))
    }
}

fn replay_all(store: &Store, replay: &Replay<'_>) -> Result<Vec<Outcome>, Fault> {
    let mut batch = BatchBuilder::default();
    let mut outcomes = Vec::with_capacity(replay.entries.len());
    for entry in &replay.entries {
        let outcome = weigh(store, replay, entry)?;
        outcomes.push(outcome);
        let writes = matches!(outcome, Outcome::Replaced | Outcome::Created | Outcome::Deleted);
        if !writes || replay.dry {
            continue;
        }
        let mut raw = Vec::new();
        meta::encode_key(Slot::of_key(entry.key), entry.key, &mut raw);
        if entry.records.is_empty() {
            batch.delete(Cf::Meta, &raw);
        } else {
            let damaged = |why: String| Fault::new(Code::Damaged, why);
            let records = BatchRef::parse(entry.records).map_err(|why| damaged(why.to_string()))?;
            restamp(entry.key, &records, store.stamp(), &mut batch).map_err(damaged)?;
        }
        if batch.size() >= BATCH_BYTES {
            commit(store, std::mem::take(&mut batch))?;
        }
    }
    if batch.count() > 0 {
        commit(store, batch)?;
    }
    Ok(outcomes)
}

fn commit(store: &Store, batch: BatchBuilder) -> Result<(), Fault> {
    store.commit(WriteBatch::from_data(&batch.finish()), Kind::Data)?;
    Ok(())
}

/// What is to become of an entry, by what its key is now.
fn weigh(store: &Store, replay: &Replay<'_>, entry: &ReplayEntry<'_>) -> Result<Outcome, Fault> {
    let now = Hlc::new(store.now_ms(), 0);
    let present = digest::of_key(store, &store.db().snapshot(), now, entry.key)?;
    let theirs = if entry.records.is_empty() {
        None
    } else {
        let damaged = |why: String| Fault::new(Code::Damaged, why);
        let batch = BatchRef::parse(entry.records).map_err(|why| damaged(why.to_string()))?;
        match ::digest::of_records(entry.key, &batch, now).map_err(damaged)? {
            None => return Ok(Outcome::Expired),
            live => live,
        }
    };
    Ok(match (present, theirs) {
        (None, None) => Outcome::Same,
        (None, Some(_)) => Outcome::Created,
        (Some((ours, _)), Some(theirs)) if ours == theirs => Outcome::Same,
        (Some((_, stamp)), theirs) => match replay.mode {
            ReplayMode::IfUnchanged if stamp > replay.fork => Outcome::Changed,
            ReplayMode::NewestWins if stamp >= entry.stamp => Outcome::Newer,
            _ if theirs.is_some() => Outcome::Replaced,
            _ => Outcome::Deleted,
        },
    })
}

/// Appends a key's records as they are written under a new stamp: a collection is a new one, so that
/// what is there of an old one is not in its way.
fn restamp(
    key: &[u8],
    records: &BatchRef<'_>,
    stamp: Hlc,
    into: &mut BatchBuilder,
) -> Result<(), String> {
    let slot = Slot::of_key(key);
    let other = || "it has a record of another key".to_owned();
    let mut version = None;
    let mut first = true;
    for record in records.records() {
        let Record::Put { cf, key: raw, value } = record else {
            return Err("it does more than put".to_owned());
        };
        if first != (cf == Cf::Meta) {
            return Err("its meta record does not come first".to_owned());
        }
        first = false;
        let (mut new_key, mut new_value) = (Vec::new(), Vec::new());
        match cf {
            Cf::Meta => {
                if meta::decode_key(raw).ok() != Some((slot, key)) {
                    return Err(other());
                }
                let mut meta = Meta::decode(value).map_err(|why| why.to_string())?;
                meta.stamp = stamp;
                if let Body::Collection(collection) = &mut meta.body {
                    version = Some(std::mem::replace(&mut collection.version, stamp));
                }
                new_key.extend_from_slice(raw);
                meta.encode(&mut new_value);
            }
            Cf::Data => {
                let data = DataKey::decode(raw).map_err(|why| why.to_string())?;
                if (data.slot, data.key, Some(data.version)) != (slot, key, version) {
                    return Err(other());
                }
                DataKey { version: stamp, ..data }.encode(&mut new_key);
                let value = DataValue::decode(value).map_err(|why| why.to_string())?;
                DataValue { stamp, ..value }.encode(&mut new_value);
            }
            Cf::Score => {
                let score = ScoreKey::decode(raw).map_err(|why| why.to_string())?;
                if (score.slot, score.key, Some(score.version)) != (slot, key, version) {
                    return Err(other());
                }
                ScoreKey { version: stamp, ..score }.encode(&mut new_key);
            }
            Cf::System => return Err(other()),
        }
        into.put(cf, &new_key, &new_value);
    }
    if first { Err("it is empty".to_owned()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use keyspace::meta::{Collection, Type};

    use super::*;

    fn hash(key: &[u8], version: Hlc) -> Vec<u8> {
        let (slot, mut batch) = (Slot::of_key(key), BatchBuilder::default());
        let collection = Collection { size: 1, ..Collection::new(Type::Hash, version) };
        let meta = Meta { stamp: version, expire_ms: 0, body: Body::Collection(collection) };
        let (mut raw, mut value) = (Vec::new(), Vec::new());
        meta::encode_key(slot, key, &mut raw);
        meta.encode(&mut value);
        batch.put(Cf::Meta, &raw, &value);
        let (mut raw, mut value) = (Vec::new(), Vec::new());
        DataKey { slot, key, version, subkey: b"field" }.encode(&mut raw);
        DataValue::new(version, b"value").encode(&mut value);
        batch.put(Cf::Data, &raw, &value);
        batch.finish()
    }

    #[test]
    fn records_get_a_new_stamp_and_a_new_version_and_mean_the_same() {
        let (old, new) = (Hlc::new(5, 1), Hlc::new(9, 2));
        let bytes = hash(b"k", old);
        let batch = BatchRef::parse(&bytes).unwrap();
        let mut into = BatchBuilder::default();
        restamp(b"k", &batch, new, &mut into).unwrap();
        let made = into.finish();
        assert_eq!(made, hash(b"k", new));
        let of = |bytes: &[u8]| {
            ::digest::of_records(b"k", &BatchRef::parse(bytes).unwrap(), new).unwrap()
        };
        assert_eq!(of(&made), of(&bytes));
        assert!(restamp(b"other", &batch, new, &mut BatchBuilder::default()).is_err());
    }
}
