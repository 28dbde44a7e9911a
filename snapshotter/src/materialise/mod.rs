//! `materialise`: lays sealed snapshots out as databases, so that a standby's node has one within seconds.
//!
//! ```text
//! place     where they are, and which
//! record    what is known of one
//! build     one shard: files are linked from older ones, or written and compared; then its log
//! older     what older ones give: their tables, or all of one that is on the way there
//! follow    what a node goes on with that has it
//! pass      the newest few of each cluster, and older ones go
//! ```
//!
//! All or nothing: a database is made under another name and renamed when it is whole and synced. What a
//! run that died has left is removed by the next one. Nothing ever writes to a file that is in two.

mod build;
mod follow;
mod older;
mod pass;
mod place;
mod record;

use std::path::PathBuf;
use std::time::Instant;

use ops::exit::Exit;
use ops::progress::Progress;
use ops::units::Size;
use serde_json::json;
use store::SnapshotId;
use topology::ShardName;

pub use pass::{Done, Pass};
pub use place::{Materialised, Place};
pub use record::{Look, Record, Table};

use crate::from::FromArgs;
use crate::report;

/// What stays free on the volume, if nothing else is said.
pub const FREE_DEFAULT: Size = Size(1 << 30);

/// What to materialise, and where.
#[derive(clap::Args, Clone, Debug)]
pub struct MaterialiseArgs {
    #[command(flatten)]
    from: FromArgs,
    /// This snapshot, beside those that are there; without it the newest of each cluster, and older ones go
    #[arg(long, value_name = "ID", conflicts_with = "keep")]
    snapshot: Option<SnapshotId>,
    /// This shard, such as a/0, once for each; without it all of them
    #[arg(long, value_name = "SHARD")]
    shard: Vec<ShardName>,
    /// How many of the newest ones of each cluster
    #[arg(long, value_name = "N", default_value_t = 1)]
    keep: usize,
    /// Where they are: on the file system of the nodes that are to have them [default: REPOSITORY.materialised]
    #[arg(long, env = "GODWIT_MATERIALISED", value_name = "DIR")]
    materialised: Option<PathBuf>,
    /// What must stay free there
    #[arg(long, value_name = "SIZE", default_value_t = FREE_DEFAULT)]
    free: Size,
}

/// Materialises what was asked for.
///
/// # Errors
/// There is no room or another run does the same: refused, nothing was changed. Or the repository or the
/// disk failed, or something is damaged: what was whole before is there still.
pub async fn run(args: &MaterialiseArgs) -> anyhow::Result<Exit> {
    let begun = Instant::now();
    let snapshots = args.from.snapshots().await?;
    let only = match &args.snapshot {
        Some(id) => Some(args.from.choose(&snapshots, Some(id))?.id),
        None => args.from.choose(&snapshots, None).map(|_| None)?,
    };
    let place = Place::new(args.materialised.as_deref(), &args.from.from)?;
    let progress = Progress::new("materialising");
    let pass = Pass {
        snapshots: &snapshots,
        place: &place,
        service: None,
        only: only.as_ref(),
        keep: args.keep.max(1),
        shards: &args.shard,
        free: args.free.0,
        progress: &progress,
    };
    let done = pass.run().await?;
    drop(progress);
    let seconds = begun.elapsed().as_secs_f64();
    let mut lines: Vec<_> = done.made.iter().map(pass::Made::text).collect();
    lines.extend(done.removed.iter().map(|dir| format!("{} is removed", dir.display())));
    lines.push(format!("materialised in {} in {seconds:.1} s", place.root().display()));
    let shown = json!({
        "materialised": done.made, "removed": done.removed, "dir": place.root(), "seconds": seconds,
    });
    report::print(args.from.output, &lines.join("\n"), &shown);
    Ok(Exit::Done)
}
