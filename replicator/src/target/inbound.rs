//! One source's stage with its applier, which outlives the connections that fill it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use admin::{Intent, Status};
use ops::metrics::Gauge;
use stream::message::Point;
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio_util::sync::CancellationToken;
use topology::ShardName;
use wal::{Position, Sequence};

use super::applier;
use super::beside::Beside;
use super::hold::Hold;
use super::stage::{Stage, StageError};
use crate::sidecar::Sidecar;

/// What is being received of one source. Clones share it.
#[derive(Clone, Debug)]
pub struct Inbound(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    source: ShardName,
    /// Where loads that were received lie.
    received: PathBuf,
    stage: Mutex<Stage>,
    /// What is held back of it.
    hold: Hold,
    /// Held while frames are being applied, and by who changes what is staged under the applier.
    gate: AsyncMutex<()>,
    /// Counts the times that it was restarted elsewhere.
    generation: AtomicU64,
    /// The node's database that what is staged goes on from.
    database: Beside,
    /// One connection at a time: a new one ends the old one.
    connection: Mutex<CancellationToken>,
    /// The end of what was appended; a change wakes applier and syncer.
    appended: watch::Sender<Option<Position>>,
    staged: watch::Sender<Option<Position>>,
    applied: watch::Sender<Progress>,
    /// 1 while the breaker has stopped it.
    tripped: Gauge,
}

/// Syncs follow each other after this time at the soonest: what comes meanwhile is synced together.
const GROUP: Duration = Duration::from_millis(3);

/// How far the applier is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// The last position that the node has applied.
    pub(super) position: Option<Position>,
    /// Milliseconds from the stamp of its newest batch till then.
    pub(super) lag_ms: Option<u64>,
}

impl Inbound {
    fn open(sidecar: &Sidecar, source: &ShardName) -> Result<Self, StageError> {
        let mut stage = Stage::open(sidecar.spool.root(), &sidecar.config.service, source)?;
        stage.fit(sidecar.config.stage_bytes);
        let tip = stage.tip().map(|point| point.position);
        let root = sidecar.spool.root();
        let hold = Hold::open(root, source, sidecar.config.hold).map_err(|why| StageError::Io {
            what: "read what is decided about",
            path: super::hold::path_of(root, source),
            why,
        })?;
        Ok(Self(Arc::new(Shared {
            source: source.clone(),
            received: sidecar.spool.node_dir().join(Intent::DIR).join(Intent::RECEIVED),
            stage: Mutex::new(stage),
            hold,
            gate: AsyncMutex::new(()),
            generation: AtomicU64::new(0),
            database: Beside::open(root, source),
            connection: Mutex::new(nobody()),
            appended: watch::channel(tip).0,
            staged: watch::channel(tip).0,
            applied: watch::channel(Progress::default()).0,
            tripped: sidecar.metrics.breaker(source),
        })))
    }

    /// Whose log it is.
    pub fn source(&self) -> &ShardName {
        &self.0.source
    }

    /// The gate: who holds it has the applier stand still with nothing on its way.
    pub(super) fn gate(&self) -> &AsyncMutex<()> {
        &self.0.gate
    }

    /// 1 while the breaker has stopped it.
    pub(super) fn tripped(&self) -> &Gauge {
        &self.0.tripped
    }

    /// What is held back of what is staged.
    pub(super) fn hold(&self) -> &Hold {
        &self.0.hold
    }

    /// Sets aside what is staged and goes on from here. Only with the gate held.
    pub(super) fn set_aside(&self, dir: &std::path::Path, point: Point) -> Result<(), StageError> {
        self.0.generation.fetch_add(1, Ordering::AcqRel);
        self.stage(|stage| stage.set_aside(dir, point))?;
        self.0.connection.lock().unwrap_or_else(PoisonError::into_inner).cancel();
        self.0.appended.send_replace(Some(point.position));
        self.0.staged.send_replace(Some(point.position));
        Ok(())
    }

