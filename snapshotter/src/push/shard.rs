//! One shard: its files or its log, from its sidecar into the repository.

use std::sync::Arc;

use anyhow::{Context, bail};
use keyspace::Hlc;
use ops::tls::Mutual;
use store::repository::{Manifest, Piece};
use store::{ObjectId, SnapshotId};
use stream::export::{After, Arrived, Begun, End, Export, Open};
use tokio::sync::{Semaphore, mpsc, watch};
use wal::Chain;

use super::discover::Target;
use super::receive::{self, Place, Tally};
use super::session::Session;
use super::way::{self, ChainLimits, Decision};
use crate::config::Digests;
use crate::report::{PushedShard, Way};

/// What all shards of a push have in common.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) service: String,
    pub(super) id: SnapshotId,
    pub(super) place: Place,
    /// Shards whose files are fetched at a time.
    pub(super) places: Arc<Semaphore>,
    pub(super) limits: ChainLimits,
    /// Whether the log may be the way at all.
    pub(super) may_log: bool,
    pub(super) digests: Digests,
    /// Bytes a second from one sidecar.
    pub(super) bandwidth: Option<u64>,
    pub(super) tls: Option<Mutual>,
}

/// Where shards wait for each other.
#[derive(Clone)]
pub(super) struct Meeting {
    /// A shard has begun: no stamp in it is above this one; `None` if it cannot be cut.
    pub(super) begun: mpsc::Sender<Option<Hlc>>,
    /// Where all end, once all have begun.
    pub(super) cut: watch::Receiver<Option<Option<Hlc>>>,
    /// The snapshot is sealed.
    pub(super) sealed: watch::Receiver<bool>,
}

/// What came of a shard.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) manifest: Manifest,
    pub(super) report: PushedShard,
}

/// A shard whose data is stored, and whose sidecar waits for the seal.
pub(super) struct Fetching {
    session: Session,
    sealed: watch::Receiver<bool>,
}

/// Has the sidecar export, and stores what the repository has not.
pub(super) async fn fetch(
    common: &Common,
    target: &Target,
    last: Option<&Manifest>,
    mut meeting: Meeting,
) -> anyhow::Result<(Fetched, Fetching)> {
    let Common { place, service, .. } = common;
    // The log leads on only from what is there whole and stays there.
    let last = last.filter(|last| {
        let blobs: Vec<Piece> = last.blobs().collect();
        common.may_log && last.slots == target.slots && place.known.has(&blobs)
    });
    let open = Open {
        snapshot: common.id.to_string(),
        repository: place.repository.header().id.clone(),
        naming: place.repository.keys().naming(),
        bandwidth: common.bandwidth,
        digest: match common.digests {
            Digests::On => true,
            Digests::Off => false,
            Digests::Standby => !target.is_primary,
        },
        after: last.map(after),
    };
    let mut session = Session::open(target, service, open, common.tls.as_ref()).await?;
    let ready = session.ready().await?;
    let known = |hash: &[u8; 32]| place.known.get(ObjectId(*hash)).is_some();
    let mut decision = way::choose(&ready, last, common.limits, known);
    let (begun, refused) = session.begin(target, service, decision.log).await?;
    if let Some(why) = refused {
        decision = Decision { log: false, log_bytes: None, why, ..decision };
    }
    if decision.log && last.is_none_or(|last| begun.position != last.end()) {
        bail!("the sidecar goes on at {}, where no snapshot ends", begun.position);
    }
    tracing::info!(shard = %target.shard, log = decision.log, "{}", decision.why);

    meeting.begun.send(begun.cuttable.then_some(begun.stamp)).await.context("the push ended")?;
    let cut = async { meeting.cut.wait_for(|cut| cut.is_some()).await.map(|cut| *cut) };
    let cut = session.meanwhile(cut).await?.context("the push ended")?.flatten();
    session.say(&Export::Cut(cut)).await?;
    let mut tally = Tally::default();
    let (log, end) = place.log(&mut session, &mut tally).await?;
    let entries = if decision.log {
        None
    } else {
        let permit = session.meanwhile(common.places.clone().acquire_owned()).await?;
        let _permit = permit.context("the push ended")?;
        Some(place.files(&mut session, &begun.files, &mut tally).await?)
    };
    if decision.log {
        receive::rest(&mut session, &mut tally).await?;
    }
    let digest = tally.digest.take();
    let mut manifest = match (entries, last) {
        (None, Some(last)) => {
            let mut manifest = last.clone();
            manifest.log.extend(log);
            manifest
        }
        (Some(files), _) => of_files(&begun, files, log),
        (None, None) => bail!("a log came, and there is nothing that it follows on"),
    };
    let End { position, history, stamp } = end;
    if manifest.end() != position {
        bail!("the segments lead to {}, and the sidecar says {position}", manifest.end());
    }
    (manifest.history, manifest.stamp, manifest.cut) = (history, stamp, cut);
    (manifest.epoch, manifest.taken_at) = (begun.epoch, ops::clock::unix_ms());
    // What lies beyond the end, as of a node whose clock runs ahead of ours, cannot be compared with.
    manifest.digest = digest.filter(|digest| digest.position.sequence <= position.sequence);
    manifest.validate().map_err(|why| anyhow::anyhow!(why))?;
    let report = report(&manifest, &decision, &tally);
    let sealed = meeting.sealed;
    Ok((Fetched { manifest, report }, Fetching { session, sealed }))
}

