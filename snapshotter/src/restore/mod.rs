//! `restore`: makes nodes' directories of a snapshot.
//!
//! One shard, or all of a cluster's; into new directories, or onto databases that are there, whose files
//! are used again as far as they are the same; with the shards of the source, or with others
//! ([`reshape`]). Nothing is written before it is known that all that is needed is there, and what was
//! interrupted goes on when the same is asked for again.

mod reshape;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use keyspace::SlotSet;
use ops::exit::{Exit, Stop};
use ops::progress::Progress;
use restore::{Asked, Done, Journal, Work, files, place};
use serde_json::{Value, json};
use store::SnapshotId;
use store::repository::{Repository, Snapshot, Snapshots};
use topology::ShardName;

use crate::content::{self, Content};
use crate::from::FromArgs;
use crate::report;

/// No cluster has more shards than slots.
const SHARDS_MAX: u16 = 16_384;

/// What to restore, and where.
#[derive(clap::Args, Clone, Debug)]
pub struct RestoreArgs {
    #[command(flatten)]
    pub(crate) from: FromArgs,
    /// The snapshot; without it the newest one
    #[arg(long, value_name = "ID")]
    snapshot: Option<SnapshotId>,
    /// One shard, such as a/0; without it all of them, each in a directory of --to named by its number
    #[arg(long, value_name = "SHARD")]
    shard: Option<ShardName>,
    /// The node's directory, new or empty, or one where the same was begun
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Replace the database that is in the directory, and fetch only what it lacks; no node may run on it
    #[arg(long)]
    delta: bool,
    /// Make so many shards of it, of even slot ranges, instead of those of its source
    #[arg(long, value_name = "N", conflicts_with_all = ["shard", "delta"],
        value_parser = clap::value_parser!(u16).range(1..=i64::from(SHARDS_MAX)))]
    shards: Option<u16>,
    /// Make a shard of these slots, such as 0-5460; once for each shard
    #[arg(long, value_name = "SLOTS", conflicts_with_all = ["shard", "delta", "shards"])]
    slots: Vec<SlotSet>,
}

/// Restores what was asked for.
///
/// # Errors
/// It cannot be restored, or the directory is not as it should be: refused, nothing was written. Or the
/// repository or the disk failed, or something is damaged: asked again, it goes on where it was.
pub async fn run(args: &RestoreArgs) -> anyhow::Result<Exit> {
    let begun = Instant::now();
    let snapshots = args.from.readable().await?;
    let snapshot = args.from.choose(&snapshots, args.snapshot.as_ref())?;
    let progress = Progress::new("restoring");
    let job = Job { snapshots: &snapshots, snapshot: &snapshot, progress: &progress };
    let shapes = match args.shards {
        Some(count) => reshape::even(count),
        None => args.slots.clone(),
    };
    let mut shards = Vec::new();
    if !shapes.is_empty() {
        shards = reshape::run(&job, &shapes, &args.to).await?;
    } else if let Some(shard) = &args.shard {
        let n = content::number_of(&snapshot, shard)?;
        let ready = job.ready(n, &args.to, args.delta).await?;
        shards.push(ready.run(&job).await?);
    } else {
        let mut all = Vec::new();
        for n in 0..snapshot.shards.len() {
            all.push(job.ready(n, &args.to.join(n.to_string()), args.delta).await?);
        }
        for ready in all {
            shards.push(ready.run(&job).await?);
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    drop(progress);
    let mut lines: Vec<_> = shards.iter().map(|shard| shard.text(&snapshot)).collect();
    lines.push(format!("restored {} in {seconds:.1} s", snapshot.id));
    let list: Vec<_> = shards.iter().map(Restored::json).collect();
    let mut shown = match list.as_slice() {
        [one] if args.shard.is_some() => one.clone(),
        _ => json!({ "dir": args.to }),
    };
    shown["snapshot"] = json!(snapshot.id);
    shown["seconds"] = json!(seconds);
    shown["shards"] = Value::Array(list);
    report::print(args.from.output, &lines.join("\n"), &shown);
    Ok(Exit::Done)
}

/// What is restored.
struct Job<'a> {
    snapshots: &'a Snapshots,
    snapshot: &'a Snapshot,
    progress: &'a Progress,
}

/// A shard of which all is known to be there, and its directory to be as it should.
struct Ready {
    content: Content,
    to: PathBuf,
    held: Option<Journal>,
    asked: Asked,
    delta: bool,
}

/// A directory that was made.
struct Restored {
    shard: String,
    dir: PathBuf,
    slots: SlotSet,
    position: Option<wal::Position>,
    files: usize,
    bytes: u64,
    segments: usize,
    done: Done,
}

impl Job<'_> {
    fn repository(&self) -> &Repository {
        self.snapshots.repository()
    }

    /// Finds out whether the n-th shard can be restored to that directory. Writes nothing.
    async fn ready(&self, n: usize, to: &Path, delta: bool) -> anyhow::Result<Ready> {
        let repository = self.repository();
        let content = Content::open(repository, self.snapshots, self.snapshot, n).await?;
        let asked = Asked {
            repository: repository.header().id.clone(),
            of: format!("snapshot {}", self.snapshot.id),
            what: content.manifest.shard.clone(),
        };
        let held = Journal::read(to)?;
        match &held {
            Some(journal) => drop(journal.resumes(&asked, to)?),
            None if delta => refuse_unless_database(to)?,
            None => place::refuse_unless_empty(to)?,
        }
        let instead = "Restore an older snapshot (`godwit-snapshotter list`)";
        files::check_all_are_there(repository.bucket(), content.blobs(), instead).await?;
        if let Some(piece) = content.manifest.pieces().next() {
            // Keys that open nothing are told before anything is written.
            repository.piece(piece).await?;
        }
        Ok(Ready { content, to: to.to_owned(), held, asked, delta })
    }
}