    pub(super) fn stage<T>(&self, work: impl FnOnce(&mut Stage) -> T) -> T {
        work(&mut self.0.stage.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Begins to fill the stage by another way than a connection, if there is none; a connection that
    /// comes takes over.
    pub(super) fn begin_if_idle(&self, token: &CancellationToken) -> bool {
        let mut held = self.0.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = held.is_cancelled();
        if idle {
            *held = token.clone();
        }
        idle
    }

    /// Appends a frame, unless a connection has taken over since: `false`.
    pub(super) fn append_as(
        &self,
        token: &CancellationToken,
        bytes: &[u8],
    ) -> Result<bool, StageError> {
        // Who takes over waits until it is appended.
        let _held = self.0.connection.lock().unwrap_or_else(PoisonError::into_inner);
        if token.is_cancelled() {
            return Ok(false);
        }
        self.append(bytes).map(|()| true)
    }

    /// Ends the connection before this one. The token is cancelled once this one has ended.
    pub(super) fn take_over(&self, token: &CancellationToken) {
        let mut held = self.0.connection.lock().unwrap_or_else(PoisonError::into_inner);
        held.cancel();
        *held = token.clone();
    }

    /// Appends a frame and wakes who waits for it.
    pub(super) fn append(&self, bytes: &[u8]) -> Result<(), StageError> {
        let header = self.stage(|stage| stage.append(bytes))?;
        self.0.appended.send_replace(Some(header.end));
        Ok(())
    }

    /// Forgets what is staged and goes on from here. Only with the gate held.
    pub(super) fn restart_at(&self, point: Point) -> Result<(), StageError> {
        self.0.generation.fetch_add(1, Ordering::AcqRel);
        self.stage(|stage| stage.reset(point))?;
        self.forget_loads();
        self.0.appended.send_replace(Some(point.position));
        self.0.staged.send_replace(Some(point.position));
        Ok(())
    }

    /// Whether what is staged goes on from this database, as far as is known.
    pub(super) fn is_beside(&self, database: &str) -> bool {
        self.0.database.is(database)
    }

    /// From here on what is staged goes on from the database that the node has.
    pub(super) fn stands_beside(&self, database: &str) {
        self.0.database.note(database);
    }

    /// Forgets what is staged if the node's database is another one by now, as it is when a snapshot was
    /// activated; whether it was. Only with the gate held.
    pub(super) fn settle(&self, status: &Status) -> Result<bool, StageError> {
        let swapped = !self.is_beside(&status.database);
        if swapped && let Some(applied) = status.applied.get(&self.0.source) {
            let (position, log_chain) = (applied.position, applied.log_chain);
            tracing::info!(source = %self.0.source, %position, "the node's database was swapped: what was staged for the one before is sent again");
            self.restart_at(Point { position, log_chain, stream_chain: applied.stream_chain })?;
        }
        self.stands_beside(&status.database);
        Ok(swapped)
    }

    /// Ends the connection that there is: its source asks anew where this side stands.
    pub(super) fn hang_up(&self) {
        self.0.connection.lock().unwrap_or_else(PoisonError::into_inner).cancel();
    }

    /// Loads whose batches were staged go with them; they are sent again where they are needed.
    fn forget_loads(&self) {
        let ours = format!("{}-{}-", self.0.source.cluster, self.0.source.shard);
        let Ok(entries) = std::fs::read_dir(&self.0.received) else { return };
        for entry in entries.flatten() {
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(&ours))
                && let Err(error) = std::fs::remove_dir_all(entry.path())
            {
                tracing::warn!("cannot remove {}: {error}", entry.path().display());
            }
        }
    }

    pub(super) fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    pub(super) fn appended(&self) -> watch::Receiver<Option<Position>> {
        self.0.appended.subscribe()
    }

    pub(super) fn staged(&self) -> &watch::Sender<Option<Position>> {
        &self.0.staged
    }

    pub(super) fn applied(&self) -> &watch::Sender<Progress> {
        &self.0.applied
    }

    /// Whether everything staged beyond this sequence has been applied.
    pub fn is_level(&self, applied: Sequence) -> bool {
        self.stage(|stage| stage.tip()).is_none_or(|tip| tip.position.sequence <= applied)
    }

    /// Syncs what was appended, in groups, until shutdown.
    async fn keep_syncing(self, sidecar: Arc<Sidecar>) {
        let mut appended = self.appended();
        loop {
            let end = *appended.borrow_and_update();
            let file = self.stage(|stage| stage.active());
            let synced = match file {
                None => true,
                Some(file) => {
                    let sync = move || file.and_then(|file| file.sync_data());
                    match tokio::task::spawn_blocking(sync).await {
                        Ok(Ok(())) => true,
                        Ok(Err(error)) => {
                            tracing::error!(
                                "cannot sync the stage of {}: {error}; what is not acknowledged as staged is sent again",
                                self.0.source
                            );
                            false
                        }
                        Err(_) => return,
                    }
                }
            };
            if synced {
                self.0.staged.send_if_modified(|staged| {
                    let changed = *staged != end;
                    *staged = end;
                    changed
                });
                sidecar.board.receiving(&self.0.source, |status| status.staged = end);
            } else {
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
            tokio::time::sleep(GROUP).await;
            tokio::select! {
                changed = appended.changed() => if changed.is_err() { return },
                () = sidecar.shutdown.cancelled() => return,
            }
        }
    }
}

/// The token of a connection that is over.
fn nobody() -> CancellationToken {
    let token = CancellationToken::new();
    token.cancel();
    token
}

/// What is received of all sources. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Inbounds(Arc<Mutex<BTreeMap<ShardName, Inbound>>>);

impl Inbounds {
    /// The inbound of a source; opened, with its tasks, the first time.
    pub fn of(&self, sidecar: &Arc<Sidecar>, source: &ShardName) -> Result<Inbound, StageError> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(inbound) = held.get(source) {
            return Ok(inbound.clone());
        }
        let inbound = Inbound::open(sidecar, source)?;
        held.insert(source.clone(), inbound.clone());
        tokio::spawn(inbound.clone().keep_syncing(sidecar.clone()));
        tokio::spawn(applier::keep_applying(inbound.clone(), sidecar.clone()));
        Ok(inbound)
    }

    /// Opens what a former run has staged, so that it is applied without a connection.
    pub fn open_staged(&self, sidecar: &Arc<Sidecar>) {
        let Ok(entries) = std::fs::read_dir(sidecar.spool.root().join("stage")) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some((cluster, shard)) = name.to_str().and_then(|name| name.rsplit_once('-'))
            else {
                continue;
            };
            let Ok(source) = format!("{cluster}/{shard}").parse::<ShardName>() else { continue };
            if let Err(error) = self.of(sidecar, &source) {
                tracing::error!("{error}");
            }
        }
    }

    /// All of them.
    pub fn all(&self) -> Vec<Inbound> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}
