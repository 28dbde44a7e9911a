//! One run of archiving: find where to go on, then segments and checkpoints until something ends it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, anyhow};
use ops::health::Check;
use store::StoreError;
use store::bucket::Counts;
use store::repository::archive::Fork;
use store::repository::{Archive, ArchiveName, Plan, Repository, Segment, Target, header};
use tokio::sync::Mutex;
use topology::Record;
use wal::segment::SegmentHeader;
use wal::{Chain, Continuation, Position};

use super::Limit;
use super::base::{self, Bases};
use super::cut::{Cut, CutError, Cutter, Haste, Limits, Start};
use super::settings::ArchiveConfig;
use crate::cursor::Cursor;
use crate::node::Known;
use crate::sidecar::Sidecar;
use crate::source::{account, became};
use crate::spool::Pin;

/// How often what is measured is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a run and its checkpoints share.
pub(super) struct Run<'a> {
    pub(super) sidecar: &'a Arc<Sidecar>,
    pub(super) config: &'a ArchiveConfig,
    pub(super) archive: Arc<Mutex<Archive>>,
    pub(super) repository: Repository,
    pub(super) limit: Limit,
    pub(super) known: Known,
}

/// Where segments go on.
struct Onward {
    cursor: Box<Cursor>,
    start: Start,
    stream: u64,
    /// A checkpoint that the stream begins with, to be stored beside it.
    begun: Option<base::Taken>,
    /// Where it goes on from another shard's, to be recorded before it.
    fork: Option<Fork>,
}

/// How soon segments are wanted by this record.
fn haste(record: &Record, sidecar: &Sidecar) -> Haste {
    let us = &sidecar.shard;
    if record.freeze_of(us).is_some() {
        // A switch waits for the end of a frozen log, which may reach a standby by this way alone.
        return Haste::Frozen;
    }
    if record.is_primary(us) {
        return Haste::None;
    }
    // Up to there whoever took over goes on from what is archived here.
    let left = record.forks.iter().filter(|fork| fork.source == *us);
    let epoch = left.clone().map(|fork| fork.epoch).max();
    let left = left.filter(|fork| Some(fork.epoch) == epoch).map(|fork| fork.at);
    left.max_by_key(|at| at.sequence).map_or(Haste::Frozen, Haste::UpTo)
}

/// What one run leaves to the next.
#[derive(Debug, Default)]
pub(super) struct Legacy {
    /// A segment was stored.
    pub(super) shipped: bool,
    /// What the log goes on with that it does not hold: only a checkpoint leads past that.
    pub(super) past: Option<String>,
}

/// Archives until something ends it.
pub(super) async fn run(
    sidecar: &Arc<Sidecar>,
    config: &ArchiveConfig,
    pin: &Pin,
    check: &Check,
    legacy: &mut Legacy,
) -> anyhow::Result<()> {
    let known = sidecar.node.known().borrow().clone();
    let known = known.context("our own node has not answered yet")?;
    let name =
        ArchiveName::new(&sidecar.config.service, &sidecar.shard.cluster, sidecar.shard.shard);
    let name = name.context("the shard's name is none for an archive")?;
    let (bucket, keys) = config.open()?;
    let opened = Repository::create(bucket.clone(), keys, header::GRACE_DEFAULT).await;
    let repository = opened.with_context(|| format!("opening the archive {}", config.url))?;
    let archive = Archive::open_whole(&repository, &name).await?;
    let limit = Limit::new(config.bandwidth);
    let mut run =
        Run { sidecar, config, archive: Arc::new(Mutex::new(archive)), repository, limit, known };
    let meters = sidecar.metrics.archive.clone();
    let mut counted = Counts::default();
    // It began while the pin held everything: what follows is still there.
    let onward = run.find(pin, legacy.past.as_deref()).await;
    count(&meters, &mut counted, &run);
    let onward = onward?;
    legacy.past = None;
    if let Some(fork) = onward.fork {
        run.archive.lock().await.add_fork(fork).await?;
    }
    pin.advance(onward.cursor.database(), onward.cursor.file().number);
    let keep = run.known.slots.clone();
    let whose = (SegmentHeader::service_of(&sidecar.config.service), sidecar.shard.to_string());
    let limits = Limits { every: config.segment_every, bytes: config.segment_bytes, until: None };
    let database = onward.cursor.database().clone();
    let mut cutter = Cutter::start(*onward.cursor, onward.start, keep, whose, limits)
        .context("cannot start a thread")?;
    let mut bases = std::pin::pin!(Bases::new(&run, onward.stream).keep_taking(onward.begun));
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tracing::info!(archive = %name, from = %onward.start.position, "archiving");
    check.ok();
    meters.failing.set(0);
    let mut view = sidecar.service.watch();
    loop {
        let haste = view.borrow_and_update().record().map_or(Haste::None, |r| haste(r, sidecar));
        cutter.haste.send_if_modified(|now| std::mem::replace(now, haste) != haste);
        let ours = !matches!(haste, Haste::UpTo(_));
        let cut = tokio::select! {
            cut = cutter.cuts.recv() => cut,
            changed = view.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return Err(anyhow!("the registry is gone")),
            },
            never = &mut bases, if ours => return never,
            _ = tick.tick() => {
                look(&run, &cutter, &mut counted);
                continue;
            }
        };
        let cut = match cut {
            Some(Ok(cut)) => cut,
            Some(Err(why @ CutError::Load(_))) => {
                legacy.past = Some(why.to_string());
                return Err(anyhow!("{why}: the archive goes on from a new checkpoint"));
            }
            Some(Err(CutError::Reached { .. })) => {
                tracing::info!(archive = %name, "archived up to where another took over");
                return Ok(());
            }
            Some(Err(error)) => return Err(error.into()),
            None => return Err(anyhow!("the thread that reads the log ended")),
        };
        let file = cut.file;
        let mut add = std::pin::pin!(run.add(cut, onward.stream));
        let segment = loop {
            tokio::select! {
                added = &mut add => break added?,
                never = &mut bases, if ours => return never,
                _ = tick.tick() => look(&run, &cutter, &mut counted),
            }
        };
        pin.advance(&database, file);
        legacy.shipped = true;
        check.ok();
        meters.failing.set(0);
        meters.segments.inc();
        meters.segment_bytes.inc_by(segment.bytes);
        meters.reaches.set(seconds(segment.stamp.ms()));
        count(&meters, &mut counted, &run);
    }
}

