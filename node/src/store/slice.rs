//! Taking in what a source of another shape had in some slots: a load that replaces what is there.
//!
//! All of it is in the intent batch: that the slots are emptied, how far the source is, what the node
//! still lacks. So from that batch on the slots are what they were at the source, and an open that
//! finds no more than the intent takes in the files and is done.

use std::collections::BTreeMap;

use admin::{Applied, Intent, Loaded, Reclaimed, Slice};
use keyspace::{Cf, SlotSet, shard, system};
use rocksdb::{IteratorMode, WriteBatch};
use topology::ShardName;
use wal::Position;

use super::state::{put, put_applied, put_reclaimed, put_standing};
use super::{CommitError, Exclusive, NodeState, Standing, Store};

/// What a slice makes of the node.
#[derive(Clone, Debug)]
pub struct Taking {
    /// What it is from there on.
    pub standing: Standing,
    /// How far it is with each source then.
    pub applied: BTreeMap<ShardName, Applied>,
    /// Nothing that it holds came from another source that it follows: its records of no slot
    /// (libraries of functions, users) go too.
    pub alone: bool,
}

impl Exclusive<'_> {
    /// Replaces what is in the slots of `slice` by the files of `intent`, which must have been
    /// checked, and be on disk. What is said of [`Exclusive::load`] after an error holds here too.
    pub fn take_slice(
        &mut self,
        intent: &mut Intent,
        slice: &Slice,
        taking: Taking,
    ) -> Result<Position, CommitError> {
        let store = self.store;
        let mut batch = WriteBatch::default();
        for cf in Cf::ALL.into_iter().filter(|cf| cf.is_shipped()) {
            for range in slice.slots.ranges() {
                let (from, to) = (range.first.prefix(), (range.last.number() + 1).to_be_bytes());
                batch.delete_range_cf(store.cf(cf), from, to);
            }
        }
        if taking.alone {
            let (from, to) = shard::bounds();
            batch.delete_range_cf(store.cf(Cf::Data), &from[..], &to[..]);
        }
        remember_loads(store, slice, &mut batch)
            .map_err(|why| CommitError::Load { id: intent.id.clone(), why: why.to_string() })?;
        let before = store.reclaim().reclaimed();
        let reclaimed = Reclaimed {
            horizon_ms: before.horizon_ms.max(slice.horizon_ms),
            ..Reclaimed::clone(&before)
        };
        put_reclaimed(store, &mut batch, &reclaimed);
        put_standing(store, &mut batch, &taking.standing);
        put_applied(store, &mut batch, &store.state().applied, &taking.applied);
        store.reclaim().restore(reclaimed);
        let state = NodeState { standing: taking.standing, applied: taking.applied };
        self.load_in(batch, intent, state)
    }
}

/// In the slots of the slice what was loaded is what the source had loaded, and elsewhere what it was.
fn remember_loads(
    store: &Store,
    slice: &Slice,
    batch: &mut WriteBatch,
) -> Result<(), rocksdb::Error> {
    let mut loads = BTreeMap::new();
    for entry in store.db().iterator_cf(store.cf(Cf::System), IteratorMode::Start) {
        let (key, value) = entry?;
        let Some(id) = system::loaded_id(&key) else { continue };
        let Ok(loaded) = serde_json::from_slice::<Loaded>(&value) else { continue };
        let slots = loaded.slots.difference(&slice.slots);
        loads.insert(id.to_owned(), Loaded { slots, ..loaded });
    }
    for (id, theirs) in &slice.loaded {
        let slots = theirs.slots.intersection(&slice.slots);
        let ours = loads.get(id).map_or(&SlotSet::default(), |ours| &ours.slots).union(&slots);
        loads.insert(id.clone(), Loaded { slots: ours, ..theirs.clone() });
    }
    for (id, loaded) in loads {
        match loaded.slots.is_empty() {
            true => batch.delete_cf(store.cf(Cf::System), system::loaded(&id)),
            false => put(store, batch, &system::loaded(&id), &loaded),
        }
    }
    Ok(())
}
