//! Being seeded by a source of another shape: its sidecar brought what it had in the slots that both
//! have, in files.
//!
//! Whatever can fail is tried before anything is changed: RocksDB opens the files beside the database
//! and says what is in them. Until then the node goes on with what it has.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::PoisonError;
use std::time::Instant;

use admin::{Applied, Code, Intent, Slice};
use keyspace::SlotSet;
use topology::members::Role;
use topology::{Record, ShardName};

use super::apply::followed;
use super::load::check_slice;
use super::{Control, Fault};
use crate::store::{Standing, Taking, fail_here};

impl Control {
    /// Makes what is in the slots of `slice` what is in the files at `path`, which are gone then. The
    /// node is *seeding* until it has all of its slots from sources that it follows.
    pub(super) fn seed_slots(&self, path: &Path, slice: &Slice) -> Result<(), Fault> {
        let began = Instant::now();
        let refused = |why: String| Fault::new(Code::Err, format!("{why}; nothing was changed"));
        let _one = super::lock(&self.0.loading);
        let source = &slice.follow.source;
        let name = Slice::received(source);
        let dir = self.0.dir.path().join(&name);
        let place = |path: &Path| path.canonicalize().ok();
        if place(path).is_none() || place(path) != place(&dir) {
            return Err(refused(format!(
                "the files of {source} are taken in from {}, and not from {}",
                dir.display(),
                path.display()
            )));
        }
        self.shared_with(slice)?;
        let records = check_slice(&dir, slice)
            .map_err(|why| Fault::new(Code::Damaged, format!("{why}; nothing was changed")))?;
        let turn = self.turn();
        let (own, record) = self.shared_with_by(slice, turn.record.as_ref().map(|(r, _)| r))?;
        let store = self.store()?;
        let state = store.state();
        let taking = taking(slice, &state.standing, &state.applied, record, &own);
        let role = taking.standing.role;
        let inner = name.strip_prefix(Intent::DIR).unwrap_or(&name);
        let mut intent = Intent {
            id: format!("{:032x}", rand::random::<u128>()),
            dir: inner.to_string_lossy().into_owned(),
            stamp: slice.stamp,
            slots: slice.slots.clone(),
            files: slice.files.clone(),
            end: wal::Sequence(0),
            seed: true,
        };
        let _still = self.0.checkpoints.write().unwrap_or_else(PoisonError::into_inner);
        let parked = self.0.workers.pause();
        fail_here("slice-before-intent");
        let taken = store.exclusive().take_slice(&mut intent, slice, taking);
        self.changed_outside();
        drop(parked);
        let position = taken?;
        self.0.workers.users_changed(&store);
        self.settle(&store);
        super::load::remove(&dir);
        tracing::info!(
            %source, slots = %slice.slots, at = %slice.follow.position, %position, ?role, records,
            seconds = began.elapsed().as_secs_f64(), "seeded with slots"
        );
        self.0.changed.notify_one();
        Ok(())
    }

    fn shared_with(&self, slice: &Slice) -> Result<(), Fault> {
        let turn = self.turn();
        self.shared_with_by(slice, turn.record.as_ref().map(|(record, _)| record)).map(drop)
    }

    /// This node's slots and the record, if it may be seeded with this slice now.
    fn shared_with_by<'r>(
        &self,
        slice: &Slice,
        record: Option<&'r Record>,
    ) -> Result<(SlotSet, &'r Record), Fault> {
        let own = self.own_slots(record)?;
        let record = record.ok_or_else(|| Fault::role("this node has no record of its service"))?;
        let role = self.store()?.state().standing.role;
        if !matches!(role, Role::Standby | Role::Seeding | Role::Rewinding) {
            return Err(Fault::role(format!(
                "this node is {role:?}: its data would be thrown away; only a standby is seeded; nothing was changed"
            )));
        }
        let source = &slice.follow.source;
        let theirs = record.slots_of(source).cloned().unwrap_or_default();
        let shared = theirs.intersection(&own);
        if !record.is_primary(source) || shared != slice.slots || shared.is_empty() {
            return Err(Fault::role(format!(
                "the seed is of slots {}, and by the record of epoch {} this node has {shared} of {source}; nothing was changed",
                slice.slots, record.epoch
            )));
        }
        Ok((own, record))
    }
}

/// What the node is once it has this slice.
fn taking(
    slice: &Slice,
    standing: &Standing,
    before: &BTreeMap<ShardName, Applied>,
    record: &Record,
    own: &SlotSet,
) -> Taking {
    let applied = followed(before, &slice.follow, slice.stamp, (Some(record), own));
    let others = applied.keys().filter(|source| **source != slice.follow.source);
    let whole = others.filter_map(|source| record.slots_of(source));
    let whole = whole.fold(SlotSet::default(), |all, slots| all.union(slots));
    let whole = whole.difference(&standing.lacks);
    let alone = whole.is_empty();
    let lacks = own.difference(&whole).difference(&slice.slots);
    let complete = lacks.is_empty();
    let standing = Standing {
        role: if complete { Role::Standby } else { Role::Seeding },
        // What it wrote itself may still be asked for by those that it lacks slots of.
        own_end: standing.own_end.filter(|_| !complete),
        local_until: standing.local_until.filter(|_| !complete),
        until: None,
        lacks,
        ..standing.clone()
    };
    Taking { standing, applied, alone }
}
