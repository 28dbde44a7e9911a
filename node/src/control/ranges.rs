//! Exporting what slots hold into a load, and deleting it.
//!
//! An export reads one snapshot, at a position that is the end of a batch: it has all of a
//! transaction or nothing of it, and stops nobody. A delete is one batch of range deletes in the
//! log, so it is there at once and whole, here and on whoever follows.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::Instant;

use ::store::load::Origin;
use admin::{Code, SlotsDeleted, SlotsExported};
use keyspace::{Hlc, SlotSet};
use tables::{Copier, Form};

use super::{Control, Fault, Mode};
use crate::bulk::export;
use crate::store::fail_here;

/// The exports of a node: one at a time.
#[derive(Debug, Default)]
pub(super) struct Exports {
    running: Mutex<()>,
    /// One that began under a lower number stops.
    round: AtomicU64,
}

impl Exports {
    /// Stops the one that runs.
    pub(super) fn stop(&self) {
        self.round.fetch_add(1, Ordering::AcqRel);
    }

    fn begin(&self) -> Result<(MutexGuard<'_, ()>, u64), Fault> {
        let round = self.round.load(Ordering::Acquire);
        match self.running.try_lock() {
            Ok(running) => Ok((running, round)),
            Err(TryLockError::Poisoned(running)) => Ok((running.into_inner(), round)),
            Err(TryLockError::WouldBlock) => {
                Err(Fault::new(Code::Busy, "another export is running: ask again"))
            }
        }
    }
}

impl Control {
    /// Writes all that is live in these slots into a load at `path`. What another export had left
    /// there half done, because the node died, is removed first.
    pub(super) fn dump_slots(&self, slots: &SlotSet, path: &Path) -> Result<SlotsExported, Fault> {
        let began = Instant::now();
        let refused = |why: String| Fault::new(Code::Err, format!("{why}; nothing was written"));
        if slots.is_empty() {
            return Err(refused("no slots are named".to_owned()));
        }
        let (_one, round) = self.0.exports.begin()?;
        // After the round was read: a swap that began before has set its mode by now.
        if matches!(self.0.authority.mode(), Mode::Loading | Mode::Unknown) {
            return Err(Fault::role(
                "this node's data is not whole, or its service's record has not confirmed its role: export from another, or ask again; nothing was written",
            ));
        }
        let held = self.slots(&self.turn());
        if held.intersection(slots) != *slots {
            return Err(Fault::role(format!(
                "this node holds the slots {held} and not all of {slots}; nothing was written"
            )));
        }
        let store = self.store()?;
        let place = Place::at(path, &store.identity().database).map_err(refused)?;
        let exclusive = store.exclusive();
        if store.is_latched() {
            return Err(Fault::new(
                Code::Busy,
                "the log failed and is opened again in a moment: ask again; nothing was written",
            ));
        }
        let position = exclusive.position();
        let now = store.stamp();
        let _hold = store.reclaim().hold(position.sequence);
        let snapshot = store.db().snapshot();
        drop(exclusive);
        let stamp = stamp_after(now);
        let goes_on = || {
            let same = self.0.exports.round.load(Ordering::Acquire) == round;
            same && !self.0.closing.load(Ordering::Acquire)
        };
        let form = Form::Anew { live_ms: now.ms(), stamp };
        let copier = Copier { db: store.db(), snapshot: &snapshot, slots, form, goes_on: &goes_on };
        let database = store.identity().database.clone();
        let origin = Origin { database, position, slots: slots.clone() };
        let (load, copied) = export(&copier, &place.unfinished, store.options(), stamp, origin)
            .map_err(|why| refused(format!("{why:#}")))?;
        fail_here("export-before-rename");
        place.finish().map_err(refused)?;
        let bytes = load.files.iter().map(|file| file.size).sum();
        let seconds = began.elapsed().as_secs_f64();
        tracing::info!(load = %load.id, %slots, %position, bytes, seconds, "slots were exported");
        Ok(SlotsExported {
            id: load.id.to_string(),
            stamp,
            slots: slots.clone(),
            position,
            keys: copied.keys,
            records: copied.records,
            files: load.files.len() as u64,
            bytes,
            seconds,
        })
    }

