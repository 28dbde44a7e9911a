//! `prove`: restores a snapshot into a scratch directory, opens it, and compares what is in it with
//! what its source had.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use admin::Digest;
use anyhow::{Context, bail};
use keyspace::{Hlc, SlotSet};
use ops::exit::{Exit, Stop};
use ops::progress::Progress;
use restore::{Copy, PARTIAL, files, place, replay};
use serde::Serialize;
use serde_json::json;
use store::SnapshotId;
use store::repository::{Repository, Snapshot};
use topology::operator::SNAPSHOT_PROVEN;
use topology::service::Service;
use wal::Position;

use crate::content::Content;
use crate::from::FromArgs;
use crate::{note, report};

/// Slots that are named where they differ.
const NAMED_MAX: usize = 20;

/// What to prove.
#[derive(clap::Args, Clone, Debug)]
pub struct ProveArgs {
    #[command(flatten)]
    pub(crate) from: FromArgs,
    /// The snapshot; without it the newest one
    #[arg(long, value_name = "ID")]
    snapshot: Option<SnapshotId>,
    /// A directory for what is restored, one shard at a time; what is made there is removed
    #[arg(long, value_name = "DIR")]
    scratch: PathBuf,
    /// Also where no digest of the source was taken: restored and read, but compared with nothing, so it
    /// counts as verified and not as proven
    #[arg(long)]
    without_digest: bool,
    /// The registry of its service, to be told that it was proven; the registry of `push`
    #[arg(long, env = "GODWIT_REGISTRY", value_name = "ADDRESS")]
    registry: Option<String>,
}

/// What came of a shard.
#[derive(Debug, Serialize)]
struct Proof {
    shard: String,
    /// Live keys that were read.
    keys: u64,
    /// Whether there was a digest of the source to compare with.
    compared: bool,
    /// Slots that differ from the source's.
    differing: Vec<u16>,
    seconds: f64,
}

/// Proves a snapshot, and marks it.
///
/// # Errors
/// It cannot be restored or opened, or the scratch directory cannot be used. A difference is an
/// answer: exit code 1.
pub async fn run(args: &ProveArgs) -> anyhow::Result<Exit> {
    let begun = Instant::now();
    let mut snapshots = args.from.readable().await?;
    let snapshot = args.from.choose(&snapshots, args.snapshot.as_ref())?;
    let dir = args.scratch.join(format!("prove-{}", snapshot.id));
    let mut contents = Vec::new();
    for n in 0..snapshot.shards.len() {
        let content = Content::open(snapshots.repository(), &snapshots, &snapshot, n).await?;
        if content.manifest.digest.is_none() && !args.without_digest {
            let why = format!(
                "{} of {} has no digest of its source to compare with: push with `--digest on`, or prove it `--without-digest`, which restores and reads it; nothing was restored",
                content.manifest.shard, snapshot.id
            );
            return Err(Stop::new(Exit::Refused, why).into());
        }
        contents.push(content);
    }
    let progress = Progress::new("proving");
    let mut proofs = Vec::new();
    for content in contents {
        // A run that died has left what it was at.
        place::remove(&dir)?;
        let proof = shard(snapshots.repository(), &content, &dir, &progress).await;
        place::remove(&dir)?;
        proofs.push(proof.with_context(|| {
            format!("{} of {} was not proven", content.manifest.shard, snapshot.id)
        })?);
    }
    drop(progress);
    let good = proofs.iter().all(|proof| proof.differing.is_empty());
    let compared = proofs.iter().all(|proof| proof.compared);
    let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let now = ops::clock::unix_ms();
    let told = match good && compared {
        true => snapshots.proven(&snapshot.id, now, took_ms).await,
        false => snapshots.verified(&snapshot.id, now, good).await,
    };
    if let Err(why) = told {
        tracing::warn!("the repository was not told of {}: {why}", snapshot.id);
    }
    if let Some(registry) = args.registry.as_ref().filter(|_| good && compared) {
        tell(registry, &snapshot, now).await;
    }
    let seconds = took_ms as f64 / 1000.0;
    let mut lines: Vec<_> = proofs.iter().map(line).collect();
    lines.push(match (good, compared) {
        (true, true) => format!("{} is proven, in {seconds:.1} s", snapshot.id),
        (true, false) => format!(
            "{} was restored and read, in {seconds:.1} s; it counts as verified, since nothing was compared",
            snapshot.id
        ),
        (false, _) => format!(
            "{} is NOT what its source had: do not restore it; prove the one before (--snapshot), and push again",
            snapshot.id
        ),
    });
    let shown = json!({
        "snapshot": snapshot.id, "proven": good && compared, "good": good, "seconds": seconds, "shards": proofs,
    });
    report::print(args.from.output, &lines.join("\n"), &shown);
    Ok(if good { Exit::Done } else { Exit::Failed })
}

