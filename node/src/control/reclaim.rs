//! Reclaim views: when they are announced, released and used (`store::reclaim` says what they are).
//!
//! What followers have staged is read from the key of this node's own sidecar in the registry: the
//! sidecar says it there of each stream anyway.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use admin::ReclaimStatus;
use topology::members::StreamStatus;
use topology::{ServiceView, ShardName};
use wal::{History, Position};

use super::{Control, Fault, Mode, Turn};
use crate::store::Store;

/// What has not expired for so long yet is kept, whatever the clocks say.
const HORIZON_MARGIN: Duration = Duration::from_secs(60);
/// A view so old is let go: its snapshot keeps all that was overwritten since it was taken.
const VIEW_AGE_MAX: Duration = Duration::from_secs(600);
/// A compaction by hand waits so long for a view of this moment.
const COMPACT_PATIENCE: Duration = Duration::from_secs(2);
const COMPACT_LOOK: Duration = Duration::from_millis(20);

/// The streams of this node's sidecar, by follower.
pub(super) type Streams = BTreeMap<String, StreamStatus>;

/// When the last view was announced, and what had been written by then.
#[derive(Debug)]
pub(super) struct Announced {
    at: Instant,
    written: u64,
    /// Why the last look used no newer view.
    held: Option<String>,
}

impl Default for Announced {
    fn default() -> Self {
        Self { at: Instant::now(), written: u64::MAX, held: None }
    }
}

impl Control {
    /// Remembers what this node's sidecar says of its followers.
    pub(super) fn hear_of_followers(&self, view: &ServiceView, shard: &ShardName) {
        let streams = view.sidecars.get(shard).map(|sidecar| sidecar.streams.clone());
        self.0.streams.store(streams.unwrap_or_default().into());
    }

    /// One look at the views: announces one where it is time, or `now`; releases and uses what can
    /// be.
    pub(super) fn look_at_views(&self, now: bool) -> Result<(), Fault> {
        let turn = self.turn();
        let store = self.store()?;
        if store.is_latched() {
            return Ok(());
        }
        let reclaim = store.reclaim();
        reclaim.drop_older(VIEW_AGE_MAX);
        let mode = self.0.authority.mode();
        let leads = matches!(mode, Mode::Standalone | Mode::Primary);
        let mut held = None;
        if leads && self.0.authority.is_writable() {
            self.announce_if_due(&turn, &store, now)?;
            held = self.release_if_staged(&turn, &store)?;
        }
        if reclaim.is_waiting() {
            held = held.or_else(|| reclaim.held_by());
            if store.exclusive().use_views()? {
                tracing::debug!(reclaimed = ?reclaim.reclaimed(), "a newer reclaim view is used");
            }
        }
        let mut announced = super::lock(&self.0.announced);
        if announced.held != held
            && let Some(why) = &held
        {
            tracing::debug!("a reclaim view waits: {why}");
        }
        announced.held = held;
        Ok(())
    }

    fn announce_if_due(&self, turn: &Turn, store: &Store, now: bool) -> Result<(), Fault> {
        let mut announced = super::lock(&self.0.announced);
        let due = announced.at.elapsed() >= store.options().reclaim_every
            && announced.written != store.written();
        if store.reclaim().is_own_waiting() || !(due || now) {
            return Ok(());
        }
        (announced.at, announced.written) = (Instant::now(), store.written());
        drop(announced);
        let mut exclusive = store.exclusive();
        // Under the order of the log: its last stamp is that of its last batch.
        let stamp_ms = store.hlc().last().ms();
        let margin = u64::try_from(HORIZON_MARGIN.as_millis()).unwrap_or(u64::MAX);
        let horizon_ms = stamp_ms.min(ops::clock::unix_ms()).saturating_sub(margin);
        exclusive.announce_view(horizon_ms, self.slots(turn))?;
        Ok(())
    }

    /// Releases this node's own view once it is synced here and staged by every follower; in words,
    /// what is missing.
    fn release_if_staged(&self, turn: &Turn, store: &Store) -> Result<Option<String>, Fault> {
        let Some((at, local, _)) = store.reclaim().unreleased() else { return Ok(None) };
        store.sync_to(local)?;
        if let Some(record) = turn.record.as_ref().map(|(record, _)| record)
            && let Some(shard) = self.shard()
        {
            let followers = record.followers_of(shard);
            let streams = self.0.streams.load();
            if let Some(why) = lacking(&followers, &streams, &store.history(), at) {
                return Ok(Some(why));
            }
            store.exclusive().release_view(at.sequence)?;
        }
        store.reclaim().release(None, at.sequence);
        Ok(None)
    }

