//! Taking in loads: what an operator brings, and what a source's log says.
//!
//! Everything that can fail is done before the log says a word: files are copied into the node's
//! directory and synced, their hashes compared, RocksDB opens them beside the database and says what
//! is in them, and those that hold other shards' slots too are written anew. Then the shard stands
//! still for the few batches of [`Exclusive::load`](crate::store::Exclusive::load).

mod bring;
mod check;

pub(super) use bring::remove;
pub(super) use check::check_slice;

use std::path::Path;
use std::sync::PoisonError;
use std::time::Instant;

use ::store::load::Load;
use admin::{Code, Ingested, Intent, Part};
use keyspace::SlotSet;
use topology::ShardName;

use super::{Control, Fault};
use crate::store::{Following, Store};

/// A load stamped further in the future than this was built by a clock that is wrong.
const AHEAD_MS_MAX: u64 = 60_000;
/// Loads that may wait in a node's directory for its sidecar to have sent them.
const WAITING_MAX: usize = 256;

/// A load whose files are in the node's directory, checked.
struct Ready {
    intent: Intent,
    files: u64,
    records: u64,
    bytes: u64,
}

impl Control {
    /// Takes in the part of the load at `path` that this node's slots are, atomically: after a crash
    /// at any step it is all there or not at all. One that was taken in before is not again.
    pub(super) fn ingest(&self, path: &Path, link: bool) -> Result<Ingested, Fault> {
        let began = Instant::now();
        let refused = |why: String| Fault::new(Code::Err, format!("{why}; nothing was changed"));
        let Ok(_one) = self.0.loading.try_lock() else {
            return Err(Fault::new(Code::Busy, "another load is being taken in: ask again"));
        };
        if !path.is_absolute() {
            return Err(refused(format!("{} is no absolute path", path.display())));
        }
        let load = Load::read(path).map_err(|why| refused(why.to_string()))?;
        let id = load.id.to_string();
        if load.stamp.ms() > ops::clock::unix_ms().saturating_add(AHEAD_MS_MAX) {
            return Err(refused(format!(
                "load {id} is stamped {} and the clock here shows {}: one of them is wrong",
                load.stamp.ms(),
                ops::clock::unix_ms()
            )));
        }
        let own = self.writable_slots()?;
        let ready = {
            let store = self.store()?;
            let covered = |slots: &SlotSet| own.intersection(slots) == own;
            if let Some(loaded) = store.loaded(&id)?.filter(|loaded| covered(&loaded.slots)) {
                tracing::info!(load = id, "taken in before: nothing is done");
                let slots = loaded.slots.intersection(&own);
                return Ok(Ingested {
                    id,
                    already: true,
                    slots,
                    position: store.position(),
                    files: 0,
                    records: 0,
                    bytes: 0,
                    prepare_seconds: began.elapsed().as_secs_f64(),
                    held_seconds: 0.0,
                });
            }
            if let Some(other) = store.loaded_with(load.stamp, &id)? {
                return Err(refused(format!(
                    "load {id} has the stamp of load {other}, which is here: build it with another --stamp"
                )));
            }
            self.bring(&store, &load, path, link, &own)?
        };
        let dir = self.0.dir.loads().join(&ready.intent.dir);
        let taken = self.take_in(ready, &own, began);
        let announced = !matches!(&taken, Err((_, false)));
        // Without a service there are no followers to keep it for.
        if taken.is_ok() && !self.has_service() || !announced {
            bring::remove(&dir);
        }
        taken.map_err(|(fault, _)| fault)
    }

