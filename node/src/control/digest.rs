//! Digests: what is live at one position, slot by slot, computed from a snapshot in a thread of its
//! own.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use admin::{Barrier, Code, Digest, KeyDigests, SlotDigest};
use keyspace::meta::{self, Body, Collection, Meta, Type};
use keyspace::{Cf, Hlc, Slot, SlotRange, SlotSet, data};
use rocksdb::{DB, ReadOptions, SnapshotWithThreadMode};
use wal::batch::{BatchRef, Record};
use wal::{Position, Sequence};
use xxhash_rust::xxh3::Xxh3;

use super::slots::each_key;
use super::{Control, Fault, Mode};
use crate::store::Store;

/// Digests that are kept or run; the oldest go first.
const DIGESTS_MAX: usize = 16;
/// How long a digest's snapshot is kept for questions about keys, since the last one.
const KEPT: Duration = Duration::from_secs(20);
/// Keys of one answer.
const KEYS_AT_A_TIME: usize = 4096;

/// The digests of this node, by barrier.
#[derive(Debug, Default)]
pub(super) struct Digests(Mutex<Vec<(u128, Entry)>>);

/// What a thread that has digested is asked for: the digests of a slot's next keys.
#[derive(Debug)]
struct Ask {
    slot: Slot,
    after: Vec<u8>,
    answer: mpsc::SyncSender<Result<KeyDigests, String>>,
}

#[derive(Debug)]
struct Entry {
    stop: Arc<AtomicBool>,
    /// The thread, as long as it keeps its snapshot.
    asks: mpsc::SyncSender<Ask>,
    result: Arc<Mutex<Option<Result<Digest, String>>>>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

impl Digests {
    fn lock(&self) -> MutexGuard<'_, Vec<(u128, Entry)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a snapshot now and digests it. The caller keeps others from writing meanwhile.
    pub(super) fn begin(
        &self,
        store: &Arc<Store>,
        id: u128,
        position: Position,
        stamp: Hlc,
        slots: SlotSet,
    ) {
        let stop = Arc::new(AtomicBool::new(false));
        let result = Arc::new(Mutex::new(None));
        let (asks, asked) = mpsc::sync_channel(1);
        let entry = Entry { stop: stop.clone(), asks, result: result.clone() };
        let (taken, wait) = mpsc::channel();
        let store = store.clone();
        let thread = std::thread::Builder::new().name("digest".to_owned()).spawn(move || {
            let end = Sequence(store.db().latest_sequence_number());
            let _hold = store.reclaim().hold(end);
            let snapshot = store.db().snapshot();
            // Whoever waits has given up only if the process ends.
            let _ = taken.send(());
            let job = Job { store: &store, snapshot: &snapshot, stamp, stop: &stop };
            let digest = job.run(&slots).map(|slots| {
                let mut total = SlotDigest::default();
                slots.values().for_each(|slot| total.add(slot));
                Digest { position, stamp, slots, total }
            });
            if let Err(why) = &digest {
                tracing::warn!(barrier = %format_args!("{id:032x}"), "digest: {why}");
            }
            *result.lock().unwrap_or_else(PoisonError::into_inner) = Some(digest);
            // Ends when the digest is dropped, too.
            while let Ok(Ask { slot, after, answer }) = asked.recv_timeout(KEPT) {
                // Whoever asked may have gone.
                let _ = answer.send(job.keys(slot, &after));
            }
        });
        if let Err(why) = thread {
            tracing::warn!("no thread for a digest: {why}");
            let failed = Err(format!("no thread for it: {why}"));
            *entry.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(failed);
        } else {
            // An error: the thread ended before the snapshot, and says why in its result.
            let _ = wait.recv();
        }
        let mut all = self.lock();
        all.retain(|(known, _)| *known != id);
        all.push((id, entry));
        let excess = all.len().saturating_sub(DIGESTS_MAX);
        all.drain(..excess);
    }

    pub(super) fn get(&self, id: u128) -> Result<Digest, Fault> {
        let all = self.lock();
        let Some((_, entry)) = all.iter().find(|(known, _)| *known == id) else {
            return Err(Fault::new(Code::Unknown, format!("no digest {id:032x} here")));
        };
        let result = entry.result.lock().unwrap_or_else(PoisonError::into_inner);
        match &*result {
            None => Err(Fault::new(Code::Pending, "the digest is being computed")),
            Some(Ok(digest)) => Ok(digest.clone()),
            Some(Err(why)) => Err(Fault::new(Code::Err, why.clone())),
        }
    }

    /// Digests of a slot's next keys, from the snapshot of that digest.
    pub(super) fn keys(&self, id: u128, slot: Slot, after: &[u8]) -> Result<KeyDigests, Fault> {
        let gone = || {
            let why = format!(
                "digest {id:032x} is not kept here any more (for {KEPT:?}, or until it is dropped): make another barrier"
            );
            Fault::new(Code::Unknown, why)
        };
        self.get(id)?;
        let all = self.lock();
        let asks = all.iter().find(|(known, _)| *known == id).map(|(_, entry)| entry.asks.clone());
        drop(all);
        let (answer, got) = mpsc::sync_channel(1);
        let ask = Ask { slot, after: after.to_vec(), answer };
        asks.ok_or_else(gone)?.send(ask).map_err(|_| gone())?;
        got.recv().map_err(|_| gone())?.map_err(|why| Fault::new(Code::Err, why))
    }

    pub(super) fn remove(&self, id: u128) {
        self.lock().retain(|(known, _)| *known != id);
    }

