//! Taking back what an old primary wrote past the fork. Durable, and not readable until it is done.

use std::sync::Arc;

use admin::{Code, Follow};
use keyspace::{Cf, Slot, SlotSet, meta};
use rocksdb::{ReadOptions, WriteBatch};
use topology::ShardName;
use topology::members::Role;
use wal::Position;
use wal::batch::{BatchRef, Record};

use super::apply::followed;
use super::export::each_record;
use super::{Control, Fault, Mode};
use crate::store::{Standing, Store, Until};

/// Records that one batch of deletes removes.
const DELETES_PER_BATCH: usize = 10_000;

impl Control {
    /// From here on the node is *rewinding*, synced.
    pub(super) fn rewind_begin(&self, source: &ShardName, fork: Position) -> Result<(), Fault> {
        let _turn = self.turn();
        let store = self.store()?;
        let state = store.state();
        if !matches!(state.standing.role, Role::Standby | Role::Rewinding) {
            return Err(Fault::role(format!(
                "this node is {:?}, and only a standby rewinds",
                state.standing.role
            )));
        }
        if let Some(reclaimed) =
            store.reclaim().reclaimed().own.filter(|own| own.sequence > fork.sequence)
        {
            return Err(Fault::role(format!(
                "space was reclaimed here up to {reclaimed}, and what was live at the fork {fork} may \
                 be gone: this node must be seeded; nothing was changed"
            )));
        }
        // The keys come back under the versions that they have there.
        store.reclaim().forget();
        self.0.authority.set_mode(Mode::Loading);
        let _parked = self.0.workers.pause();
        let standing = Standing {
            role: Role::Rewinding,
            until: Some(Until { source: source.clone(), sequence: None }),
            ..state.standing.clone()
        };
        store.exclusive().stand(wal::Kind::Data, 0, |_| standing)?;
        tracing::info!(%source, %fork, "rewinding");
        self.0.changed.notify_one();
        Ok(())
    }

    /// Replaces all records of these keys by those that the batch puts.
    pub(super) fn rewind_keys(&self, keys: &[&[u8]], batch: &[u8]) -> Result<(), Fault> {
        let _turn = self.turn();
        let store = self.rewinding()?;
        let damaged =
            |why: String| Fault::new(Code::Damaged, format!("{why}; nothing was changed"));
        let parsed = BatchRef::parse(batch).map_err(|why| damaged(why.to_string()))?;
        for record in parsed.records() {
            let Record::Put { cf, key, .. } = record else {
                return Err(damaged("the batch of a rewind does more than put".to_owned()));
            };
            if !cf.is_shipped() || !owner_is_among(cf, key, keys) {
                return Err(damaged("the batch puts a record of another key".to_owned()));
            }
        }
        for key in keys {
            let mut deletes = WriteBatch::default();
            let mut full = Vec::new();
            let mut meta_key = Vec::new();
            meta::encode_key(Slot::of_key(key), key, &mut meta_key);
            deletes.delete_cf(store.cf(Cf::Meta), meta_key);
            for cf in [Cf::Data, Cf::Score] {
                each_record(store.db(), &store, cf, key, ReadOptions::default(), |raw, _| {
                    deletes.delete_cf(store.cf(cf), raw);
                    if deletes.len() >= DELETES_PER_BATCH {
                        full.push(std::mem::take(&mut deletes));
                    }
                })?;
            }
            full.push(deletes);
            for batch in full {
                store.exclusive().replace(batch)?;
            }
        }
        if parsed.count() > 0 {
            store.exclusive().replace(WriteBatch::from_data(batch))?;
        }
        Ok(())
    }

    /// Takes away all that these slots hold.
    pub(super) fn rewind_slots(&self, slots: &SlotSet) -> Result<(), Fault> {
        let _turn = self.turn();
        let store = self.rewinding()?;
        let mut batch = WriteBatch::default();
        for range in slots.ranges() {
            let (from, to) = super::slots::bounds(range.first, range.last);
            for cf in Cf::ALL.into_iter().filter(|cf| cf.is_shipped()) {
                batch.delete_range_cf(store.cf(cf), from, to);
            }
        }
        Ok(store.exclusive().replace(batch)?)
    }

