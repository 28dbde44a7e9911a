//! One run: from where we stand through the archive to its end, and on as it grows.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use keyspace::SlotSet;
use store::StoreError;
use store::bucket::Counts;
use store::repository::follow::Next;
use store::repository::{ArchiveName, Followed, Frames, Repository, Segment};
use stream::message::{Of, Point};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use topology::ShardName;
use topology::members::{Role, WayBy};
use wal::frame::{AgainError, FrameHeader, Place};
use wal::{Chain, History, Sequence};

use super::super::inbound::Inbound;
use super::super::stage::StageError;
use super::super::standings::standings;
use super::{FollowConfig, is_frozen, say_way};
use crate::archive::open_bucket;
use crate::sidecar::Sidecar;

/// How often the archive of a frozen source is asked for more.
const FROZEN_EVERY: Duration = Duration::from_millis(250);
/// How often a full stage is looked at again.
const FULL_PAUSE: Duration = Duration::from_millis(50);
/// Frames made again that wait to be staged.
const QUEUE: usize = 1;

/// Why an archive leads no further. Nothing that is staged is wrong.
#[derive(Debug, thiserror::Error)]
pub(super) enum FollowError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Stage(#[from] StageError),
    #[error("its node: {0}")]
    Node(#[from] admin::Error),
    #[error("segment {name}: {why}")]
    Segment { name: String, why: String },
    #[error("{0}")]
    Refused(String),
}

/// Reads one source's archive.
pub(super) struct Run<'a> {
    pub(super) sidecar: &'a Arc<Sidecar>,
    config: &'a FollowConfig,
    pub(super) source: &'a ShardName,
    pub(super) inbound: Inbound,
    /// Cancelled once a connection takes over.
    token: CancellationToken,
    counted: Counts,
    staged: bool,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        sidecar: &'a Arc<Sidecar>,
        config: &'a FollowConfig,
        source: &'a ShardName,
        inbound: Inbound,
        token: CancellationToken,
    ) -> Self {
        let counted = Counts::default();
        Self { sidecar, config, source, inbound, token, counted, staged: false }
    }

    /// Whether anything came of it.
    pub(super) fn staged(&self) -> bool {
        self.staged
    }

    /// Runs until something fails.
    pub(super) async fn run(&mut self) -> FollowError {
        match self.follow().await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn follow(&mut self) -> Result<Infallible, FollowError> {
        let opened =
            open_bucket(&self.config.url, &self.config.options, self.config.key_file.as_deref());
        let (bucket, keys) = opened.map_err(|error| refused(&ops::cli::sentence(&error)))?;
        let reads = keys.can_read();
        let repository = Repository::open(bucket, keys).await?;
        if repository.header().encrypted && !reads {
            self.count(&repository);
            return Err(refused(
                "it is encrypted, and the key file here has no private key, with which alone it can be read: \
                 give the whole key file as archive.follow-key-file",
            ));
        }
        let name =
            ArchiveName::new(&self.sidecar.config.service, &self.source.cluster, self.source.shard);
        let name = name.ok_or_else(|| refused("the source's name is none for an archive"))?;
        let from = self.settle(&repository, &name, false).await;
        self.count(&repository);
        let from = from?;
        let opened = Followed::open(&repository, &name, from.position).await;
        self.count(&repository);
        let mut followed = opened?;
        let mut tried = None;
        say_way(self.sidecar, self.source, WayBy::Bucket, true);
        tracing::info!(source = %self.source, from = %from.position, archive = %self.config.url, "its sidecar is away: reading its archive");
        loop {
            let at = self.tip()?;
            if let Some(next) = followed.next(at.position) {
                let staged = self.stage(&followed, &next, at).await;
                self.count(&repository);
                staged?;
                self.staged = true;
                continue;
            }
            let more = followed.look(at.position).await;
            self.count(&repository);
            if more? {
                continue;
            }
            let end = followed.last().map(|last| last.end);
            // Asked once for each segment that comes: that reads all pages of the archive.
            let leads_nowhere =
                self.looked(&followed, at) && std::mem::replace(&mut tried, end) != end;
            if leads_nowhere && self.begins_anew(&repository, &name).await {
                let opened = Followed::open(&repository, &name, self.tip()?.position).await;
                self.count(&repository);
                followed = opened?;
                continue;
            }
            self.pause().await;
        }
    }

    fn tip(&self) -> Result<Point, FollowError> {
        let tip = self.inbound.stage(|stage| stage.tip());
        tip.ok_or_else(|| refused("the stage has no position to go on from"))
    }

    /// Has the node begin again with a checkpoint, as the log does not lead on from where it stands;
    /// whether it has.
    async fn begins_anew(&mut self, repository: &Repository, name: &ArchiveName) -> bool {
        let settled = self.settle(repository, name, true).await;
        self.count(repository);
        if let Err(why) = &settled {
            tracing::debug!(source = %self.source, "no checkpoint instead: {why}");
        }
        settled.is_ok()
    }

    /// Makes the stage stand where the node can go on from it, which is `anew` where it begins with a
    /// checkpoint; where that is.
    async fn settle(
        &self,
        repository: &Repository,
        name: &ArchiveName,
        anew: bool,
    ) -> Result<Point, FollowError> {
        // Nothing is applied while it is settled from where.
        let _gate = self.inbound.gate().lock().await;
        if let Some(discarded) = self.inbound.hold().state().discarded {
            return Err(refused(&discarded.to_string()));
        }
        let status = self.sidecar.node.status().await?;
        if !matches!(status.role, Role::Standby | Role::Seeding) {
            return Err(refused(&format!(
                "the node is {:?}, and what it lacks only a connection to its source can say",
                status.role
            )));
        }
        self.inbound.settle(&status)?;
        if anew {
            return self.begin(repository, name, &status).await;
        }
        let reaches = |at: Sequence| self.inbound.stage(|stage| stage.reaches(at));
        let applied = status.applied.get(self.source);
        let holds = applied.is_some_and(|applied| reaches(applied.position.sequence));
        let tip = self.inbound.stage(|stage| stage.tip());
        let offered = standings(&status, self.source, &History::default(), tip.filter(|_| holds));
        let own = self.source.to_string();
        let here = offered.into_iter().next().filter(
            |standing| matches!(&standing.of, Of::Staged(of) | Of::Applied(of) if *of == own),
        );
        let Some(here) = here else { return self.begin(repository, name, &status).await };
        let point = Point {
            position: here.position,
            log_chain: here.log_chain,
            stream_chain: here.stream_chain,
        };
        let stands = holds
            && tip.is_some_and(|tip| {
                tip.position == point.position && tip.stream_chain == point.stream_chain
            });
        if !stands {
            self.inbound.restart_at(point)?;
        }
        Ok(point)
    }

    /// Stages what a segment has behind where we stand.
    async fn stage(
        &self,
        followed: &Followed,
        next: &Next,
        from: Point,
    ) -> Result<(), FollowError> {
        let name = next.segment.name(followed.name());
        let failed = |why: String| FollowError::Segment { name: name.clone(), why };
        if let Some(before) = followed.ends_at(from.position)
            && [before.log_chain, from.log_chain].iter().all(|chain| *chain != Chain::START)
            && before.log_chain != from.log_chain
        {
            return Err(failed(format!(
                "the log at {} was another one than what is here: the two have diverged, compare digests",
                from.position
            )));
        }
        let bytes = followed.segment(&next.segment).await?;
        let keep = self.keep().ok_or_else(|| failed("the plan gives us no slots".to_owned()))?;
        let (sender, mut frames) = mpsc::channel(QUEUE);
        let (archive, next) = (followed.name().clone(), next.clone());
        let making = tokio::task::spawn_blocking(move || -> Result<(), String> {
            let found = Frames::check(&archive, &next.segment, &bytes)?;
            let mut at = place_of(from);
            for frame in found {
                let made = frame.again(at, next.until, &keep);
                let made = made.map_err(|why: AgainError| why.to_string())?;
                let Some(made) = made else { continue };
                at = end_of(&made)?;
                if sender.blocking_send(made).is_err() {
                    // A connection has taken over.
                    break;
                }
            }
            Ok(())
        });
        let mut any = false;
        while let Some(frame) = frames.recv().await {
            while self.inbound.stage(|stage| stage.bytes()) > self.sidecar.config.stage_bytes {
                tokio::time::sleep(FULL_PAUSE).await;
            }
            if !self.inbound.append_as(&self.token, &frame)? {
                return Err(refused("a connection has taken over"));
            }
            any = true;
            self.sidecar.metrics.follow.frames.inc();
            self.sidecar.metrics.follow.bytes.inc_by(frame.len() as u64);
        }
        let made = making.await.map_err(|_| failed("a task died".to_owned()))?;
        made.map_err(failed)?;
        match any {
            true => Ok(()),
            false => Err(failed(format!("nothing in it leads on from {}", from.position))),
        }
    }

    /// The slots that the source and this node have in common.
    fn keep(&self) -> Option<SlotSet> {
        let view = self.sidecar.service.view();
        let record = view.record()?;
        let theirs = record.slots_of(self.source)?;
        let ours = record.slots_of(&self.sidecar.shard)?;
        Some(theirs.intersection(ours)).filter(|slots| !slots.is_empty())
    }

    /// All that is archived is staged, or `true`: what there is more does not lead on from here.
    fn looked(&self, followed: &Followed, at: Point) -> bool {
        let last = followed.last();
        let beyond = last.filter(|last| match last.end.timeline == at.position.timeline {
            true => last.end.sequence > at.position.sequence,
            false => self.is_later(last),
        });
        let problem = beyond.map(|last| {
            format!(
                "the archive reaches to {}, and nothing in it leads there from {}: only a checkpoint or a connection does",
                last.end, at.position
            )
        });
        let beyond = problem.is_some();
        if let Some(last) = last {
            self.sidecar.metrics.follow.reaches(self.source, last.stamp.ms() / 1000);
        }
        self.sidecar.board.receiving(self.source, |status| {
            let bucket = status.bucket.get_or_insert_default();
            if problem.is_some() && bucket.problem != problem {
                tracing::warn!(source = %self.source, "{}", problem.as_deref().unwrap_or_default());
            }
            bucket.looks += 1;
            bucket.end = last.map(|last| last.end);
            bucket.stamp_ms = last.map(|last| last.stamp.ms());
            bucket.problem = problem;
        });
        beyond
    }

    /// Whether a segment of another timeline is later than all that is here.
    fn is_later(&self, last: &Segment) -> bool {
        let alive = self.sidecar.node.alive();
        let status = alive.borrow();
        let applied = status.as_ref().and_then(|status| status.applied.get(self.source));
        applied.is_some_and(|applied| {
            self.inbound.is_level(applied.position.sequence) && last.stamp > applied.stamp
        })
    }

    /// Until it is asked again: at once if the source is frozen.
    async fn pause(&self) {
        let mut view = self.sidecar.service.watch();
        let until = tokio::time::Instant::now() + self.config.every;
        loop {
            if is_frozen(self.sidecar, self.source) {
                return tokio::time::sleep(FROZEN_EVERY.min(self.config.every)).await;
            }
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                changed = view.changed() => if changed.is_err() { return },
            }
        }
    }

    fn count(&mut self, repository: &Repository) {
        let now = repository.bucket().requests();
        self.sidecar.metrics.follow.requests(self.counted, now);
        self.counted = now;
    }
}

pub(super) fn refused(why: &str) -> FollowError {
    FollowError::Refused(why.to_owned())
}

fn place_of(point: Point) -> Place {
    let Point { position, log_chain, stream_chain } = point;
    Place { position, log_chain, stream_chain }
}

fn end_of(frame: &[u8]) -> Result<Place, String> {
    let header = FrameHeader::parse(frame).map_err(|why| why.to_string())?;
    let header = header.ok_or("a frame that was just made is cut off")?;
    let FrameHeader { end, log_chain, chain, .. } = header;
    Ok(Place { position: end, log_chain, stream_chain: chain })
}
