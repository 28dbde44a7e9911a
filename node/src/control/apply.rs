//! Applying what a source sends: data and position in one batch, so that each batch takes effect
//! once.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use admin::{Applied, Code, Follow};
use keyspace::{Cf, Hlc, Slot, SlotSet};
use rocksdb::WriteBatch;
use topology::members::Role;
use topology::{Epoch, FreezeId, ShardName};
use wal::batch::{BatchBuilder, Record};
use wal::frame::{FrameBatch, FrameRef};
use wal::{Chain, Kind, Position, Sequence, Tag, ViewMark};

use super::roles::readable_mode;
use super::{Control, Fault};
use crate::store::{Following, Standing, Store};

/// Source batches are gathered into one commit up to this many bytes.
const COMMIT_BYTES: usize = 1 << 20;

impl Control {
    /// Applies one frame of a source and answers the source sequence that is applied then.
    ///
    /// A frame that is here already is dropped; one that is here in part is applied from where the
    /// node stands, if the chain agrees there.
    pub(super) fn apply(&self, source: &ShardName, bytes: &[u8]) -> Result<Sequence, Fault> {
        let damaged =
            |why: String| Fault::new(Code::Damaged, format!("{why}; nothing was applied"));
        let turn = self.turn();
        let store = self.store()?;
        let state = store.state();
        if !matches!(state.standing.role, Role::Standby | Role::Seeding | Role::Rewinding) {
            return Err(Fault::role(format!(
                "this node is {:?}, and only a standby applies frames",
                state.standing.role
            )));
        }
        let Some(applied) = state.applied.get(source) else {
            return Err(Fault::role(format!(
                "this node does not follow {source}: seed it, or let it follow first"
            )));
        };
        let record = turn.record.as_ref().map(|(record, _)| record);
        let slots = self.own_slots(record)?;
        let theirs = record.and_then(|record| record.slots_of(source));
        let shared = theirs.map(|theirs| theirs.intersection(&slots)).unwrap_or_default();
        let frame = match FrameRef::parse(bytes).map_err(|why| damaged(why.to_string()))? {
            Some((frame, length)) if length == bytes.len() => frame,
            _ => return Err(damaged("the frame is cut off, or something follows it".to_owned())),
        };
        let header = *frame.header();
        let at = applied.position;
        if Epoch(header.epoch) < applied.epoch {
            return Err(Fault::new(
                Code::Stale,
                format!(
                    "a frame of epoch {} after one of epoch {}: its sender was superseded",
                    header.epoch, applied.epoch
                ),
            ));
        }
        let begins = header.start == at;
        let within = header.end.timeline == at.timeline;
        if within && header.end.sequence < at.sequence {
            return Ok(at.sequence);
        }
        let meets = begins || (within && header.start.sequence <= at.sequence);
        if !meets {
            return Err(Fault::new(
                Code::Gap,
                format!(
                    "a frame from {} to {}, and this node stands at {at}",
                    header.start, header.end
                ),
            ));
        }
        let mut scratch = Vec::new();
        let body = frame.decode(&mut scratch).map_err(|why| damaged(why.to_string()))?;
        let mut run = Run {
            control: self,
            store: &store,
            source,
            slots: &slots,
            shared: &shared,
            applied: applied.clone(),
            chain: header.chain_before,
            begun: false,
            pending: BatchBuilder::default(),
            tag: None,
            records: 0,
        };
        if begins {
            run.meet()?;
            run.applied.position.timeline = header.end.timeline;
        }
        // Everything is looked at before anything is applied.
        for batch in body.batches() {
            check_slots(&batch, &slots).map_err(damaged)?;
        }
        for batch in body.batches() {
            run.take(&batch)?;
        }
        run.applied.epoch = Epoch(header.epoch);
        run.applied.stamp = run.applied.stamp.max(header.stamp);
        run.applied.log_chain = header.log_chain;
        run.finish(header.end)?;
        let now = run.applied.position.sequence;
        // A switch waits for this; other progress is told each second.
        let ended = run.applied.ended.is_some();
        drop(turn);
        if ended {
            // A switch commits on the strength of it, so it must outlive a power cut here.
            store.sync()?;
            self.0.changed.notify_one();
        }
        Ok(now)
    }

    pub(super) fn own_slots(&self, record: Option<&topology::Record>) -> Result<SlotSet, Fault> {
        let slots = record.zip(self.shard()).and_then(|(record, shard)| record.slots_of(shard));
        slots.cloned().ok_or_else(|| {
            Fault::role("this node has not learned its slots from its service's record yet")
        })
    }

    /// A standby begins to follow a source from a position that it has.
    pub(super) fn follow(&self, follow: &Follow) -> Result<(), Fault> {
        let _turn = self.turn();
        let store = self.store()?;
        let state = store.state();
        if state.standing.role != Role::Standby {
            return Err(Fault::role(format!(
                "this node is {:?}, and only a standby can begin to follow",
                state.standing.role
            )));
        }
        let applied = followed(&state.applied, follow, store.hlc().last());
        store.exclusive().stand_with(state.standing.clone(), applied)?;
        self.settle(&store);
        tracing::info!(source = %follow.source, position = %follow.position, "following");
        self.0.changed.notify_one();
        Ok(())
    }

