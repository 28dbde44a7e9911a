//! `cat`: what a key held, without restoring all of the snapshot.
//!
//! The shard's small files are fetched, and its table files stand there as holes of the right size
//! ([`sparse`]). So its database opens; the log is applied to it; and the table files that may hold
//! records of the key, by what the database says of their ranges, are fetched before it is read.

mod show;
mod sparse;
mod value;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use keyspace::Slot;
use ops::exit::Exit;
use ops::progress::Progress;
use restore::place;
use serde_json::json;
use store::SnapshotId;
use store::repository::{Snapshot, Snapshots};

use crate::content::Content;
use crate::from::FromArgs;
use crate::report;
use sparse::Sparse;
use value::{Found, Looked};

/// Which key.
#[derive(clap::Args, Clone, Debug)]
pub struct CatArgs {
    #[command(flatten)]
    pub(crate) from: FromArgs,
    /// The snapshot; without it the newest one
    #[arg(long, value_name = "ID")]
    snapshot: Option<SnapshotId>,
    /// Print at most so many elements of a collection
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    limit: usize,
    /// Where files are put meanwhile [default: the system's directory for such]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// The key
    key: OsString,
}

/// Prints a key. One that is not there is `(nil)`.
///
/// # Errors
/// The snapshot cannot be read.
pub async fn run(args: &CatArgs) -> anyhow::Result<Exit> {
    let key = args.key.clone().into_vec();
    let snapshots = args.from.readable().await?;
    let snapshot = args.from.choose(&snapshots, args.snapshot.as_ref())?;
    let content = shard_of(&snapshots, &snapshot, Slot::of_key(&key)).await?;
    let scratch = args.scratch.clone().unwrap_or_else(std::env::temp_dir);
    let dir = scratch.join(format!("godwit-cat-{:016x}", rand::random::<u64>()));
    let progress = Progress::new("fetching");
    let found = look(&snapshots, &content, &dir, &key, args.limit, &progress).await;
    drop(progress);
    place::remove(&dir)?;
    let (found, fetched) = found?;
    let shown = json!({
        "snapshot": snapshot.id, "shard": content.manifest.shard, "key": show::text(&key),
        "found": found.as_ref().map(show::json), "fetched-bytes": fetched, "of-bytes": content.bytes(),
    });
    let text = found.as_ref().map_or_else(|| "(nil)".to_owned(), show::lines);
    report::print(args.from.output, &text, &shown);
    Ok(Exit::Done)
}

/// The shard that has the slot.
async fn shard_of(
    snapshots: &Snapshots,
    snapshot: &Snapshot,
    slot: Slot,
) -> anyhow::Result<Content> {
    for n in 0..snapshot.shards.len() {
        let content = Content::open(snapshots.repository(), snapshots, snapshot, n).await?;
        if content.manifest.slots.contains(slot) {
            return Ok(content);
        }
    }
    bail!("no shard of snapshot {} has slot {slot}", snapshot.id)
}

async fn look(
    snapshots: &Snapshots,
    content: &Content,
    dir: &Path,
    key: &[u8],
    limit: usize,
    progress: &Progress,
) -> anyhow::Result<(Option<Found>, u64)> {
    let mut sparse = Sparse::lay_out(snapshots.repository(), content, dir, progress).await?;
    let now_ms = content.stamp().ms();
    // Each time round at least one more file is there.
    loop {
        let (path, key) = (dir.to_owned(), key.to_vec());
        let looking = move || value::look(path, &key, now_ms, limit);
        let looked = tokio::task::spawn_blocking(looking).await.context("a thread died")??;
        match looked {
            Looked::Found(found) => return Ok((Some(*found), sparse.fetched())),
            Looked::Nothing => return Ok((None, sparse.fetched())),
            Looked::Lacks(names) => sparse.fetch(&names).await?,
        }
    }
}