    /// Copies and checks; what it made is gone where it fails.
    fn bring(
        &self,
        store: &Store,
        load: &Load,
        from: &Path,
        link: bool,
        own: &SlotSet,
    ) -> Result<Ready, Fault> {
        let refused = |why: String| Fault::new(Code::Err, format!("{why}; nothing was changed"));
        let loads = self.0.dir.loads();
        let waiting = bring::waiting(&loads).map_err(refused)?;
        if waiting >= WAITING_MAX {
            return Err(refused(format!(
                "{waiting} loads in {} wait for followers to have them: is the sidecar running?",
                loads.display()
            )));
        }
        let name = format!("{}-{:08x}", load.id, rand::random::<u32>());
        let dir = loads.join(&name);
        let wanted: Vec<_> = load.files_of(own).cloned().collect();
        let brought = bring::bring(load, &wanted, from, &dir, link)
            .and_then(|()| check::check(store.options(), load, &wanted, &dir, own));
        let files = brought.map_err(|why| {
            bring::remove(&dir);
            Fault::new(Code::Damaged, format!("load {}: {why}; nothing was changed", load.id))
        })?;
        let (records, bytes) = (files.records, wanted.iter().map(|file| file.size).sum());
        let intent = Intent {
            id: load.id.to_string(),
            dir: name,
            stamp: load.stamp,
            slots: own.clone(),
            files: files.files,
            end: wal::Sequence(0),
            seed: false,
        };
        Ok(Ready { files: intent.files.len() as u64, intent, records, bytes })
    }

    /// The slots that this node may write now.
    fn writable_slots(&self) -> Result<SlotSet, Fault> {
        let turn = self.turn();
        let own = if self.has_service() {
            self.own_slots(turn.record.as_ref().map(|(record, _)| record))?
        } else {
            SlotSet::all()
        };
        let first = own.ranges().first().map(|range| range.first);
        let first = first.ok_or_else(|| Fault::role("this node has no slots"))?;
        match self.0.authority.admit_write(first) {
            Ok(_) => Ok(own),
            Err(refusal) => Err(Fault::role(format!("{refusal}; loads are taken in by primaries"))),
        }
    }

    /// Stands still and takes in. The flag of an error: the log may have announced the load.
    fn take_in(
        &self,
        mut ready: Ready,
        own: &SlotSet,
        began: Instant,
    ) -> Result<Ingested, (Fault, bool)> {
        let not_yet = |fault: Fault| (fault, false);
        // What a flush has to write is better written while commands run.
        self.flush().map_err(not_yet)?;
        let turn = self.turn();
        let slots = match self.has_service() {
            true => {
                self.own_slots(turn.record.as_ref().map(|(record, _)| record)).map_err(not_yet)?
            }
            false => SlotSet::all(),
        };
        if slots != *own {
            let why = "this node's slots changed meanwhile: ask again; nothing was changed";
            return Err(not_yet(Fault::new(Code::Busy, why)));
        }
        let first = own.ranges().first().map(|range| range.first).expect("it had slots before");
        let permit = self.0.authority.admit_write(first);
        let permit = permit.map_err(|refusal| not_yet(Fault::role(refusal.to_string())))?;
        let store = self.store().map_err(not_yet)?;
        let _still = self.0.checkpoints.write().unwrap_or_else(PoisonError::into_inner);
        let held = Instant::now();
        let parked = self.0.workers.pause();
        let mut exclusive = store.exclusive();
        if !exclusive.is_open() {
            return Err(not_yet(Fault::role(
                "writing is closed for a switch; nothing was changed",
            )));
        }
        let outcome = exclusive.load(&mut ready.intent, None);
        drop(exclusive);
        self.changed_outside();
        drop(parked);
        let held_seconds = held.elapsed().as_secs_f64();
        let position = match outcome {
            Ok(position) => position,
            Err(why @ (crate::store::CommitError::Closed | crate::store::CommitError::Latched)) => {
                return Err(not_yet(why.into()));
            }
            Err(why) => return Err((why.into(), true)),
        };
        if !self.0.authority.still_holds(&permit) {
            let why = "this node stopped being a primary while it took the load in: whether the load counts is not known; look at the new primary";
            return Err((Fault::new(Code::Io, why), true));
        }
        tracing::info!(load = ready.intent.id, records = ready.records, %position, held_seconds, "a load was taken in");
        Ok(Ingested {
            id: ready.intent.id,
            already: false,
            slots: ready.intent.slots,
            position,
            files: ready.files,
            records: ready.records,
            bytes: ready.bytes,
            prepare_seconds: began.elapsed().as_secs_f64() - held_seconds,
            held_seconds,
        })
    }

