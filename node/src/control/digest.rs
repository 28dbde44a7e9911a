//! Digests: what is live at one position, slot by slot, computed from a snapshot in a thread of its
//! own.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use ::digest::Reader;
use admin::{Barrier, Code, Digest, KeyDigests, SlotDigest};
use keyspace::meta::{self, Meta};
use keyspace::{Cf, Hlc, Slot, SlotRange, SlotSet};
use rocksdb::{DB, ReadOptions, SnapshotWithThreadMode};
use wal::{Position, Sequence};

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
            let reader = Reader { db: store.db(), snapshot: &snapshot, stamp, stop: &stop };
            let digest = reader.slots(&slots).map(|slots| {
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
                let _ = answer.send(keys(&store, &reader, slot, &after));
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
    let reader = Reader { db: store.db(), snapshot, stamp: now, stop: &stop };
    let stamp = reader.key(&mut digest, slot, key, &record).map_err(failed)?;
    Ok(Some((digest, stamp)))
}

/// The next live keys of a slot, each with its digest.
fn keys(
    store: &Store,
    reader: &Reader<'_>,
    slot: Slot,
    after: &[u8],
) -> Result<KeyDigests, String> {
    let slots = SlotSet::from_ranges([SlotRange { first: slot, last: slot }]);
    let mut found = KeyDigests::default();
    let each = |raw: &[u8], slot, name: &[u8], value: &[u8]| {
        let failed = |why: String| Fault::new(Code::Err, why);
        let record = Meta::decode(value).map_err(|why| failed(why.to_string()))?;
        if !record.is_live(reader.stamp.ms()) {
            return Ok(ControlFlow::Continue(()));
        }
        let mut digest = SlotDigest::default();
        reader.key(&mut digest, slot, name, &record).map_err(failed)?;
        found.keys.push((name.to_vec(), digest.digest));
        if found.keys.len() < KEYS_AT_A_TIME && !reader.stop.load(Ordering::Acquire) {
            return Ok(ControlFlow::Continue(()));
        }
        found.next = Some(raw.to_vec());
        Ok(ControlFlow::Break(()))
    };
    let read = each_key(store, reader.snapshot, &slots, after, each);
    read.map(|()| found).map_err(|fault| fault.to_string())
}
