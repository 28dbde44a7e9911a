//! `restore`: a node's directory of a shard as it was at any archived moment.
//!
//! Nothing is written before it is known that all that is needed is there. Then the checkpoint's files
//! are fetched into `db.partial`, the segments are applied to it, and it becomes `db` with an `ADOPT`, so
//! that the node which opens it takes a new identity and timeline. What was interrupted goes on where it
//! was when the same is asked for again.
//!
//! The directory is opened here, by the options that the checkpoint brings: no node runs on it, and one
//! that applied frames would need a service, a role and a source for it. Batches are applied as they are,
//! without a log of their own; how far that is stands beside the data ([`keyspace::system::RESTORED`]).

mod fetch;
mod journal;
mod replay;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use admin::Adopt;
use anyhow::{Context, anyhow};
use futures_util::{StreamExt, TryStreamExt};
use keyspace::Hlc;
use ops::exit::{Exit, Stop};
use ops::progress::{Progress, size};
use serde::Serialize;
use store::StoreError;
use store::bucket::CONCURRENT_MAX;
use store::repository::archive::Mark;
use store::repository::{Archive, Manifest, Missing, Plan, Target};
use wal::Position;

use journal::{Journal, Phase};

/// What is being restored; `db` once it is whole.
const PARTIAL: &str = "db.partial";
/// Names of what is missing that are said.
const NAMED_MAX: usize = 20;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The moment.
    pub target: Target,
    /// The node's directory.
    pub to: PathBuf,
}

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Restored {
    /// Of which shard.
    pub shard: String,
    /// The node's directory.
    pub dir: PathBuf,
    /// The end of what it holds, on the archived log.
    pub position: Position,
    /// The checkpoint that it began with.
    pub base: String,
    /// Its bytes.
    pub base_bytes: u64,
    /// Segments that were applied.
    pub segments: usize,
    /// Batches of them.
    pub batches: u64,
    /// What else there is to know.
    pub note: Option<String>,
}

/// Restores what is wanted of an archive.
///
/// # Errors
/// It cannot be restored, or the directory is not empty: refused, nothing was written. Or the store or
/// the disk failed, or something is damaged: asked again, it goes on where it was.
pub async fn run(archive: &mut Archive, wanted: &Wanted) -> anyhow::Result<Restored> {
    let to = &wanted.to;
    let held = Journal::read(to)?;
    let target = match &held {
        Some(journal) => journal.resumes(archive, wanted)?,
        None => {
            refuse_unless_empty(to)?;
            wanted.target
        }
    };
    let mut plan = Plan::of(archive, target).map_err(refuse)?;
    while let Some(segment) = plan.unsettled() {
        let bytes = archive.segment(segment).await?;
        plan.settle(archive.name(), &bytes).map_err(refuse)?;
    }
    let manifest = archive.manifest(&plan.base).await?;
    check_all_is_there(archive, &plan, &manifest).await?;
    if let Some(piece) = manifest.pieces().next() {
        // Keys that open nothing are told before anything is written.
        archive.repository().piece(piece).await?;
    }

    // From here on something is written.
    fs::create_dir_all(to).with_context(|| format!("making {}", to.display()))?;
    let mut journal = match held {
        Some(journal) => journal,
        None => Journal::begin(archive, wanted, &plan)?,
    };
    let partial = to.join(PARTIAL);
    let progress = Progress::new("restoring");
    progress.expect(plan.segment_bytes());
    if journal.phase == Phase::Files {
        progress.expect(manifest.bytes());
        fetch::files(archive.repository(), &manifest, &partial, &progress).await?;
        journal.enter(to, Phase::Log)?;
    }
    let mut applied = 0;
    // A try that was cut short behind the rename has only its journal left.
    if partial.exists() || !to.join("db").exists() {
        applied = replay::segments(archive, &plan, &partial, &progress).await?;
        let last = plan.steps.last().map(|step| step.segment.stamp);
        adopt(&partial, manifest.stamp.max(last.unwrap_or_default()))?;
        fs::rename(&partial, to.join("db")).context("renaming the restored directory")?;
    }
    Journal::end(to)?;
    sync(to)?;
    note_proven(archive, &plan).await;
    Ok(Restored {
        shard: archive.name().shard(),
        dir: to.clone(),
        position: plan.end(),
        base: plan.base.id.clone(),
        base_bytes: manifest.bytes(),
        segments: plan.steps.len(),
        batches: applied,
        note: plan.note,
    })
}