    /// Stops and forgets all.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }
}

impl Control {
    /// Writes a barrier batch and begins a digest exactly there.
    pub(super) fn barrier(&self) -> Result<Barrier, Fault> {
        let turn = self.turn();
        let store = self.store()?;
        if store.look_at_stall().stopped {
            let why = "writes stand still until compactions have caught up: ask again";
            return Err(Fault::new(Code::Busy, why));
        }
        if !matches!(self.0.authority.mode(), Mode::Standalone | Mode::Primary)
            || !self.0.authority.is_writable()
        {
            return Err(Fault::role("a barrier is made by a primary that may write"));
        }
        let record = turn.record.as_ref().map(|(record, _)| record);
        let slots = record.zip(self.shard()).and_then(|(record, shard)| record.slots_of(shard));
        let slots = slots.cloned().unwrap_or_else(SlotSet::all);
        let id = rand::random();
        let mut exclusive = store.exclusive();
        let (position, stamp) = exclusive.barrier(id)?;
        self.0.digests.begin(&store, id, position, stamp, slots);
        drop(exclusive);
        Ok(Barrier { id, position })
    }
}

/// What a key of a snapshot comes to, and its highest stamp; `None` where it is not live by `now`.
pub(super) fn of_key(
    store: &Store,
    snapshot: &SnapshotWithThreadMode<'_, DB>,
    now: Hlc,
    key: &[u8],
) -> Result<Option<(SlotDigest, Hlc)>, Fault> {
    let (slot, mut raw) = (Slot::of_key(key), Vec::new());
    meta::encode_key(slot, key, &mut raw);
    let mut options = ReadOptions::default();
    options.fill_cache(false);
    let found = snapshot.get_cf_opt(store.cf(Cf::Meta), raw, options)?;
    let Some(value) = found else { return Ok(None) };
    let failed = |why: String| Fault::new(Code::Err, why);
    let record = Meta::decode(&value).map_err(|why| failed(why.to_string()))?;
    if !record.is_live(now.ms()) {
        return Ok(None);
    }
    let (stop, mut digest) = (AtomicBool::new(false), SlotDigest::default());
    let job = Job { store, snapshot, stamp: now, stop: &stop };
    let stamp = job.key(&mut digest, slot, key, &record).map_err(failed)?;
    Ok(Some((digest, stamp)))
}

/// What a key comes to whose records a batch puts, its meta record first; in words, why that cannot
/// be told. `None`: it is not live by `now`.
pub(super) fn of_records(
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

struct Job<'a> {
    store: &'a Store,
    snapshot: &'a SnapshotWithThreadMode<'a, DB>,
    stamp: Hlc,
    stop: &'a AtomicBool,
}

impl Job<'_> {
    fn run(&self, slots: &SlotSet) -> Result<BTreeMap<u16, SlotDigest>, String> {
        let mut digests = BTreeMap::new();
        for range in slots.ranges() {
            let mut options = ReadOptions::default();
            options.set_iterate_upper_bound((range.last.number() + 1).to_be_bytes().to_vec());
            options.fill_cache(false);
            let meta = self.store.cf(Cf::Meta);
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

    /// The next live keys of a slot, each with its digest.
    fn keys(&self, slot: Slot, after: &[u8]) -> Result<KeyDigests, String> {
        let slots = SlotSet::from_ranges([SlotRange { first: slot, last: slot }]);
        let mut found = KeyDigests::default();
        let each = |raw: &[u8], slot, name: &[u8], value: &[u8]| {
            let failed = |why: String| Fault::new(Code::Err, why);
            let record = Meta::decode(value).map_err(|why| failed(why.to_string()))?;
            if !record.is_live(self.stamp.ms()) {
                return Ok(ControlFlow::Continue(()));
            }
            let mut digest = SlotDigest::default();
            self.key(&mut digest, slot, name, &record).map_err(failed)?;
            found.keys.push((name.to_vec(), digest.digest));
            if found.keys.len() < KEYS_AT_A_TIME && !self.stop.load(Ordering::Acquire) {
                return Ok(ControlFlow::Continue(()));
            }
            found.next = Some(raw.to_vec());
            Ok(ControlFlow::Break(()))
        };
        let read = each_key(self.store, self.snapshot, &slots, after, each);
        read.map(|()| found).map_err(|fault| fault.to_string())
    }

    /// Adds a key, and answers its highest stamp.
    fn key(
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
        Ok(entry.stamp)
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
        let mut entries = self.snapshot.raw_iterator_cf_opt(self.store.cf(cf), options);
        entries.seek(&prefix);
        while let Some((key, value)) = entries.item() {
            entry(&key[prefix.len()..], value)?;
            entries.next();
        }
        entries.status().map_err(|why| why.to_string())
    }
}

/// Adds the entries of one key.
struct Sum<'a> {
    digest: &'a mut SlotDigest,
    name: &'a [u8],
    kind: Type,
    expire_ms: u64,
    /// The highest of its records.
    stamp: Hlc,
}

impl<'a> Sum<'a> {
    fn begin(digest: &'a mut SlotDigest, name: &'a [u8], record: &Meta<'_>) -> Self {
        digest.keys += 1;
        digest.bytes += name.len() as u64;
        let (kind, expire_ms) = (record.kind(), record.expire_ms);
        Self { digest, name, kind, expire_ms, stamp: record.stamp }
    }

    /// Adds a data record of a collection, unless it has expired by `now`.
    fn add_data(
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
    fn add(&mut self, field: &[u8], field_expire_ms: u64, value: &[u8]) {
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