/// What is due each second.
fn look(run: &Run<'_>, cutter: &Cutter, counted: &mut Counts) {
    let meters = &run.sidecar.metrics.archive;
    let behind = cutter.behind.load(Ordering::Relaxed);
    meters.behind.set(i64::try_from(behind).unwrap_or(i64::MAX));
    count(meters, counted, run);
}

fn count(meters: &super::ArchiveMeters, counted: &mut Counts, run: &Run<'_>) {
    let now = run.repository.bucket().requests();
    meters.requests(*counted, now);
    *counted = now;
}

pub(super) fn seconds(ms: u64) -> i64 {
    i64::try_from(ms / 1000).unwrap_or(i64::MAX)
}

impl Run<'_> {
    /// Stores a segment and its record. What the library behind the store tries again is its own;
    /// what it gives up ends the run, and the next one begins where this segment does.
    async fn add(&self, cut: Cut, stream: u64) -> Result<Segment, StoreError> {
        let segment = Segment {
            start: cut.header.start,
            end: cut.last.end,
            chain_before: cut.header.chain,
            chain: cut.last.chain,
            log_chain: cut.last.log_chain,
            stamp: cut.last.stamp,
            epoch: cut.last.epoch,
            bytes: cut.bytes.len() as u64,
            blake3: self.repository.id_of(&cut.bytes),
            stream,
            taken_at: ops::clock::unix_ms(),
        };
        self.limit.take(cut.bytes.len()).await;
        self.archive.lock().await.add_segment(segment.clone(), cut.bytes).await?;
        Ok(segment)
    }

    /// Where what is archived ends and the log goes on, or a new checkpoint to begin with.
    async fn find(&mut self, pin: &Pin, past: Option<&str>) -> anyhow::Result<Onward> {
        let why = match past {
            Some(why) => why.to_owned(),
            None => match self.follow_on().await? {
                Ok(onward) => return Ok(onward),
                Err(why) => match self.at_fork().await? {
                    Ok(onward) => return Ok(onward),
                    Err(no_fork) => format!("{why}; {no_fork}"),
                },
            },
        };
        tracing::info!("the archive begins with a checkpoint: {why}");
        // From here on the log must stay, until segments follow.
        pin.hold();
        let taken = base::take(self.sidecar).await?;
        let (spool, at, history) =
            (self.sidecar.spool.clone(), taken.position(), taken.history().clone());
        let database = taken.database();
        let open = move || {
            spool.scan()?;
            Cursor::open(&spool, &database, &history, at)
        };
        let cursor = tokio::task::spawn_blocking(open).await.context("a task died")?;
        let stream = self.archive.lock().await.next_stream();
        let start = Start { position: at, chain: Chain::START };
        match cursor {
            Ok(cursor) => {
                let before = self.archive.lock().await.segments().next_back().map(|s| s.end);
                if let Some(before) = before {
                    self.sidecar.metrics.archive.holes.inc();
                    tracing::error!(
                        "the archive has a hole, from {before} to the checkpoint at {at}: no moment between can be \
                         restored: {why}"
                    );
                }
                let cursor = Box::new(cursor);
                Ok(Onward { cursor, start, stream, begun: Some(taken), fork: None })
            }
            Err(error) => {
                taken.forget(self.sidecar).await;
                Err(error.into())
            }
        }
    }

    /// Goes on where the archive ends; in words, why it cannot.
    async fn follow_on(&self) -> anyhow::Result<Result<Onward, String>> {
        let archive = self.archive.lock().await;
        let whole = match Plan::of(&archive, Target::Latest) {
            Ok(plan) if plan.note.is_none() => plan,
            Ok(_) => return Ok(Err("what it ends with has no checkpoint".to_owned())),
            Err(why) => return Ok(Err(why.to_string())),
        };
        let last = archive.segments().rfind(|segment| segment.end == whole.end()).cloned();
        let next_stream = archive.next_stream();
        let (at, epoch) = match &last {
            Some(last) => (last.end, last.epoch),
            None => (whole.base.position, archive.manifest(&whole.base).await?.epoch),
        };
        drop(archive);
        let view = self.sidecar.service.view();
        let since = view.record().map(|record| became(record, &self.sidecar.shard));
        if since.is_some_and(|since| since.0 > epoch) {
            return Ok(Err("another was the primary since".to_owned()));
        }
        let (spool, known) = (self.sidecar.spool.clone(), self.known.clone());
        let open = move || {
            let (history, end) = account(&spool, &known)?;
            let Some(end) = end else { return Ok(Err("the log has no end yet".to_owned())) };
            let from = match history.continue_from(at, at.sequence, end.sequence) {
                Continuation::From(from) => from,
                Continuation::Rewind { resume, .. } => resume,
                Continuation::Seed => {
                    return Ok(Err(format!("{at}, where it ends, does not lead to this log")));
                }
            };
            match Cursor::open(&spool, &known.database, &history, from) {
                Ok(cursor) => Ok(Ok((cursor, from))),
                Err(error) => Ok(Err(error.to_string())),
            }
        };
        let opened = tokio::task::spawn_blocking(open).await.context("a task died")?;
        let (cursor, from) = match opened.map_err(|error: crate::cursor::CursorError| error)? {
            Ok(found) => found,
            Err(why) => return Ok(Err(why)),
        };
        let goes_on = last.as_ref().filter(|_| from == at);
        if let Some(last) = goes_on
            && !cursor.agrees(last.log_chain)
        {
            return Ok(Err(format!("the log at {at} is another one than what was archived")));
        }
        let (chain, stream) = match (goes_on, from == at) {
            (Some(last), _) => (last.chain, last.stream),
            (None, true) => (Chain::START, whole.base.stream),
            // A fork: what was archived past it is followed by nobody.
            (None, false) => (Chain::START, next_stream),
        };
        let start = Start { position: from, chain };
        Ok(Ok(Onward { cursor: Box::new(cursor), start, stream, begun: None, fork: None }))
    }

    /// Begins where this shard took over from another with the same slots, whose archive has what was
    /// before; in words, why it cannot.
    async fn at_fork(&self) -> anyhow::Result<Result<Onward, String>> {
        let view = self.sidecar.service.view();
        let Some(record) = view.record() else { return Ok(Err("there is no record".to_owned())) };
        let (us, epoch) = (&self.sidecar.shard, became(record, &self.sidecar.shard));
        let taken = record.forks.iter().filter(|fork| fork.target == *us && fork.epoch == epoch);
        let [taken] = taken.collect::<Vec<_>>()[..] else {
            return Ok(Err("it took over from no other shard, or from several".to_owned()));
        };
        if record.slots_of(&taken.source) != record.slots_of(us) {
            return Ok(Err(format!("{}, from which it took over, has other slots", taken.source)));
        }
        let archive = self.archive.lock().await;
        if archive.segments().any(|segment| segment.epoch >= epoch.0) {
            return Ok(Err("it has gone on from its last switch already".to_owned()));
        }
        let stream = archive.next_stream();
        drop(archive);
        let (spool, known, at) = (self.sidecar.spool.clone(), self.known.clone(), taken.at);
        let open = move || {
            let (history, _) = account(&spool, &known)?;
            let start = history.starts().iter().rfind(|start| start.parents.contains(&at));
            let Some(start) = start else {
                return Ok(Err(format!("its log does not say where it went on from {at}")));
            };
            let from = Position { timeline: start.timeline, sequence: start.first.before() };
            match Cursor::open(&spool, &known.database, &history, from) {
                Ok(cursor) => Ok(Ok((cursor, from))),
                Err(error) => Ok(Err(error.to_string())),
            }
        };
        let opened = tokio::task::spawn_blocking(open).await.context("a task died")?;
        let (cursor, from) = match opened.map_err(|error: crate::cursor::CursorError| error)? {
            Ok(found) => found,
            Err(why) => return Ok(Err(why)),
        };
        tracing::info!(%from, of = %taken.source, %at, "the archive goes on from that of whom this shard took over from");
        let fork = Fork {
            position: from,
            shard: taken.source.to_string(),
            at,
            epoch: epoch.0,
            stream,
            taken_at: ops::clock::unix_ms(),
        };
        let start = Start { position: from, chain: Chain::START };
        let cursor = Box::new(cursor);
        Ok(Ok(Onward { cursor, start, stream, begun: None, fork: Some(fork) }))
    }
}