impl Ready {
    async fn run(self, job: &Job<'_>) -> anyhow::Result<Restored> {
        let Self { content, to, held, asked, delta } = self;
        let _lock = delta.then(|| place::lock(&to)).transpose()?;
        let steps = content.steps();
        let manifest = &content.manifest;
        let work = Work {
            asked,
            repository: job.repository(),
            base: &manifest.shard,
            files: &manifest.files,
            position: manifest.position,
            log: &content.log,
            steps: &steps,
            stamp: content.stamp(),
            onto: delta,
        };
        let done = work.run(&to, held, job.progress).await.with_context(|| {
            format!(
                "restoring {} of snapshot {}; ask for the same again to go on where it was",
                manifest.shard, job.snapshot.id
            )
        })?;
        Ok(Restored {
            shard: manifest.shard.clone(),
            dir: to,
            slots: manifest.slots.clone(),
            position: Some(manifest.end()),
            files: manifest.files.len(),
            bytes: manifest.bytes(),
            segments: steps.len(),
            done,
        })
    }
}

/// A delta goes onto a database, on which no node runs.
fn refuse_unless_database(to: &Path) -> anyhow::Result<()> {
    if to.join("db").is_dir() {
        return place::lock(to).map(drop);
    }
    let refusal = format!(
        "{} holds no database for --delta to be restored onto: leave it out to make a new directory",
        to.display()
    );
    Err(Stop::new(Exit::Refused, refusal).into())
}

impl Restored {
    fn text(&self, snapshot: &Snapshot) -> String {
        let dir = self.dir.display();
        let at = self.position.map_or_else(String::new, |at| format!(", at {at}"));
        let reused = match self.done.reused {
            0 => String::new(),
            bytes => format!(", {} of them there already", report::size(bytes)),
        };
        format!(
            "{} of {} is in {dir}: slots {}, {} files, {}{reused}, {} batches of {} segments{at}\n  serve it: godwit-node --dir {dir} --listen 127.0.0.1:6400",
            self.shard,
            snapshot.id,
            self.slots,
            self.files,
            report::size(self.bytes),
            self.done.batches,
            self.segments,
        )
    }

    fn json(&self) -> Value {
        json!({
            "shard": self.shard, "dir": self.dir, "slots": self.slots, "position": self.position,
            "files": self.files, "bytes": self.bytes, "reused-bytes": self.done.reused,
            "segments": self.segments, "batches": self.done.batches,
        })
    }
}
