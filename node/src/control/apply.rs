//! Applying what a source sends: data and position in one batch, so that each batch takes effect
//! once.

mod check;
mod run;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use admin::{Applied, Code, Follow};
use keyspace::{Hlc, SlotSet};
use topology::members::Role;
use topology::{Epoch, Record, ShardName};
use wal::Sequence;
use wal::frame::FrameRef;

use super::roles::readable_mode;
use super::{Control, Fault};
use crate::store::{CommitError, Store};
use check::check_slots;
use run::Run;

/// A write that RocksDB held up is tried again after this, and later each time, up to
/// [`STALLED_AGAIN_MAX`]: what was refused still counts against the rate that it allows.
const STALLED_AGAIN: Duration = Duration::from_millis(2);
const STALLED_AGAIN_MAX: Duration = Duration::from_millis(250);

/// Why a frame is not applied now.
enum Halt {
    /// RocksDB would have held a write up. What came before it is applied.
    Stalled,
    /// It cannot be.
    Fault(Fault),
}

impl From<Fault> for Halt {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<CommitError> for Halt {
    fn from(why: CommitError) -> Self {
        match why {
            CommitError::Stalled => Self::Stalled,
            why => Self::Fault(why.into()),
        }
    }
}

impl Control {
    /// Applies one frame of a source and answers the source sequence that is applied then.
    ///
    /// A frame that is here already is dropped; one that is here in part is applied from where the
    /// node stands, if the chain agrees there. While RocksDB holds writes up it waits, and others have
    /// their turn: each time it goes on from where the node stands then.
    pub(super) fn apply(&self, source: &ShardName, bytes: &[u8]) -> Result<Sequence, Fault> {
        let mut again = STALLED_AGAIN;
        loop {
            match self.apply_now(source, bytes) {
                Ok(applied) => return Ok(applied),
                Err(Halt::Fault(fault)) => return Err(fault),
                Err(Halt::Stalled) if self.0.closing.load(Ordering::Acquire) => {
                    return Err(Fault::swapping());
                }
                Err(Halt::Stalled) => {}
            }
            // Nobody says when a stall ends.
            #[allow(clippy::disallowed_methods)]
            std::thread::sleep(again);
            again = (again * 2).min(STALLED_AGAIN_MAX);
        }
    }

    fn apply_now(&self, source: &ShardName, bytes: &[u8]) -> Result<Sequence, Halt> {
        let damaged =
            |why: String| Fault::new(Code::Damaged, format!("{why}; nothing was applied"));
        let turn = self.turn();
        let store = self.store()?;
        let state = store.state();
        if !matches!(state.standing.role, Role::Standby | Role::Seeding | Role::Rewinding) {
            let role = state.standing.role;
            let why = format!("this node is {role:?}, and only a standby applies frames");
            return Err(Fault::role(why).into());
        }
        let Some(applied) = state.applied.get(source) else {
            let why =
                format!("this node does not follow {source}: seed it, or let it follow first");
            return Err(Fault::role(why).into());
        };
        let record = turn.record.as_ref().map(|(record, _)| record);
        let slots = self.own_slots(record)?;
        let theirs = record.and_then(|record| record.slots_of(source));
        let shared = theirs.map(|theirs| theirs.intersection(&slots)).unwrap_or_default();
        let frame = match FrameRef::parse(bytes).map_err(|why| damaged(why.to_string()))? {
            Some((frame, length)) if length == bytes.len() => frame,
            _ => {
                let why = "the frame is cut off, or something follows it";
                return Err(damaged(why.to_owned()).into());
            }
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
            )
            .into());
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
            )
            .into());
        }
        let mut scratch = Vec::new();
        let body = frame.decode(&mut scratch).map_err(|why| damaged(why.to_string()))?;
        let mut run =
            Run::new(self, &store, (source, &slots, &shared), applied, header.chain_before);
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
        let turn = self.turn();
        let store = self.store()?;
        let state = store.state();
        let standing = &state.standing;
        let theirs = turn.record.as_ref().and_then(|(record, _)| record.slots_of(&follow.source));
        // Of one that lacks slots, only whose slots it has.
        let has = theirs.is_some_and(|theirs| theirs.intersection(&standing.lacks).is_empty());
        let seeds = standing.role == Role::Seeding && standing.until.is_none() && has;
        if standing.role != Role::Standby && !seeds {
            return Err(Fault::role(format!(
                "this node is {:?}, and only a standby can begin to follow",
                standing.role
            )));
        }
        let record = turn.record.as_ref().map(|(record, _)| record);
        let own = self.own_slots(record)?;
        let applied = followed(&state.applied, follow, store.hlc().last(), (record, &own));
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

/// What is applied once `follow` is. Sources of other clusters are superseded as soon as all that
/// they had of this shard's slots (the second of `by`) comes from the new cluster: one that was kept
/// would be taken for a log that this node continues, long after it has gone on with another.
pub(super) fn followed(
    before: &BTreeMap<ShardName, Applied>,
    follow: &Follow,
    stamp: Hlc,
    by: (Option<&Record>, &SlotSet),
) -> BTreeMap<ShardName, Applied> {
    let (record, own) = by;
    let slots_of = |shard: &ShardName| {
        let slots = record.and_then(|record| record.slots_of(shard));
        slots.map(|slots| slots.intersection(own)).unwrap_or_default()
    };
    let mut applied = before.clone();
    applied.insert(follow.source.clone(), start_of(follow, stamp));
    let is_new = |source: &ShardName| source.cluster == follow.source.cluster;
    let covered = applied.keys().filter(|source| is_new(source)).map(slots_of);
    let covered = covered.fold(SlotSet::default(), |all, slots| all.union(&slots));
    applied.retain(|source, _| is_new(source) || !slots_of(source).difference(&covered).is_empty());
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
