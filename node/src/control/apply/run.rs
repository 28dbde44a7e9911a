//! The batches of a frame, one after the other, gathered into commits.

use std::borrow::Cow;
use std::sync::Arc;

use admin::{Applied, Code};
use keyspace::{Cf, SlotSet, user};
use rocksdb::WriteBatch;
use topology::members::Role;
use topology::{Epoch, FreezeId, ShardName};
use wal::batch::{BatchBuilder, Record};
use wal::frame::FrameBatch;
use wal::{Chain, Kind, Position, Sequence, Tag, ViewMark};

use super::super::{Control, Fault};
use super::Halt;
use crate::store::{Following, Standing, Store};

/// Source batches are gathered into one commit up to this many bytes.
const COMMIT_BYTES: usize = 1 << 20;

/// One frame being applied.
pub(super) struct Run<'a> {
    control: &'a Control,
    store: &'a Arc<Store>,
    source: &'a ShardName,
    slots: &'a SlotSet,
    /// Those of them that come from this source.
    shared: &'a SlotSet,
    /// What will be applied once `pending` is committed.
    pub(super) applied: Applied,
    /// The stream's chain after the batches that were looked at.
    chain: Chain,
    /// Whether the batches here already are behind.
    begun: bool,
    pending: BatchBuilder,
    /// The last tag of `pending`.
    tag: Option<Tag>,
    /// Batches in `pending`.
    records: u32,
    /// Some of them change users.
    users: bool,
}