    /// Puts records into these slots.
    pub(super) fn rewind_put(&self, slots: &SlotSet, batch: &[u8]) -> Result<(), Fault> {
        let _turn = self.turn();
        let store = self.rewinding()?;
        let damaged =
            |why: String| Fault::new(Code::Damaged, format!("{why}; nothing was changed"));
        let parsed = BatchRef::parse(batch).map_err(|why| damaged(why.to_string()))?;
        for record in parsed.records() {
            let Record::Put { cf, key, .. } = record else {
                return Err(damaged("the batch of a rewind does more than put".to_owned()));
            };
            if !cf.is_shipped() || !Slot::of_encoded(key).is_some_and(|s| slots.contains(s)) {
                return Err(damaged("the batch puts a record of another slot".to_owned()));
            }
        }
        if parsed.count() > 0 {
            store.exclusive().replace(WriteBatch::from_data(batch))?;
        }
        Ok(())
    }

    /// A load that was taken in past the fork never was: it may come again.
    pub(super) fn rewind_forget(&self, load: u128) -> Result<(), Fault> {
        let _turn = self.turn();
        let store = self.rewinding()?;
        let mut batch = WriteBatch::default();
        let key = keyspace::system::loaded(&format!("{load:032x}"));
        batch.delete_cf(store.cf(Cf::System), key);
        Ok(store.exclusive().replace(batch)?)
    }

    pub(super) fn rewinding(&self) -> Result<Arc<Store>, Fault> {
        let store = self.store()?;
        if store.state().standing.role != Role::Rewinding {
            return Err(Fault::role("records are replaced between REWIND BEGIN and REWIND END"));
        }
        Ok(store)
    }

    /// All keys are replaced: follows from `position`, readable once applied up to `until`.
    pub(super) fn rewind_end(&self, follow: &Follow) -> Result<(), Fault> {
        let turn = self.turn();
        let store = self.store()?;
        let state = store.state();
        let rewinds = state.standing.until.as_ref().is_some_and(|u| u.source == follow.source);
        if state.standing.role != Role::Rewinding || !rewinds {
            return Err(Fault::role(format!("no rewind to {} has begun here", follow.source)));
        }
        let whole = follow.position.sequence >= follow.until;
        let until = Until { source: follow.source.clone(), sequence: Some(follow.until) };
        let standing = Standing {
            role: if whole { Role::Standby } else { Role::Rewinding },
            until: (!whole).then_some(until),
            own_end: None,
            local_until: None,
            ..state.standing.clone()
        };
        let record = turn.record.as_ref().map(|(record, _)| record);
        let own = self.own_slots(record)?;
        let applied = followed(&state.applied, follow, store.hlc().last(), (record, &own));
        store.exclusive().stand_with(standing, applied)?;
        self.settle(&store);
        // Some of what was taken back may be users.
        self.0.workers.users_changed(&store);
        tracing::info!(source = %follow.source, position = %follow.position, "rewound; following");
        self.0.changed.notify_one();
        Ok(())
    }
}

/// Whether the record belongs to one of the keys.
fn owner_is_among(cf: Cf, raw: &[u8], keys: &[&[u8]]) -> bool {
    let owner = match cf {
        Cf::Meta => meta::decode_key(raw).ok().map(|(_, key)| key),
        Cf::Data | Cf::Score => {
            // Both begin with slot, length and key.
            let length = raw.get(2..6).and_then(|l| <[u8; 4]>::try_from(l).ok());
            let length = length.and_then(|l| usize::try_from(u32::from_be_bytes(l)).ok());
            length.and_then(|length| raw.get(6..6usize.checked_add(length)?))
        }
        Cf::System => None,
    };
    let slot = Slot::of_encoded(raw);
    owner.is_some_and(|key| keys.contains(&key) && slot == Some(Slot::of_key(key)))
}