    fn flush(&self) -> Result<(), Fault> {
        let store = self.store()?;
        let families = keyspace::Cf::ALL.map(|cf| store.cf(cf));
        store.db().flush_cfs_opt(&families, &rocksdb::FlushOptions::default())?;
        Ok(())
    }

    /// Data changed beside the workers, which stand still: what they know of it is worth nothing.
    pub(super) fn changed_outside(&self) {
        if let Ok(store) = self.store() {
            store.changed_outside();
        }
        self.0.workers.changed_outside();
    }

    /// Takes in what a source's log says at the batch that `following` ends with: its sidecar has
    /// brought the files. The caller has the turn.
    pub(super) fn take_in_of(
        &self,
        store: &Store,
        id: &str,
        own: &SlotSet,
        following: Following,
    ) -> Result<(), Fault> {
        let name = Intent::received(&following.source, id);
        let dir = self.0.dir.path().join(&name);
        let Some((load, part)) = self.received(store, id, &dir, &following.source, own)? else {
            return Ok(store.exclusive().follow_on(following)?);
        };
        let damaged = |why: String| {
            Fault::new(
                Code::Damaged,
                format!("load {id} of {}: {why}; nothing was changed", following.source),
            )
        };
        let wanted: Vec<_> = load.files_of(&part).cloned().collect();
        let files = check::check(store.options(), &load, &wanted, &dir, &part).map_err(damaged)?;
        let inner = name.strip_prefix(Intent::DIR).unwrap_or(&name);
        let mut intent = Intent {
            id: id.to_owned(),
            dir: inner.to_string_lossy().into_owned(),
            stamp: load.stamp,
            slots: part,
            files: files.files,
            end: wal::Sequence(0),
            seed: false,
        };
        let _still = self.0.checkpoints.write().unwrap_or_else(PoisonError::into_inner);
        let parked = self.0.workers.pause();
        let source = following.source.clone();
        let position = store.exclusive().load(&mut intent, Some(following))?;
        self.changed_outside();
        drop(parked);
        tracing::info!(load = id, %source, %position, "a load was taken in");
        bring::remove(&dir);
        Ok(())
    }

    /// The load that was received and the slots of it to take in; `None` if there are none, or they
    /// are here.
    fn received(
        &self,
        store: &Store,
        id: &str,
        dir: &Path,
        source: &ShardName,
        own: &SlotSet,
    ) -> Result<Option<(Load, SlotSet)>, Fault> {
        let missing = |why: String| {
            Fault::new(
                Code::Gap,
                format!(
                    "{source} took in load {id} here and its files are not in {} ({why}): end this node's sidecar, remove its stage of {source}, and start it again to have them sent",
                    dir.display()
                ),
            )
        };
        let part = match std::fs::read(dir.join(Intent::PART)) {
            Ok(bytes) => {
                serde_json::from_slice::<Part>(&bytes).map_err(|why| missing(why.to_string()))?
            }
            Err(why) => {
                // Done and removed, in a life before this one's frames.
                let here =
                    store.loaded(id)?.is_some_and(|loaded| own.intersection(&loaded.slots) == *own);
                return if here { Ok(None) } else { Err(missing(why.to_string())) };
            }
        };
        let part = part.slots.intersection(own);
        let here = store.loaded(id)?.is_some_and(|loaded| part.intersection(&loaded.slots) == part);
        let load = Load::read(dir).map_err(|why| missing(why.to_string()))?;
        if load.id.to_string() != id {
            return Err(missing(format!("they are of load {}", load.id)));
        }
        if here || load.files_of(&part).next().is_none() {
            bring::remove(dir);
            return Ok(None);
        }
        Ok(Some((load, part)))
    }
}