fn refuse(why: Missing) -> anyhow::Error {
    Stop::new(Exit::Refused, format!("it cannot be restored: {why}; nothing was written")).into()
}

fn refuse_unless_empty(to: &Path) -> anyhow::Result<()> {
    let inside = match fs::read_dir(to) {
        Ok(mut inside) => inside.next().is_some(),
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => false,
        Err(why) => return Err(why).with_context(|| format!("listing {}", to.display())),
    };
    if inside {
        let refusal = format!(
            "{} is not empty, and restoring never overwrites: give a new or an empty directory",
            to.display()
        );
        return Err(Stop::new(Exit::Refused, refusal).into());
    }
    Ok(())
}

/// Asks for everything that will be needed; its bytes are compared when they are fetched.
async fn check_all_is_there(
    archive: &Archive,
    plan: &Plan,
    manifest: &Manifest,
) -> anyhow::Result<()> {
    let segments = plan.steps.iter().map(|step| step.segment.name(archive.name()));
    let pieces: std::collections::BTreeSet<_> =
        manifest.pieces().map(|piece| piece.name()).collect();
    let names: Vec<_> = segments.chain(pieces).collect();
    let bucket = archive.repository().bucket();
    let asked = futures_util::stream::iter(names.into_iter().map(|name| async move {
        let there = bucket.head(&name).await?.is_some();
        Ok::<_, StoreError>((!there).then_some(name))
    }));
    let missing: Vec<Option<String>> = asked.buffer_unordered(CONCURRENT_MAX).try_collect().await?;
    let mut missing: Vec<_> = missing.into_iter().flatten().collect();
    if missing.is_empty() {
        return Ok(());
    }
    missing.sort();
    let (all, more) = (missing.len(), missing.len().saturating_sub(NAMED_MAX));
    missing.truncate(NAMED_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let why = format!(
        "it cannot be restored: {all} objects are missing: {}{more}; nothing was written. Ask for a moment \
         before the first of them (`godwit-replicator archive list`)",
        missing.join(", ")
    );
    Err(Stop::new(Exit::Refused, why).into())
}

/// What makes the node that opens it take a new identity.
fn adopt(dir: &Path, stamp: Hlc) -> anyhow::Result<()> {
    // Its stamps must rise above all that it held, on a machine whose clock may be behind.
    let stamp = stamp.max(Hlc::new(ops::clock::unix_ms(), 0));
    let adopt = Adopt { format: Adopt::FORMAT, follow: None, stamp };
    let path = dir.join(Adopt::FILE);
    let written = File::create(&path)
        .and_then(|mut file| file.write_all(&adopt.to_bytes()).and_then(|()| file.sync_all()));
    written.with_context(|| format!("writing {}", path.display()))?;
    sync(dir)
}

fn sync(dir: &Path) -> anyhow::Result<()> {
    File::open(dir).and_then(|d| d.sync_all()).with_context(|| format!("syncing {}", dir.display()))
}

/// It was restored and opened: retention keeps the last checkpoint of which that is known. Whoever may
/// only read cannot say so, which is no failure.
async fn note_proven(archive: &mut Archive, plan: &Plan) {
    let mark = Mark::Proven { base: plan.base.id.clone(), at: ops::clock::unix_ms() };
    if let Err(why) = archive.mark(mark).await {
        tracing::info!("the store was not told that checkpoint {} is proven: {why}", plan.base.id);
    }
}

/// For people.
pub fn text(restored: &Restored, seconds: f64) -> String {
    let note = restored.note.as_ref().map(|note| format!("\nnote: {note}")).unwrap_or_default();
    format!(
        "{} is in {}, at {}: checkpoint {} ({}), then {} batches of {} segments, in {seconds:.1} s{note}\nserve it: godwit-node --dir {} --listen 127.0.0.1:6400",
        restored.shard,
        restored.dir.display(),
        restored.position,
        restored.base,
        size(restored.base_bytes),
        restored.batches,
        restored.segments,
        restored.dir.display(),
    )
}

pub(super) fn died(_: tokio::task::JoinError) -> anyhow::Error {
    anyhow!("a thread died: look at the log")
}