    /// Waits until a view of now is used, for a while; then what there is has to do.
    pub(super) fn refresh_views(&self) -> Result<(), Fault> {
        let began = Instant::now();
        self.look_at_views(true)?;
        while began.elapsed() < COMPACT_PATIENCE {
            let store = self.store()?;
            let fresh = store.reclaim().age().is_some_and(|age| age <= began.elapsed());
            if fresh || !store.reclaim().is_waiting() {
                break;
            }
            drop(store);
            // Followers are another process's, and there is nothing here to be notified by.
            #[allow(clippy::disallowed_methods)]
            std::thread::sleep(COMPACT_LOOK);
            self.look_at_views(false)?;
        }
        Ok(())
    }

    /// How reclaiming goes.
    pub fn reclaim_status(&self, store: &Store) -> ReclaimStatus {
        let reclaim = store.reclaim();
        let dropped = reclaim.dropped();
        let age = reclaim.age().map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        ReclaimStatus {
            reclaimed: (*reclaim.reclaimed()).clone(),
            view_age_ms: age,
            held: super::lock(&self.0.announced).held.clone(),
            dropped_records: dropped.records,
            dropped_bytes: dropped.bytes,
        }
    }
}

/// In words, which follower is not known to have staged the batch that ends at `at`.
fn lacking(
    followers: &[ShardName],
    streams: &Streams,
    history: &History,
    at: Position,
) -> Option<String> {
    followers.iter().find_map(|follower| {
        let Some(stream) = streams.get(&follower.to_string()) else {
            return Some(format!("the sidecar does not say what {follower} has staged"));
        };
        let staged = stream.staged.is_some_and(|staged| reaches(history, at, staged));
        let lost = stream.state == "lost";
        (!staged && !lost).then(|| format!("{follower} has not staged it ({})", stream.state))
    })
}

/// Whether who has a log up to `staged` has the batch at `at`: a sequence alone may be that of
/// another timeline, which a power cut took.
fn reaches(history: &History, at: Position, staged: Position) -> bool {
    let index = |position: Position| {
        history.starts().iter().position(|start| start.timeline == position.timeline)
    };
    match (index(at), index(staged)) {
        (Some(wanted), Some(has)) => has >= wanted && staged.sequence >= at.sequence,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use wal::history::TimelineStart;
    use wal::{Sequence, TimelineId};

    use super::*;

    fn at(timeline: u128, sequence: u64) -> Position {
        Position { timeline: TimelineId(timeline), sequence: Sequence(sequence) }
    }

    fn stream(state: &str, staged: Option<Position>) -> StreamStatus {
        StreamStatus {
            state: state.to_owned(),
            reason: None,
            staged,
            applied: None,
            lag_ms: None,
            behind_bytes: 0,
            sent_bytes: 0,
            seed_bytes: 0,
            peer: Default::default(),
        }
    }

    #[test]
    fn every_follower_that_is_not_lost_must_have_staged_it_on_this_timeline() {
        let mut history = History::default();
        for (timeline, first) in [(1, 1), (2, 901)] {
            let timeline = TimelineId(timeline);
            let first = Sequence(first);
            history.push(TimelineStart { timeline, first, parents: Vec::new(), epoch: 1 });
        }
        let followers = ["b/0".parse().unwrap(), "c/0".parse().unwrap()];
        let lacks = |b: StreamStatus, c: Option<StreamStatus>| {
            let mut streams = Streams::from([("b/0".to_owned(), b)]);
            streams.extend(c.map(|c| ("c/0".to_owned(), c)));
            lacking(&followers, &streams, &history, at(2, 950)).is_some()
        };
        let has = || stream("streaming", Some(at(2, 950)));
        assert!(!lacks(has(), Some(has())));
        assert!(lacks(has(), None), "nobody says what it has");
        assert!(lacks(has(), Some(stream("streaming", Some(at(2, 949))))));
        assert!(lacks(has(), Some(stream("seeding", None))));
        assert!(!lacks(has(), Some(stream("lost", None))));
        // It had more of what a power cut took from this log.
        assert!(lacks(has(), Some(stream("connecting", Some(at(1, 1_000))))));
        assert!(lacks(has(), Some(stream("connecting", Some(at(7, 1_000))))));
    }
}
