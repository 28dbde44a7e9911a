//! What stands between the stage and the node: a delay that is wanted, and a breaker that stops
//! before a stream deletes too much. Staging and acknowledging go on meanwhile.
//!
//! What is decided is on disk, in `<spool>/holds/<cluster>-<shard>.json`, before it is acted upon;
//! an operator's verbs leave an [`Order`] beside it. Layout: `docs/formats.md`, "Files of a spool".

mod breaker;
mod order;
mod state;
mod window;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use keyspace::SlotSet;
use topology::ShardName;
use wal::frame::FrameHeader;
use wal::{Position, Sequence};

pub use breaker::{Breaker, Deletes};
pub use order::{Order, give, waiting};
pub use state::{Discarded, HoldState, Tripped};
use window::{Kept, WindowFile};

/// How often it is looked whether there is an order.
const ORDER_EVERY: Duration = Duration::from_millis(100);

/// What a sidecar was started with.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HoldSettings {
    /// How far behind the node is kept on purpose.
    pub delay: Duration,
    /// The share of the keys that may be deleted in a minute; none: the breaker is off.
    pub breaker: Option<f64>,
}

/// What becomes of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is applied.
    Pass,
    /// It is not old enough.
    Delayed {
        /// Milliseconds until it is.
        left_ms: u64,
    },
    /// The breaker has tripped, now or before; why.
    Tripped(String),
}

/// What a frame is judged by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    /// The wall clock.
    pub(super) now_ms: u64,
    /// Nothing is delayed: its end is waited for.
    pub(super) lifted: bool,
    /// The slots that come from this source.
    pub(super) slots: &'a SlotSet,
}

/// The hold on one source's stream.
#[derive(Debug)]
pub(super) struct Hold {
    settings: HoldSettings,
    path: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: HoldState,
    breaker: Breaker,
    /// The end of the last frame that was counted: one that is applied again after a failure is not
    /// counted twice.
    counted: Option<Sequence>,
    /// Both on disk.
    window: WindowFile,
    /// When it was last looked whether there is an order.
    looked: Option<Instant>,
}