impl Fetching {
    /// Waits for the seal and tells the sidecar; why it keeps no log for the next snapshot, if it does not.
    pub(super) async fn end(mut self) -> anyhow::Result<Option<String>> {
        let sealed = async { self.sealed.wait_for(|sealed| *sealed).await.map(drop) };
        self.session.meanwhile(sealed).await?.context("the push ended")?;
        self.session.say(&Export::Sealed).await?;
        let why = match self.session.next().await? {
            Arrived::Message(Export::Kept { why }) => why,
            other => return Err(other.unexpected("Kept").into()),
        };
        self.session.conn.writer.close().await;
        Ok(why)
    }
}

fn after(last: &Manifest) -> After {
    let segment = last.log.last();
    After {
        database: last.database.clone(),
        position: last.end(),
        chain: segment.map_or(Chain::START, |segment| segment.chain),
        log_chain: segment.map_or(Chain::START, |segment| segment.log_chain),
    }
}

fn of_files(
    begun: &Begun,
    files: Vec<store::repository::FileEntry>,
    log: Vec<store::repository::LogSegment>,
) -> Manifest {
    Manifest {
        format: Manifest::FORMAT,
        service: begun.service.clone(),
        shard: begun.shard.clone(),
        slots: begun.slots.clone(),
        database: begun.database.clone(),
        position: begun.position,
        history: begun.history.clone(),
        stamp: begun.stamp,
        epoch: begun.epoch,
        taken_at: 0,
        files,
        log,
        cut: None,
        digest: None,
    }
}

fn report(manifest: &Manifest, decision: &Decision, tally: &Tally) -> PushedShard {
    let reused = if decision.log { manifest.files.len() } else { tally.reused };
    PushedShard {
        shard: manifest.shard.clone(),
        way: match (decision.log, reused) {
            (true, _) => Way::Log,
            (false, 0) => Way::Full,
            (false, _) => Way::ObjectsReused,
        },
        why: decision.why.clone(),
        files_estimate: decision.files_bytes,
        log_estimate: decision.log_bytes,
        files: manifest.files.len(),
        reused,
        segments: manifest.log.len(),
        bytes_sent: tally.sent,
        bytes_total: manifest.bytes().saturating_add(manifest.log_bytes()),
        position: manifest.end().to_string(),
        log_not_kept: None,
    }
}
