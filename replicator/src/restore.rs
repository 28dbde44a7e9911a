//! `restore`: a node's directory of a shard as it was at any archived moment.
//!
//! Nothing is written before it is known that all that is needed is there. The crate `restore` then makes
//! the directory: the newest checkpoint before the moment, and the segments from there.

use std::path::PathBuf;

use ops::exit::{Exit, Stop};
use ops::progress::{Progress, size};
use serde::Serialize;
use store::repository::archive::Mark;
use store::repository::{Archive, Missing, Plan, Step, Target};
use wal::Position;

use ::restore::{Asked, Journal, Work, files, place};

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
    let asked = Asked {
        repository: archive.repository().header().id.clone(),
        of: archive.name().to_string(),
        what: said(wanted.target),
    };
    let held = Journal::read(to)?;
    let target = match &held {
        Some(journal) => Target::Position(journal.resumes(&asked, to)?),
        None => {
            place::refuse_unless_empty(to)?;
            wanted.target
        }
    };
    let mut plan = Plan::of(archive, target).map_err(refuse)?;
    while let Some(segment) = plan.unsettled() {
        let bytes = archive.segment(segment).await?;
        let name = archive.name_of(segment).clone();
        plan.settle(&name, &bytes).map_err(refuse)?;
    }
    let manifest = archive.manifest(&plan.base).await?;
    let name = |step: &Step| step.segment.name(archive.name_of(&step.segment));
    let segments = plan.steps.iter().map(name);
    let names = segments.chain(manifest.pieces().map(|piece| piece.name()));
    let instead = "Ask for a moment before the first of them (`godwit-replicator archive list`)";
    files::check_all_are_there(archive.repository().bucket(), names, instead).await?;
    if let Some(piece) = manifest.pieces().next() {
        // Keys that open nothing are told before anything is written.
        archive.repository().piece(piece).await?;
    }
    let last = plan.steps.last().map(|step| step.segment.stamp);
    let work = Work {
        asked,
        repository: archive.repository(),
        base: &plan.base.id,
        files: &manifest.files,
        position: plan.base.position,
        log: &*archive,
        steps: &plan.steps,
        stamp: manifest.stamp.max(last.unwrap_or_default()),
        onto: false,
    };
    let progress = Progress::new("restoring");
    let done = work.run(to, held, &progress).await?;
    note_proven(archive, &plan).await;
    Ok(Restored {
        shard: archive.name().shard(),
        dir: to.clone(),
        position: plan.end(),
        base: plan.base.id.clone(),
        base_bytes: manifest.bytes(),
        segments: plan.steps.len(),
        batches: done.batches,
        note: plan.note,
    })
}

fn said(target: Target) -> String {
    match target {
        Target::Latest => "all there is".to_owned(),
        Target::At(ms) => {
            format!("--at {}", store::repository::plan::time(keyspace::Hlc::new(ms, 0)))
        }
        Target::Position(position) => format!("--position {position}"),
    }
}

fn refuse(why: Missing) -> anyhow::Error {
    Stop::new(Exit::Refused, format!("it cannot be restored: {why}; nothing was written")).into()
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