impl<'a> Run<'a> {
    /// Nothing of it yet, from where the node stands; `chain` is that of the stream before the frame.
    pub(super) fn new(
        control: &'a Control,
        store: &'a Arc<Store>,
        (source, slots, shared): (&'a ShardName, &'a SlotSet, &'a SlotSet),
        applied: &Applied,
        chain: Chain,
    ) -> Self {
        Self {
            control,
            store,
            source,
            slots,
            shared,
            applied: applied.clone(),
            chain,
            begun: false,
            pending: BatchBuilder::default(),
            tag: None,
            records: 0,
            users: false,
        }
    }

    /// The chain where the node stands must be the one it has.
    pub(super) fn meet(&mut self) -> Result<(), Fault> {
        if self.chain != self.applied.stream_chain {
            return Err(Fault::new(
                Code::Chain,
                format!(
                    "the stream's chain at {} is {:x}, and this node has {:x} there: the two sides \
                     have diverged; compare digests, then seed this node again",
                    self.applied.position, self.chain.0, self.applied.stream_chain.0
                ),
            ));
        }
        self.begun = true;
        Ok(())
    }

    pub(super) fn take(&mut self, batch: &FrameBatch<'_>) -> Result<(), Halt> {
        let here = self.applied.position.sequence;
        if !self.begun {
            self.chain = self.chain.extend(batch.batch.bytes());
            if batch.end() < here {
                return Ok(());
            }
            if batch.end() > here {
                let why = format!(
                    "sequence {here}, where this node stands, is inside a batch of the frame"
                );
                return Err(Fault::new(Code::Gap, why).into());
            }
            return Ok(self.meet()?);
        }
        self.chain = self.chain.extend(batch.batch.bytes());
        // What comes before a load is committed before it.
        let loads = |tag: &Tag| tag.kind == Kind::Load;
        if batch.batch.tags().any(|tag| tag.is_ok_and(|tag| loads(&tag))) {
            self.commit()?;
        }
        let mut last = None;
        let dropped = ops::failpoint::hit("apply-drop-batch");
        for record in batch.batch.records() {
            if let Record::Put { cf: Cf::Data, key, .. } | Record::Delete { cf: Cf::Data, key } =
                record
            {
                self.users |= user::decode_key(key).is_some();
            }
            match record {
                Record::Put { cf: Cf::Meta, .. } if ops::failpoint::hit("apply-drop-key") => {}
                Record::Put { cf, key, value } if !dropped => {
                    self.pending.put(cf, key, &falsified(cf, value));
                }
                Record::Delete { cf, key } if !dropped => drop(self.pending.delete(cf, key)),
                Record::DeleteRange { cf, begin, end } if !dropped => {
                    self.pending.delete_range(cf, begin, end);
                }
                Record::LogData(bytes) => {
                    let tag = Tag::decode(bytes)
                        .map_err(|why| Fault::new(Code::Damaged, why.to_string()))?;
                    self.store.hlc().observe(tag.stamp);
                    self.applied.stamp = self.applied.stamp.max(tag.stamp);
                    self.applied.epoch = self.applied.epoch.max(Epoch(tag.epoch));
                    last = Some(tag);
                }
                _ => {}
            }
        }
        self.applied.position.sequence = batch.end();
        self.applied.stream_chain = self.chain;
        self.records += 1;
        self.tag = last.or(self.tag);
        let data = batch.batch.count() > 0;
        match last.map(|tag| (tag.kind, tag)) {
            Some((Kind::End, tag)) => self.applied.ended = Some(FreezeId(tag.marker)),
            Some((Kind::Barrier, tag)) => {
                self.applied.ended = None;
                return self.commit_at_barrier(&tag);
            }
            Some((Kind::View, tag)) => {
                self.applied.ended = None;
                return self.commit_at_view(&tag);
            }
            Some((Kind::Reclaim, tag)) => {
                self.applied.ended = None;
                let view = Sequence(u64::try_from(tag.marker).unwrap_or(u64::MAX));
                self.store.reclaim().release(Some(self.source), view);
            }
            Some((Kind::Load, tag)) => return self.load(&tag),
            Some((Kind::Data, _)) if data => self.applied.ended = None,
            Some((Kind::Heartbeat, _)) => self.applied.ended = None,
            _ => {}
        }
        if self.pending.size() >= COMMIT_BYTES { self.commit() } else { Ok(()) }
    }

    pub(super) fn finish(&mut self, end: Position) -> Result<(), Halt> {
        if !self.begun {
            let why = format!("the frame ends at {end} and never meets {}", self.applied.position);
            return Err(Fault::new(Code::Gap, why).into());
        }
        self.commit()
    }

    /// Commits `pending` with the position after it.
    fn commit(&mut self) -> Result<(), Halt> {
        let before = self.store.state();
        if before.applied.get(self.source) == Some(&self.applied) {
            return Ok(());
        }
        let pending = std::mem::take(&mut self.pending).finish();
        let tag = self.tag.unwrap_or_else(|| self.untagged());
        let standing = reached(&before.standing, self.source, self.applied.position.sequence);
        let complete = standing.is_some();
        self.store.exclusive().apply(
            WriteBatch::from_data(&pending),
            &Tag { kind: Kind::Data, marker: 0, ..tag },
            self.source,
            self.applied.clone(),
            standing,
        )?;
        self.records = 0;
        if std::mem::take(&mut self.users) {
            self.control.0.workers.users_changed(self.store);
        }
        if complete {
            tracing::info!(source = %self.source, at = %self.applied.position, "complete: readable");
            self.control.settle(self.store);
            self.control.0.changed.notify_one();
        }
        Ok(())
    }

    /// Takes in the load that the source took in at the batch which was just looked at, with the
    /// position after it.
    fn load(&mut self, tag: &Tag) -> Result<(), Halt> {
        // Its batches are not held up: everybody would wait for them.
        if self.store.look_at_stall().stopped {
            return Err(Halt::Stalled);
        }
        self.applied.ended = None;
        let before = self.store.state();
        let standing = reached(&before.standing, self.source, self.applied.position.sequence);
        let complete = standing.is_some();
        let following =
            Following { source: self.source.clone(), applied: self.applied.clone(), standing };
        let id = format!("{:032x}", tag.marker);
        self.control.take_in_of(self.store, &id, self.slots, following)?;
        self.tag = None;
        self.records = 0;
        if complete {
            self.control.settle(self.store);
            self.control.0.changed.notify_one();
        }
        Ok(())
    }

    /// Commits up to the barrier and digests exactly there.
    fn commit_at_barrier(&mut self, tag: &Tag) -> Result<(), Halt> {
        self.commit()?;
        let exclusive = self.store.exclusive();
        self.control.0.digests.begin(
            self.store,
            tag.marker,
            self.applied.position,
            tag.stamp,
            self.slots.clone(),
        );
        drop(exclusive);
        Ok(())
    }

    /// Commits up to the announcement of a reclaim view and takes it exactly there. While a rewind or
    /// a seed is not whole, the metadata is not that of any one position.
    fn commit_at_view(&mut self, tag: &Tag) -> Result<(), Halt> {
        self.commit()?;
        if self.store.state().standing.role != Role::Standby || self.shared.is_empty() {
            return Ok(());
        }
        let (source, mark) = (self.source.clone(), ViewMark::of(tag.marker));
        let mut exclusive = self.store.exclusive();
        exclusive.take_view(Some(source), self.applied.position, mark, self.shared.clone());
        Ok(())
    }

    /// RocksDB writes a batch without a tag when it recovers from a damaged tail.
    fn untagged(&self) -> Tag {
        Tag {
            kind: Kind::Data,
            origin: Tag::origin_of(&self.source.cluster),
            epoch: self.applied.epoch.0,
            stamp: self.applied.stamp,
            marker: 0,
        }
    }
}

/// The value as it is, but for a build that is broken on purpose, to show that digests notice.
fn falsified(cf: Cf, value: &[u8]) -> Cow<'_, [u8]> {
    let mut wrong = Cow::Borrowed(value);
    if cf == Cf::Data
        && ops::failpoint::hit("apply-change-field")
        && let Some(last) = wrong.to_mut().last_mut()
    {
        *last ^= 1;
    }
    // Type, flags and stamp come first, then eight bytes of expiry.
    if cf == Cf::Meta
        && value.get(10..18).is_some_and(|expiry| expiry != [0; 8])
        && ops::failpoint::hit("apply-change-expiry")
    {
        wrong.to_mut()[17] ^= 1;
    }
    wrong
}

/// The standing of a node that has applied what seeding or rewinding waited for.
fn reached(standing: &Standing, source: &ShardName, at: Sequence) -> Option<Standing> {
    let until = standing.until.as_ref().filter(|until| until.source == *source)?;
    let sequence = until.sequence?;
    let role = if standing.lacks.is_empty() { Role::Standby } else { Role::Seeding };
    (at >= sequence).then(|| Standing { role, until: None, ..standing.clone() })
}
