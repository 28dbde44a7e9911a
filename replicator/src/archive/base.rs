//! Checkpoints of the node, on their way to the archive. What has a piece there is not sent again, and a
//! table file that a former checkpoint had is not even read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use keyspace::Hlc;
use store::FileName;
use store::repository::piece::{Known as Pushing, Pieces};
use store::repository::{Archive, FileEntry, Keep, Manifest, Piece};
use wal::{History, Position};

use super::ship::{Run, seconds};
use crate::cursor::read_facts;
use crate::identity::DatabaseId;
use crate::sidecar::Sidecar;
use crate::spool::free;

/// The name of the checkpoint: one at a time.
const NAME: &str = "archive";
/// Pieces on their way at a time, each in memory twice.
const PIECES: usize = 2;
/// A piece that takes longer is given up with its checkpoint, which holds table files on the disk.
const PIECE_WITHIN: Duration = Duration::from_secs(600);
/// The pause before a checkpoint that failed is taken again.
const AGAIN_AFTER: Duration = Duration::from_secs(30);
/// How long the node may take to remove a checkpoint that is not needed.
const CLEAR_WITHIN: Duration = Duration::from_secs(5);
/// What is no data, or the node's own words about its directory.
const NOT_DATA: [&str; 4] = ["LOG", "LOCK", crate::identity::FILE, admin::Adopt::FILE];

/// A checkpoint of our node.
#[derive(Debug)]
pub(super) struct Taken {
    made: admin::CheckpointInfo,
    database: DatabaseId,
    stamp: Hlc,
    taken_at: u64,
}

impl Taken {
    pub(super) fn position(&self) -> Position {
        self.made.position
    }

    pub(super) fn history(&self) -> &History {
        &self.made.history
    }

    pub(super) fn database(&self) -> DatabaseId {
        self.database.clone()
    }

    /// Has the node remove it; one that does not answer keeps it until the next is taken.
    pub(super) async fn forget(self, sidecar: &Sidecar) {
        let dropped = match sidecar.node.own_client().await {
            Ok(node) => node.drop_checkpoint(NAME).await,
            Err(error) => Err(error),
        };
        if let Err(error) = dropped {
            tracing::warn!("the checkpoint {} stays for now: {error}", self.made.path.display());
        }
    }
}

/// Removes what a run that ended early has left on the node's disk, if the node answers.
pub(super) async fn clear(sidecar: &Sidecar) {
    if sidecar.spool.node_dir().join("checkpoints").join(NAME).exists() {
        let clear = async {
            let node = sidecar.node.own_client().await?;
            node.drop_checkpoint(NAME).await
        };
        // The next run removes it otherwise.
        let _ = tokio::time::timeout(CLEAR_WITHIN, clear).await;
    }
}

/// Has the node take one.
pub(super) async fn take(sidecar: &Sidecar) -> anyhow::Result<Taken> {
    let node = sidecar.node.own_client().await?;
    node.drop_checkpoint(NAME).await?;
    let made = node.checkpoint(NAME).await.context("the node made no checkpoint")?;
    let database =
        DatabaseId::parse(&made.database).context("the node's checkpoint names no database")?;
    let (spool, of) = (sidecar.spool.clone(), database.clone());
    let facts = tokio::task::spawn_blocking(move || {
        spool.scan()?;
        read_facts(&spool, &of)
    });
    let facts = facts.await.context("a task died")??;
    let taken_at = ops::clock::unix_ms();
    // No batch in it has a later stamp: it was taken before the clock and the log were read.
    let stamp = facts.stamp.max(Hlc::new(taken_at, 0));
    Ok(Taken { made, database, stamp, taken_at })
}

/// Takes checkpoints and stores them.
pub(super) struct Bases<'a> {
    run: &'a Run<'a>,
    stream: u64,
}

impl<'a> Bases<'a> {
    pub(super) fn new(run: &'a Run<'a>, stream: u64) -> Self {
        Self { run, stream }
    }