    /// Lets workers know what a standby's state means for reads.
    pub(super) fn settle(&self, store: &Arc<Store>) {
        let role = store.state().standing.role;
        if matches!(role, Role::Standby | Role::Seeding | Role::Rewinding) {
            self.0.authority.set_mode(readable_mode(role, store));
        }
    }
}

/// What is applied once `follow` is: all of this shard's slots come from its cluster from here on,
/// so sources of other clusters are superseded. One that was kept would be taken for a log that
/// this node continues, long after it has gone on with another.
pub(super) fn followed(
    before: &BTreeMap<ShardName, Applied>,
    follow: &Follow,
    stamp: Hlc,
) -> BTreeMap<ShardName, Applied> {
    let mut applied = before.clone();
    applied.retain(|source, _| source.cluster == follow.source.cluster);
    applied.insert(follow.source.clone(), start_of(follow, stamp));
    applied
}

/// Where a stream begins.
fn start_of(follow: &Follow, stamp: Hlc) -> Applied {
    Applied {
        position: follow.position,
        log_chain: follow.log_chain,
        stream_chain: follow.stream_chain,
        stamp,
        epoch: follow.epoch,
        ended: None,
    }
}

/// One frame being applied.
struct Run<'a> {
    control: &'a Control,
    store: &'a Arc<Store>,
    source: &'a ShardName,
    slots: &'a SlotSet,
    /// Those of them that come from this source.
    shared: &'a SlotSet,
    /// What will be applied once `pending` is committed.
    applied: Applied,
    /// The stream's chain after the batches that were looked at.
    chain: Chain,
    /// Whether the batches here already are behind.
    begun: bool,
    pending: BatchBuilder,
    /// The last tag of `pending`.
    tag: Option<Tag>,
    /// Batches in `pending`.
    records: u32,
}

impl Run<'_> {
    /// The chain where the node stands must be the one it has.
    fn meet(&mut self) -> Result<(), Fault> {
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

    fn take(&mut self, batch: &FrameBatch<'_>) -> Result<(), Fault> {
        let here = self.applied.position.sequence;
        if !self.begun {
            self.chain = self.chain.extend(batch.batch.bytes());
            if batch.end() < here {
                return Ok(());
            }
            if batch.end() > here {
                return Err(Fault::new(
                    Code::Gap,
                    format!(
                        "sequence {here}, where this node stands, is inside a batch of the frame"
                    ),
                ));
            }
            return self.meet();
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

    fn finish(&mut self, end: Position) -> Result<(), Fault> {
        if !self.begun {
            return Err(Fault::new(
                Code::Gap,
                format!("the frame ends at {end} and never meets {}", self.applied.position),
            ));
        }
        self.commit()
    }

    /// Commits `pending` with the position after it.
    fn commit(&mut self) -> Result<(), Fault> {
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
        if complete {
            tracing::info!(source = %self.source, at = %self.applied.position, "complete: readable");
            self.control.settle(self.store);
            self.control.0.changed.notify_one();
        }
        Ok(())
    }

    /// Takes in the load that the source took in at the batch which was just looked at, with the
    /// position after it.
    fn load(&mut self, tag: &Tag) -> Result<(), Fault> {
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
    fn commit_at_barrier(&mut self, tag: &Tag) -> Result<(), Fault> {
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
    fn commit_at_view(&mut self, tag: &Tag) -> Result<(), Fault> {
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
    (at >= sequence).then(|| Standing { role: Role::Standby, until: None, ..standing.clone() })
}

/// A target never holds slots that it does not own.
fn check_slots(batch: &FrameBatch<'_>, slots: &SlotSet) -> Result<(), String> {
    let stranger = |slot: Option<Slot>| {
        let slot = slot.map_or("beyond the last".to_owned(), |slot| slot.to_string());
        format!("a record of slot {slot}, which this node does not hold")
    };
    for record in batch.batch.records() {
        match record {
            Record::Put { key, .. } | Record::Delete { key, .. } => {
                let slot = Slot::of_encoded(key);
                if !keyspace::library::is_of_shard(key)
                    && !slot.is_some_and(|slot| slots.contains(slot))
                {
                    return Err(stranger(slot));
                }
            }
            Record::DeleteRange { begin, end, .. } => {
                let (first, last) = (Slot::of_encoded(begin), last_touched(end));
                let (Some(first), Some(last)) = (first, last) else { return Err(stranger(None)) };
                let held = |range: &keyspace::SlotRange| range.first <= first && last <= range.last;
                if begin < end && !slots.ranges().iter().any(held) {
                    return Err(stranger(Some(first)));
                }
            }
            Record::SingleDelete { .. } | Record::Merge { .. } => {
                return Err("a record that no node of this version writes".to_owned());
            }
            Record::LogData(_) => {}
        }
    }
    Ok(())
}

/// The last slot with keys below `end`, which is not included.
fn last_touched(end: &[u8]) -> Option<Slot> {
    let (prefix, rest) = end.split_first_chunk::<2>()?;
    let number = u16::from_be_bytes(*prefix);
    Slot::new(if rest.is_empty() { number.checked_sub(1)? } else { number })
}