impl Hold {
    /// The hold on a source, as a former run left it.
    pub(super) fn open(
        spool: &Path,
        source: &ShardName,
        settings: HoldSettings,
    ) -> std::io::Result<Self> {
        let path = path_of(spool, source);
        let state = HoldState::read(&path)?;
        let window = WindowFile::beside(&path);
        let kept = window.read().filter(|_| settings.breaker.is_some());
        let counted = kept.as_ref().map(|kept| kept.counted);
        let breaker = kept.map_or_else(Breaker::default, |kept| Breaker::again(&kept.window));
        let inner = Inner { state, breaker, counted, window, looked: None };
        Ok(Self { settings, path, inner: Mutex::new(inner) })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is decided.
    pub(super) fn state(&self) -> HoldState {
        self.lock().state.clone()
    }

    /// Whether the breaker looks at frames.
    pub(super) fn counts(&self) -> bool {
        self.settings.breaker.is_some()
    }

    /// Whether nothing is held back, counted or delayed: no frame has to be looked at.
    pub(super) fn lets_all_pass(&self) -> bool {
        self.settings.breaker.is_none()
            && self.delay().is_zero()
            && self.lock().state.tripped.is_none()
    }

    /// How many keys the node has, with all that was judged before applied.
    pub(super) fn measured(&self, keys: u64) {
        self.lock().breaker.measured(keys);
    }

    /// How far behind the node is kept.
    pub(super) fn delay(&self) -> Duration {
        self.lock().state.delay_ms.map_or(self.settings.delay, Duration::from_millis)
    }

    /// Judges the next frame. A breaker that trips is on disk when this returns.
    pub(super) fn judge(
        &self,
        header: &FrameHeader,
        frame: &[u8],
        facts: Facts<'_>,
    ) -> std::io::Result<Verdict> {
        let delay = u64::try_from(self.delay().as_millis()).unwrap_or(u64::MAX);
        let mut inner = self.lock();
        if let Some(tripped) = &inner.state.tripped {
            return Ok(Verdict::Tripped(tripped.to_string()));
        }
        let within = |bound: Option<Sequence>| bound.is_some_and(|to| header.end.sequence <= to);
        let due = header.stamp.ms().saturating_add(delay);
        // Without a delay stamps say nothing: those of a node that was restarted run ahead of its clock.
        if delay > 0 && due > facts.now_ms && !facts.lifted && !within(inner.state.caught_up_to) {
            return Ok(Verdict::Delayed { left_ms: due - facts.now_ms });
        }
        let free = within(inner.state.allowed_to) || within(inner.counted);
        let Some(share) = self.settings.breaker.filter(|_| !free) else {
            return Ok(Verdict::Pass);
        };
        // A frame that cannot be read is the node's to refuse.
        let Ok(deletes) = Deletes::of(frame, facts.slots) else { return Ok(Verdict::Pass) };
        let at_ms = header.stamp.ms();
        let Some(why) = inner.breaker.judge(at_ms, deletes, share) else {
            inner.counted = Some(header.end.sequence);
            if !deletes.is_none() {
                let window = inner.breaker.window();
                inner.window.write(&Kept { counted: header.end.sequence, window })?;
            }
            return Ok(Verdict::Pass);
        };
        let tripped =
            Tripped { at: header.start, until: header.end.sequence, stamp_ms: at_ms, why };
        let said = tripped.to_string();
        let state = HoldState { tripped: Some(tripped), ..inner.state.clone() };
        self.keep(&mut inner, state)?;
        Ok(Verdict::Tripped(said))
    }

    fn keep(&self, inner: &mut Inner, state: HoldState) -> std::io::Result<()> {
        state.write(&self.path)?;
        inner.state = state;
        Ok(())
    }

    /// The order that waits, if one does; it is looked for now and then.
    pub(super) fn order(&self) -> Option<Order> {
        let mut inner = self.lock();
        if inner.looked.is_some_and(|looked| looked.elapsed() < ORDER_EVERY) {
            return None;
        }
        inner.looked = Some(Instant::now());
        order::read(&self.path)
    }

    /// Obeys all but a discard, which is the stage's to carry out first. `tip` is the end of what is
    /// staged.
    pub(super) fn obey(&self, order: &Order, tip: Option<Position>) -> std::io::Result<()> {
        let mut inner = self.lock();
        let mut state = inner.state.clone();
        let tip = tip.map(|tip| tip.sequence);
        match order {
            Order::CatchUp => state.caught_up_to = tip.max(state.caught_up_to),
            Order::Delay { delay_ms } => state.delay_ms = *delay_ms,
            Order::ApplyAnyway => {
                let tripped = state.tripped.take().map(|tripped| tripped.until);
                let discarded = state.discarded.take().map(|discarded| discarded.until);
                state.allowed_to = tip.max(tripped).max(discarded).max(state.allowed_to);
                inner.breaker = Breaker::default();
                let counted = inner.counted.unwrap_or_default();
                inner.window.write(&Kept { counted, window: Vec::new() })?;
            }
            Order::Discard => {}
        }
        self.keep(&mut inner, state)?;
        drop(inner);
        self.obeyed()
    }

    /// What was staged from `at` on is not applied and not taken again.
    pub(super) fn discard(&self, at: Position) -> std::io::Result<()> {
        let mut inner = self.lock();
        let mut state = inner.state.clone();
        let until = state.tripped.take().map_or(at.sequence, |tripped| tripped.until);
        state.discarded = Some(Discarded { at, until });
        self.keep(&mut inner, state)?;
        drop(inner);
        self.obeyed()
    }

    /// The source is no primary any more: what comes when it is one again is another log.
    pub(super) fn forget_discarded(&self) -> std::io::Result<()> {
        let mut inner = self.lock();
        if inner.state.discarded.is_none() {
            return Ok(());
        }
        let state = HoldState { discarded: None, ..inner.state.clone() };
        self.keep(&mut inner, state)
    }

    fn obeyed(&self) -> std::io::Result<()> {
        order::remove(&self.path)
    }
}

/// Where the state of the hold on a source is kept.
pub fn path_of(spool: &Path, source: &ShardName) -> PathBuf {
    spool.join("holds").join(format!("{}-{}.json", source.cluster, source.shard))
}

/// The sources that a spool has a stage of.
///
/// # Errors
/// The directory cannot be listed; one that is not there has none.
pub fn sources_in(spool: &Path) -> std::io::Result<Vec<ShardName>> {
    let entries = match std::fs::read_dir(spool.join("stage")) {
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let parts = name.to_str().and_then(|name| name.rsplit_once('-'));
        found.extend(parts.and_then(|(cluster, shard)| format!("{cluster}/{shard}").parse().ok()));
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use keyspace::Hlc;
    use wal::batch::{BatchBuilder, BatchRef};
    use wal::frame::{Codec, FrameBuilder};
    use wal::{Chain, Kind, Position, Tag, TimelineId};

    use super::*;

    const NOW_MS: u64 = 1_800_000_000_000;

    fn verdict(delay: Duration, stamp_ms: u64) -> Verdict {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let source = "a/0".parse().expect("a shard");
        let hold = Hold::open(dir.path(), &source, HoldSettings { delay, breaker: None })
            .expect("an empty directory");
        let at = |end| Position { timeline: TimelineId(7), sequence: Sequence(end) };
        let header = FrameHeader {
            codec: Codec::None,
            start: at(1),
            end: at(2),
            epoch: 1,
            stamp: Hlc::new(stamp_ms, 0),
            log_chain: Chain(0),
            chain_before: Chain(0),
            chain: Chain(0),
            batches: 1,
            raw_len: 0,
            body_len: 0,
            body_crc: 0,
        };
        let facts = Facts { now_ms: NOW_MS, lifted: false, slots: &SlotSet::default() };
        hold.judge(&header, &[], facts).expect("nothing is written")
    }

    #[test]
    fn without_a_delay_a_stamp_ahead_of_the_clock_holds_nothing_up() {
        // What a node gives after a restart: past all that it may have given before.
        assert_eq!(verdict(Duration::ZERO, NOW_MS + 9_000), Verdict::Pass);
    }

    #[test]
    fn a_delay_is_counted_from_the_stamp() {
        let minute = Duration::from_secs(60);
        assert_eq!(verdict(minute, NOW_MS - 60_000), Verdict::Pass);
        let delayed = |left_ms| Verdict::Delayed { left_ms };
        assert_eq!(verdict(minute, NOW_MS - 59_000), delayed(1_000));
        assert_eq!(verdict(minute, NOW_MS + 9_000), delayed(69_000));
    }

    /// A frame of a log in which these keys are deleted, one a batch.
    fn deleting(sequence: u64, stamp_ms: u64, keys: &[&str]) -> (FrameHeader, Vec<u8>) {
        let mut batch = BatchBuilder::new(Sequence(sequence));
        for key in keys {
            let slot = keyspace::Slot::of_key(key.as_bytes()).number().to_be_bytes();
            batch.delete(keyspace::Cf::Meta, &[&slot, key.as_bytes()].concat());
        }
        let tag =
            Tag { kind: Kind::Data, origin: 1, epoch: 1, stamp: Hlc::new(stamp_ms, 0), marker: 0 };
        batch.log_data(&tag.encode());
        let record = batch.finish();
        let start = Position { timeline: TimelineId(7), sequence: Sequence(sequence - 1) };
        let mut builder = FrameBuilder::new(start, Chain::START, 1, Hlc(0));
        let batch = BatchRef::parse(&record).expect("a batch");
        builder.push(&batch, &SlotSet::all()).expect("it has a place");
        let packed = builder.finish(Codec::None, Chain::START);
        let bytes = packed.expect("there is something in it");
        let header = FrameHeader::parse(&bytes).expect("a header").expect("a whole one");
        (header, bytes)
    }

    #[test]
    fn a_sidecar_that_is_killed_goes_on_with_its_minute() {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let source = "a/0".parse().expect("a shard");
        let settings = HoldSettings { delay: Duration::ZERO, breaker: Some(0.5) };
        let names: Vec<String> = (0..600).map(|n| format!("key:{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let judge = |hold: &Hold, sequence, keys: &[&str]| {
            let (header, bytes) = deleting(sequence, NOW_MS, keys);
            let facts = Facts { now_ms: NOW_MS, lifted: false, slots: &SlotSet::all() };
            hold.judge(&header, &bytes, facts).expect("the disk")
        };
        let first = Hold::open(dir.path(), &source, settings).expect("an empty directory");
        first.measured(1000);
        assert_eq!(judge(&first, 1, &names[..300]), Verdict::Pass);
        drop(first);
        // 300 are gone by now; of the 1000 that there were when the minute began 500 may be.
        let again = Hold::open(dir.path(), &source, settings).expect("what was written");
        again.measured(700);
        assert_eq!(judge(&again, 1, &names[..300]), Verdict::Pass, "it was counted before");
        assert_eq!(judge(&again, 301, &names[300..450]), Verdict::Pass);
        let Verdict::Tripped(why) = judge(&again, 451, &names[450..]) else {
            panic!("600 of 1000 passed");
        };
        assert!(why.contains("600 of about 1000"), "{why}");
    }
}
