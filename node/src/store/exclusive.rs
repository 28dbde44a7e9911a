//! What control writes: with no commit in flight, and knowing exactly where the log ends.

use std::collections::BTreeMap;
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;

use admin::Applied;
use keyspace::{Cf, Hlc, SlotSet, system};
use rocksdb::{ColumnFamily, WriteBatch};
use topology::{Epoch, ShardName};
use wal::{History, Kind, Position, Sequence, Tag, ViewMark};

use super::commit::Pace;
use super::reclaim::ReclaimView;
use super::state::{NodeState, Standing, put_applied, put_history, put_reclaimed, put_standing};
use super::{CommitError, Following, Order, Store};

/// Nobody else writes while this is held. Not to be held across a wait.
#[derive(Debug)]
pub struct Exclusive<'a> {
    pub(super) store: &'a Store,
    pub(super) order: MutexGuard<'a, Order>,
}

impl Store {
    /// Waits for the commit in flight, and keeps others out.
    pub fn exclusive(&self) -> Exclusive<'_> {
        Exclusive { store: self, order: self.order() }
    }
}

impl Exclusive<'_> {
    /// Whether commands of clients may be committed from here on.
    pub fn set_open(&mut self, open: bool) {
        self.order.open = open;
    }

    /// Which epoch tags carry from here on.
    pub fn set_epoch(&mut self, epoch: Epoch) {
        self.store.epoch.store(epoch.0, Ordering::Release);
    }

    /// The end of the log.
    pub fn position(&self) -> Position {
        self.store.position()
    }

    pub(super) fn family(&self, cf: Cf) -> &ColumnFamily {
        self.store.cf(cf)
    }

    /// Where a batch of `mark` with this many records will end: it carries the clock's
    /// bound too.
    pub(super) fn end_of(&self, records: u64) -> Position {
        let at = self.store.position();
        Position { sequence: Sequence(at.sequence.0 + records + 1), ..at }
    }

    /// Writes and syncs a new standing, which may name the end of the very batch that it is in.
    pub fn stand(
        &mut self,
        kind: Kind,
        marker: u128,
        standing: impl FnOnce(Position) -> Standing,
    ) -> Result<Position, CommitError> {
        let standing = standing(self.end_of(1));
        let mut batch = WriteBatch::default();
        put_standing(self.store, &mut batch, &standing);
        let end = self.mark(batch, kind, marker)?;
        let state = NodeState { standing, applied: self.store.state().applied.clone() };
        self.store.state.store(state.into());
        Ok(end)
    }

    /// Writes and syncs a standing together with what is applied of each source.
    pub fn stand_with(
        &mut self,
        standing: Standing,
        applied: BTreeMap<ShardName, Applied>,
    ) -> Result<Position, CommitError> {
        let mut batch = WriteBatch::default();
        put_standing(self.store, &mut batch, &standing);
        put_applied(self.store, &mut batch, &self.store.state().applied, &applied);
        let end = self.mark(batch, Kind::Data, 0)?;
        self.store.state.store(NodeState { standing, applied }.into());
        Ok(end)
    }

    /// Starts a timeline, synced: the log goes on from its own end and from all that was applied.
    pub fn start_timeline(
        &mut self,
        history: History,
        state: NodeState,
    ) -> Result<Position, CommitError> {
        self.start_timeline_in(WriteBatch::default(), history, state)
    }

    pub(super) fn start_timeline_in(
        &mut self,
        mut batch: WriteBatch,
        history: History,
        state: NodeState,
    ) -> Result<Position, CommitError> {
        put_history(self.store, &mut batch, &history);
        put_reclaimed(self.store, &mut batch, &self.store.reclaim.reclaimed());
        put_standing(self.store, &mut batch, &state.standing);
        put_applied(self.store, &mut batch, &self.store.state().applied, &state.applied);
        // The batch is the timeline's first, so its position is named by the new history.
        self.store.history.store(history.into());
        let end = self.mark(batch, Kind::Timeline, 0)?;
        self.store.state.store(state.into());
        Ok(end)
    }

    /// Writes a barrier batch, not synced: whoever compares waits for it to arrive.
    pub fn barrier(&mut self, id: u128) -> Result<(Position, Hlc), CommitError> {
        let mut batch = WriteBatch::default();
        batch.put_cf(self.store.cf(Cf::System), system::BARRIER, id.to_be_bytes());
        let stamp = self.store.stamp();
        let tag = self.store.tag(Kind::Barrier, stamp, id);
        let end = self.store.write_promised(&mut self.order, batch, &tag, Pace::Wait)?;
        Ok((self.store.position_in(&self.store.history.load(), end), stamp))
    }

    /// Announces a reclaim view of these slots and takes it exactly there; not synced.
    pub fn announce_view(
        &mut self,
        horizon_ms: u64,
        slots: SlotSet,
    ) -> Result<Position, CommitError> {
        if !self.order.open {
            return Err(CommitError::Closed);
        }
        let store = self.store;
        let stamp = store.stamp();
        let mark = ViewMark { bound: store.reclaim.bound(stamp), horizon_ms };
        let at = self.tell(Kind::View, stamp, mark.marker())?;
        self.take_view(None, at, mark, slots);
        Ok(at)
    }

    /// Says in the log that all followers have the view of this node's log at this sequence.
    pub fn release_view(&mut self, at: Sequence) -> Result<(), CommitError> {
        if !self.order.open {
            return Err(CommitError::Closed);
        }
        let stamp = self.store.stamp();
        self.tell(Kind::Reclaim, stamp, at.0.into()).map(drop)
    }

    /// Takes a reclaim view of what is in the database now: what a log said at `at`.
    pub fn take_view(
        &mut self,
        source: Option<ShardName>,
        at: Position,
        mark: ViewMark,
        slots: SlotSet,
    ) {
        let store = self.store;
        store.reclaim.raise_horizon(mark.horizon_ms);
        let mut view = ReclaimView::new(store.db.clone(), source, at, mark, slots);
        view.after = store.stamp();
        store.reclaim.wait_with(view);
    }

    fn tell(&mut self, kind: Kind, stamp: Hlc, marker: u128) -> Result<Position, CommitError> {
        let mut batch = WriteBatch::default();
        batch.put_cf(self.store.cf(Cf::System), system::VIEW, marker.to_be_bytes());
        let tag = self.store.tag(kind, stamp, marker);
        let end = self.store.write_promised(&mut self.order, batch, &tag, Pace::Wait)?;
        Ok(self.store.position_in(&self.store.history.load(), end))
    }

    /// Uses the views that are released, and that nothing here is in the way of, once it is synced
    /// that they are. False: there is none.
    pub fn use_views(&mut self) -> Result<bool, CommitError> {
        let Some(reclaimed) = self.store.reclaim.ready() else { return Ok(false) };
        let mut batch = WriteBatch::default();
        put_reclaimed(self.store, &mut batch, &reclaimed);
        self.mark(batch, Kind::Data, 0)?;
        self.store.reclaim.activate(reclaimed);
        Ok(true)
    }

    /// Commits what came from a source, under the tag of its origin, with how far that is now; rather
    /// not at all than late.
    pub fn apply(
        &mut self,
        batch: WriteBatch,
        tag: &Tag,
        source: &ShardName,
        applied: Applied,
        standing: Option<Standing>,
    ) -> Result<(), CommitError> {
        let following = Following { source: source.clone(), applied, standing };
        self.apply_or(batch, tag, following, Pace::Now)
    }

    pub(super) fn apply_or(
        &mut self,
        mut batch: WriteBatch,
        tag: &Tag,
        following: Following,
        pace: Pace,
    ) -> Result<(), CommitError> {
        let Following { source, applied, standing } = following;
        let store = self.store;
        let mut state = NodeState::clone(&store.state.load());
        state.applied.insert(source.clone(), applied);
        state.put_one(store, &mut batch, &source);
        if let Some(standing) = standing {
            put_standing(store, &mut batch, &standing);
            state.standing = standing;
        }
        store.clock.observe(tag.stamp);
        let written = store.write(&mut self.order, batch, tag, pace);
        store.changed_outside();
        written?;
        store.state.store(state.into());
        Ok(())
    }

    /// Deletes all that is in these slots, in one batch; rather not at all than late. Not synced.
    pub fn delete_slots(&mut self, slots: &SlotSet) -> Result<Position, CommitError> {
        let store = self.store;
        let mut batch = WriteBatch::default();
        for cf in Cf::ALL.into_iter().filter(|cf| cf.is_shipped()) {
            for range in slots.ranges() {
                let (from, to) = (range.first.prefix(), (range.last.number() + 1).to_be_bytes());
                batch.delete_range_cf(store.cf(cf), from, to);
            }
        }
        let stamp = store.stamp();
        let tag = store.tag(Kind::Data, stamp, 0);
        let written = store.write_promised(&mut self.order, batch, &tag, Pace::Now);
        store.changed_outside();
        Ok(store.position_in(&store.history.load(), written?))
    }

    /// Commits records that control brings (a rewind's keys) under a tag of this node.
    pub fn replace(&mut self, batch: WriteBatch) -> Result<(), CommitError> {
        let stamp = self.store.stamp();
        let tag = self.store.tag(Kind::Data, stamp, 0);
        let written = self.store.write_promised(&mut self.order, batch, &tag, Pace::Wait).map(drop);
        self.store.changed_outside();
        written
    }

    pub(super) fn mark(
        &mut self,
        mut batch: WriteBatch,
        kind: Kind,
        marker: u128,
    ) -> Result<Position, CommitError> {
        let stamp = self.store.stamp();
        let tag = self.store.tag(kind, stamp, marker);
        let bound = self.store.put_clock(&mut batch, stamp);
        let end = self.store.write(&mut self.order, batch, &tag, Pace::Wait)?;
        self.store.sync_to(end)?;
        self.store.clock_bound.fetch_max(bound.0, Ordering::AcqRel);
        Ok(self.store.position_in(&self.store.history.load(), end))
    }
}