/// Notes in the registry of the snapshot's service that it is proven. It is, whether this succeeds or not.
async fn tell(registry: &str, snapshot: &Snapshot, at: u64) {
    let open = async { Service::open(topology::open(registry)?, &snapshot.service).await };
    match open.await {
        Ok(service) => {
            let says = format!("{} of cluster `{}`", snapshot.id, snapshot.cluster);
            note::put(&service, SNAPSHOT_PROVEN, at, says).await;
        }
        Err(why) => tracing::warn!("the registry {registry} was not told that it is proven: {why}"),
    }
}

fn line(proof: &Proof) -> String {
    let Proof { shard, keys, differing, .. } = proof;
    if differing.is_empty() {
        let compared = match proof.compared {
            true => "all slots are as at the source",
            false => "there is no digest of its source, so nothing was compared",
        };
        return format!("{shard}: restored and read, {keys} keys; {compared}");
    }
    let named: Vec<_> = differing.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    let more = if differing.len() > NAMED_MAX { " ..." } else { "" };
    format!(
        "{shard}: {} slots differ from the source's: {}{more}",
        differing.len(),
        named.join(", ")
    )
}

/// Restores a shard up to where its digest was taken, compares, and then applies the rest.
async fn shard(
    repository: &Repository,
    content: &Content,
    dir: &Path,
    progress: &Progress,
) -> anyhow::Result<Proof> {
    let begun = Instant::now();
    let manifest = &content.manifest;
    let partial = dir.join(PARTIAL);
    progress.expect(content.bytes());
    files::fetch_all(repository, &manifest.files, &partial, progress).await?;
    let digest = manifest.digest.as_ref();
    let middle = digest.map_or_else(|| manifest.end(), |digest| digest.position);
    let steps = content.steps_to(middle)?;
    let position = manifest.position;
    replay::segments(&content.log, position, &steps, &partial, progress).await?;
    let stamp = digest.map_or_else(|| content.stamp(), |digest| digest.stamp);
    let (path, slots) = (partial.clone(), manifest.slots.clone());
    let found = tokio::task::spawn_blocking(move || read(path, middle, stamp, &slots));
    let found = found.await.context("the thread that reads died")??;
    let differing =
        digest.map_or_else(Vec::new, |digest| digest.compare(&found, &manifest.slots).1);
    if middle != manifest.end() {
        replay::segments(&content.log, position, &content.steps(), &partial, progress).await?;
    }
    Ok(Proof {
        shard: manifest.shard.clone(),
        keys: found.total.keys,
        compared: digest.is_some(),
        differing,
        seconds: begun.elapsed().as_secs_f64(),
    })
}

/// Reads all that is live.
fn read(path: PathBuf, position: Position, stamp: Hlc, slots: &SlotSet) -> anyhow::Result<Digest> {
    let copy = Copy::open(path)?;
    let (db, stop) = (copy.db(), AtomicBool::new(false));
    let snapshot = db.snapshot();
    let reader = digest::Reader { db, snapshot: &snapshot, stamp, stop: &stop };
    let slots = match reader.slots(slots) {
        Ok(slots) => slots,
        Err(why) => bail!("what was restored cannot be read: {why}"),
    };
    let mut total = admin::SlotDigest::default();
    slots.values().for_each(|slot| total.add(slot));
    Ok(Digest { position, stamp, slots, total })
}