    /// Stores `begun`, then takes one whenever it is time. Ends only with an error: when the one that a
    /// stream begins with cannot be stored.
    pub(super) async fn keep_taking(self, begun: Option<Taken>) -> anyhow::Result<()> {
        if let Some(taken) = begun {
            self.store(taken)
                .await
                .context("storing the checkpoint that the archive begins with")?;
        }
        loop {
            tokio::time::sleep(self.wait().await).await;
            let stored = async {
                let taken = take(self.run.sidecar).await?;
                self.store(taken).await
            };
            if let Err(error) = stored.await {
                let why = ops::cli::sentence(&error);
                self.run.sidecar.metrics.archive.failures.inc();
                tracing::warn!(
                    "no checkpoint was archived: {why}; the log is archived all the same, and it is tried again"
                );
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        }
    }

    /// Until the next one is due.
    async fn wait(&self) -> Duration {
        let archive = self.run.archive.lock().await;
        if !archive.bases().any(|base| base.stream == self.stream) {
            // Its stream goes on from elsewhere: until it has one of its own, a restore needs that too.
            return Duration::ZERO;
        }
        let last = archive.bases().map(|base| base.taken_at).max().unwrap_or(0);
        self.run.sidecar.metrics.archive.base_at.set(seconds(last));
        let age = Duration::from_millis(ops::clock::unix_ms().saturating_sub(last));
        self.run.config.checkpoint_every.saturating_sub(age)
    }

    async fn store(&self, taken: Taken) -> anyhow::Result<()> {
        let stored = self.push(&taken).await;
        taken.forget(self.run.sidecar).await;
        let (base, sent) = stored?;
        let meters = &self.run.sidecar.metrics.archive;
        meters.bases.inc();
        tracing::info!(base = base.id, position = %base.position, bytes = base.bytes, sent, "archived a checkpoint");
        self.let_go().await;
        Ok(())
    }

    async fn push(&self, taken: &Taken) -> anyhow::Result<(store::repository::Base, u64)> {
        let run = self.run;
        let pushing = run.repository.known().await?;
        let before = self.last_manifest().await?;
        let before = before.filter(|manifest| manifest.database == taken.database.as_str());
        let remembered: BTreeMap<(FileName, u64), Vec<Piece>> = before
            .into_iter()
            .flat_map(|manifest| manifest.files)
            .map(|file| ((file.name, file.size), file.pieces))
            .collect();
        pushing.learn(remembered.values().flatten().copied());
        let (mut files, mut sent) = (Vec::new(), 0);
        for (name, path, size) in list(&taken.made.path)? {
            let known = remembered.get(&(name.clone(), size));
            // A table file is never changed: the name of one says what is in it.
            let pieces = match known.filter(|pieces| is_table(&name) && pushing.has(pieces)) {
                Some(pieces) => pieces.clone(),
                None => {
                    let (pieces, bytes) = self.file(&pushing, &path, size).await?;
                    sent += bytes;
                    pieces
                }
            };
            files.push(FileEntry { name, size, pieces });
        }
        if pushing.is_stale() {
            bail!(
                "it took longer than half the repository's time of grace; what was sent is not sent again"
            );
        }
        let manifest = Manifest {
            format: Manifest::FORMAT,
            service: run.sidecar.config.service.clone(),
            shard: run.sidecar.shard.to_string(),
            slots: run.known.slots.clone(),
            database: taken.database.to_string(),
            position: taken.made.position,
            history: taken.made.history.clone(),
            stamp: taken.stamp,
            epoch: run.known.epoch.0,
            taken_at: taken.taken_at,
            files,
            log: Vec::new(),
            cut: None,
            digest: None,
        };
        let base = run.archive.lock().await.add_base(&manifest, self.stream).await?;
        Ok((base, sent))
    }

    async fn last_manifest(&self) -> anyhow::Result<Option<Manifest>> {
        let archive = self.run.archive.lock().await;
        let Some(base) = archive.bases().next_back().cloned() else { return Ok(None) };
        Ok(Some(archive.manifest(&base).await?))
    }

    /// Stores one file; what was sent for it.
    async fn file(
        &self,
        pushing: &Pushing,
        path: &Path,
        size: u64,
    ) -> anyhow::Result<(Vec<Piece>, u64)> {
        let mut reader = Pieces::of(path, size).await?;
        let mut running = FuturesOrdered::new();
        let (mut pieces, mut sent) = (Vec::new(), 0);
        loop {
            while running.len() < PIECES
                && let Some(bytes) = reader.next().await?
            {
                running.push_back(self.piece(pushing, bytes));
            }
            let Some(stored) = running.next().await else { return Ok((pieces, sent)) };
            let (piece, bytes) = stored?;
            pieces.push(piece);
            sent += bytes;
        }
    }

    /// Stores one piece, if it is not there.
    async fn piece(&self, pushing: &Pushing, bytes: Vec<u8>) -> anyhow::Result<(Piece, u64)> {
        let run = self.run;
        let free = free(run.sidecar.spool.root());
        if free < run.sidecar.config.budget.free {
            bail!(
                "only {free} bytes are free on the node's volume, and a checkpoint holds table files there"
            );
        }
        let store = async {
            if let Some(piece) = run.repository.find_piece(pushing, &bytes).await? {
                return Ok((piece, 0));
            }
            run.limit.take(bytes.len()).await;
            run.repository.put_piece(pushing, bytes).await
        };
        let stored = tokio::time::timeout(PIECE_WITHIN, store).await;
        let stored: Result<_, store::StoreError> =
            stored.map_err(|_| anyhow!("a piece was not stored within {PIECE_WITHIN:?}"))?;
        let (piece, sent) = stored?;
        run.sidecar.metrics.archive.base_bytes.inc_by(sent);
        Ok((piece, sent))
    }

    /// Lets go of what retention does not need, if it was asked to.
    async fn let_go(&self) {
        let Some(retention) = self.run.config.retention else { return };
        let since = ops::clock::unix_ms()
            .saturating_sub(u64::try_from(retention.as_millis()).unwrap_or(u64::MAX));
        let let_go = async {
            let mut archive = self.run.archive.lock().await;
            forget(&mut archive, since).await?;
            let before = archive.names_before();
            drop(archive);
            // Nobody else looks after those of former primaries.
            for name in before {
                let mut former = Archive::open(&self.run.repository, &name).await?;
                forget(&mut former, since).await?;
            }
            let holder = format!("the sidecar of {}", self.run.sidecar.shard);
            self.run.repository.sweep(&holder, false).await
        };
        match let_go.await {
            Ok(swept) => {
                tracing::info!(deleted = swept.deleted, marked = swept.marked, "retention")
            }
            Err(error) => {
                tracing::warn!("retention was not held to: {error}; nothing that is needed is gone")
            }
        }
    }
}

/// Forgets what no moment from `since` on needs.
pub(super) async fn forget(
    archive: &mut Archive,
    since: u64,
) -> Result<Option<Keep>, store::StoreError> {
    let Some(keep) = Keep::since(archive, since) else { return Ok(None) };
    archive.forget(keep.segments_below, keep.bases.clone()).await?;
    Ok(Some(keep))
}

fn is_table(name: &FileName) -> bool {
    name.as_str().ends_with(".sst")
}

/// The files of a checkpoint.
fn list(dir: &Path) -> anyhow::Result<Vec<(FileName, PathBuf, u64)>> {
    let listing = || format!("listing the checkpoint {}", dir.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(listing)? {
        let entry = entry.with_context(listing)?;
        let name = entry.file_name().into_string();
        let name = name.map_err(|_| anyhow!("a file of the checkpoint has no UTF-8 name"))?;
        let no_data = NOT_DATA.contains(&name.as_str()) || name.starts_with("LOG.old.");
        if no_data || !entry.file_type().with_context(listing)?.is_file() {
            continue;
        }
        files.push((name.parse()?, entry.path(), entry.metadata().with_context(listing)?.len()));
    }
    if files.len() > Manifest::FILES_MAX {
        bail!("the checkpoint has {} files: compact the node first", files.len());
    }
    files.sort();
    Ok(files)
}