    /// Deletes all that is in these slots; those that the node holds only if told so.
    pub(super) fn delete_slots(&self, slots: &SlotSet, yes: bool) -> Result<SlotsDeleted, Fault> {
        if slots.is_empty() {
            return Err(Fault::new(Code::Err, "no slots are named; nothing was deleted"));
        }
        let turn = self.turn();
        if self.has_service() && turn.record.is_none() {
            return Err(Fault::role(
                "this node has not learned its slots from its service's record yet; nothing was deleted",
            ));
        }
        let holds = self.slots(&turn);
        let held = holds.intersection(slots);
        if !held.is_empty() && !yes {
            return Err(Fault::role(format!(
                "this node holds the slots {held}, which clients and followers have: say so (`--yes`, or YES) to delete them all the same; nothing was deleted"
            )));
        }
        // What a standby holds is its primary's to delete; what it holds no more is nobody's.
        let stands_by = self.0.authority.mode() == Mode::Standby;
        let permit = match holds.ranges().first() {
            _ if stands_by && held.is_empty() => None,
            None => return Err(Fault::role("this node has no slots; nothing was deleted")),
            Some(range) => Some(self.0.authority.admit_write(range.first).map_err(|refusal| {
                Fault::role(format!("{refusal}; slots are deleted by their primary"))
            })?),
        };
        let store = self.store()?;
        let parked = self.0.workers.pause();
        let mut exclusive = store.exclusive();
        if permit.is_some() && !exclusive.is_open() {
            return Err(Fault::role("writing is closed for a switch; nothing was deleted"));
        }
        fail_here("delete-before-batch");
        let deleted = exclusive.delete_slots(slots);
        drop(exclusive);
        self.0.workers.changed_outside();
        drop(parked);
        let position = deleted?;
        fail_here("delete-after-batch");
        store.sync_to(position.sequence)?;
        if permit.is_some_and(|permit| !self.0.authority.still_holds(&permit)) {
            let why = "this node stopped being a primary meanwhile: whether the delete counts is not known; look at the new primary";
            return Err(Fault::new(Code::Io, why));
        }
        tracing::info!(%slots, %held, %position, "slots were deleted");
        Ok(SlotsDeleted { slots: slots.clone(), held, position })
    }
}

/// A stamp that no record before this one has, and that no collection of a node has as its version:
/// the upper half of the counters is far beyond what a clock gives out in a millisecond.
fn stamp_after(now: Hlc) -> Hlc {
    let stamp = Hlc::new(now.ms(), 0x8000 | rand::random::<u16>());
    if stamp > now { stamp } else { Hlc::new(now.ms() + 1, stamp.0 as u16) }
}

/// Where a load is written: beside its place until it is whole.
struct Place {
    path: PathBuf,
    unfinished: PathBuf,
}

impl Place {
    fn at(path: &Path, database: &str) -> Result<Self, String> {
        let shown = path.display();
        let (Some(parent), Some(name), true) =
            (path.parent(), path.file_name(), path.is_absolute())
        else {
            return Err(format!("{shown} is no absolute path of a directory"));
        };
        match fs::read_dir(path).map(|mut found| found.next().is_none()) {
            Ok(true) => {}
            Ok(false) => {
                return Err(format!("{shown} is not empty: a load has a directory of its own"));
            }
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => {}
            Err(why) => return Err(format!("looking at {shown}: {why}")),
        }
        // Another node, or the same one later, does not meet what this one leaves when it dies.
        let unfinished = parent.join(format!(".{}.{database}.exporting", name.to_string_lossy()));
        let place = Self { path: path.to_owned(), unfinished };
        place
            .clear()
            .and_then(|()| fs::create_dir_all(&place.unfinished))
            .map_err(|why| format!("making {}: {why}", place.unfinished.display()))?;
        Ok(place)
    }

    fn clear(&self) -> std::io::Result<()> {
        match fs::remove_dir_all(&self.unfinished) {
            Err(why) if why.kind() != std::io::ErrorKind::NotFound => Err(why),
            _ => Ok(()),
        }
    }

    /// The load is whole.
    fn finish(self) -> Result<(), String> {
        let parent = self.path.parent().unwrap_or(Path::new("/"));
        fs::rename(&self.unfinished, &self.path)
            .and_then(|()| fs::File::open(parent)?.sync_all())
            .map_err(|why| format!("moving the load to {}: {why}", self.path.display()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(why) = self.clear() {
            let shown = self.unfinished.display();
            tracing::warn!("removing {shown} failed: {why}; it may be removed by hand");
        }
    }
}
