//! What the node says of itself: to the admin listener and in the registry.

use admin::{FreezeStatus, Status, Synced};
use keyspace::SlotSet;
use topology::Record;
use topology::members::Role;
use topology::record::UnixMs;
use wal::Sequence;

use super::{Control, Fault, Mode, Told, Turn};
use crate::store::{NodeState, Store};

impl Control {
    /// Answer of `GODWIT.STATUS`.
    pub(super) fn status(&self) -> Result<Status, Fault> {
        let told = self.0.told.load();
        let store = self.store()?;
        let state = store.state();
        let identity = store.identity();
        Ok(Status {
            database: identity.database.clone(),
            control: Status::CONTROL,
            format: identity.format,
            service: identity.service.clone(),
            shard: identity.shard.clone(),
            slots: self.slots_by(told.record.as_ref().map(|(record, _)| record)),
            role: self.role(&store),
            epoch: store.epoch(),
            fence: told.fence,
            writable: self.0.authority.is_writable(),
            lease_left_ms: self
                .0
                .authority
                .lease_left()
                .map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
            position: store.position(),
            own_end: state.standing.own_end,
            local_until: state.standing.local_until,
            history: (*store.history()).clone(),
            synced: self.synced_applied(&store, &state),
            applied: state.applied.clone(),
            freeze: self.freeze_status(&told),
            ended: state.standing.ended,
            until: state.standing.until.as_ref().and_then(|until| until.sequence),
            lacks: state.standing.lacks.clone(),
            reclaim: self.reclaim_status(&store),
            clock_ahead_ms: store
                .clock_ahead()
                .map(|ahead| u64::try_from(ahead.as_millis()).unwrap_or(u64::MAX)),
            p99_us: crate::stats::recent::p99_us(),
            promises: self.promise_status(),
        })
    }

    /// Syncs the log; what is applied and on disk then.
    pub(super) fn sync(&self) -> Result<Synced, Fault> {
        let store = self.store()?;
        let state = store.state();
        store.sync()?;
        Ok(state.applied.iter().map(|(s, a)| (s.clone(), a.position.sequence)).collect())
    }

    fn synced_applied(&self, store: &Store, state: &NodeState) -> Synced {
        // Nothing is known to be on disk but what a sync of everything covered.
        if store.synced() < Sequence(store.db().latest_sequence_number()) {
            return Synced::new();
        }
        state.applied.iter().map(|(s, a)| (s.clone(), a.position.sequence)).collect()
    }

    pub(super) fn slots(&self, turn: &Turn) -> SlotSet {
        self.slots_by(turn.record.as_ref().map(|(record, _)| record))
    }

    fn slots_by(&self, record: Option<&Record>) -> SlotSet {
        match (self.shard(), record) {
            (None, _) => SlotSet::all(),
            (Some(shard), Some(record)) => record.slots_of(shard).cloned().unwrap_or_default(),
            (Some(_), None) => SlotSet::default(),
        }
    }

    fn freeze_status(&self, told: &Told) -> Option<FreezeStatus> {
        if let Some((id, deadline)) = told.manual {
            return Some(FreezeStatus { id, deadline });
        }
        let (record, _) = told.record.as_ref()?;
        let freeze = record.freeze_of(self.shard()?)?;
        Some(FreezeStatus { id: freeze.id, deadline: freeze.deadline })
    }

    /// What it does now: what it is on disk, but `Unknown` until the record has confirmed it.
    pub fn role(&self, store: &Store) -> Role {
        match self.0.authority.mode() {
            Mode::Standalone => Role::Standalone,
            Mode::Primary | Mode::Frozen | Mode::Fenced if self.has_service() => Role::Primary,
            Mode::Unknown => Role::Unknown,
            _ => store.state().standing.role,
        }
    }

    /// The freeze of the record that this node stands in, if its deadline has passed.
    pub(super) fn overdue_freeze(&self) -> Option<topology::FreezeId> {
        let told = self.0.told.load();
        let (record, _) = told.record.as_ref()?;
        let freeze = record.freeze_of(self.shard()?)?;
        (UnixMs::now() >= freeze.deadline).then_some(freeze.id)
    }
}
