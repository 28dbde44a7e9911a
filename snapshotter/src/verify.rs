//! `verify`: reads what snapshots are made of back, and compares every checksum.

use std::collections::{BTreeSet, HashMap};

use ops::exit::Exit;
use rand::Rng as _;
use restore::Segments as _;
use serde::Serialize;
use serde_json::json;
use store::repository::{Damage, Frames, Repository, Snapshot, Snapshots, What};
use store::{ObjectId, SnapshotId, StoreError};

use crate::content::Content;
use crate::from::FromArgs;
use crate::report;
use ops::progress::Progress;

/// What to read.
#[derive(clap::Args, Clone, Debug)]
pub struct VerifyArgs {
    #[command(flatten)]
    pub(crate) from: FromArgs,
    /// The snapshot; without it the newest one
    #[arg(long, value_name = "ID", conflicts_with = "all")]
    snapshot: Option<SnapshotId>,
    /// Every snapshot that there is
    #[arg(long)]
    all: bool,
    /// Read this part of the blobs only, chosen at random; nothing is marked verified then
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
    sample: Option<u8>,
    /// Move blobs that are not what was written to `damaged/`, so that the next push stores again what its
    /// source still has; needs the right to write and to delete
    #[arg(long)]
    set_aside: bool,
}

/// What was found of one snapshot.
#[derive(Debug, Default, Serialize)]
struct Found {
    snapshot: String,
    /// Nothing that was read is damaged.
    verified: bool,
    /// Blobs that were read, each once.
    objects: u64,
    /// Their plain bytes.
    bytes: u64,
    /// Blobs that were left out.
    skipped: u64,
    #[serde(flatten)]
    damage: Damage,
    /// Blobs that were moved to `damaged/`.
    #[serde(rename = "set-aside")]
    set_aside: Vec<String>,
}

/// Verifies the snapshots that were asked for.
///
/// # Errors
/// The repository cannot be used, or there is no such snapshot. Damage is an answer: exit code 1.
pub async fn run(args: &VerifyArgs) -> anyhow::Result<Exit> {
    let from = &args.from;
    let mut snapshots = from.readable().await?;
    let asked: Vec<Snapshot> = match args.all {
        true => snapshots.list().map(|(snapshot, _)| snapshot.clone()).collect(),
        false => vec![from.choose(&snapshots, args.snapshot.as_ref())?],
    };
    let progress = Progress::new("verifying");
    let mut reader = Reader {
        repository: snapshots.repository().clone(),
        seen: HashMap::new(),
        sample: args.sample,
        set_aside: args.set_aside,
        progress: &progress,
    };
    let mut all = Vec::new();
    for snapshot in asked {
        let found = reader.snapshot(&snapshots, &snapshot).await?;
        if args.sample.is_none() || !found.set_aside.is_empty() {
            let (good, now) = (found.verified, ops::clock::unix_ms());
            if let Err(why) = snapshots.verified(&snapshot.id, now, good).await {
                // Whoever may only read has verified it all the same.
                tracing::warn!("the repository was not told of {}: {why}", snapshot.id);
            }
        }
        all.push(found);
    }
    let seconds = progress.elapsed().as_secs_f64();
    drop(progress);
    let good = all.iter().all(|found| found.verified);
    let lines: Vec<_> = all.iter().map(|found| text(found, args.sample, seconds)).collect();
    let mut shown = json!({ "verified": good, "seconds": seconds, "sample": args.sample });
    if let [one] = all.as_slice() {
        let one = serde_json::to_value(one)?;
        let keys = one.as_object().into_iter().flatten();
        keys.for_each(|(key, value)| shown[key] = value.clone());
    }
    shown["snapshots"] = serde_json::to_value(&all)?;
    report::print(from.output, &lines.join("\n"), &shown);
    Ok(if good { Exit::Done } else { Exit::Failed })
}

fn text(found: &Found, sample: Option<u8>, seconds: f64) -> String {
    let (id, read) = (&found.snapshot, report::size(found.bytes));
    if !found.verified {
        let aside = match found.set_aside.len() {
            0 => String::new(),
            n => format!(
                "\n  {n} were set aside in `damaged/`: the next push stores what its source still has, and a verify after it shows whether this snapshot is whole again"
            ),
        };
        return format!(
            "{id} is DAMAGED and cannot be restored whole; older snapshots may be good.\n  {}{aside}",
            found.damage.lines().join("\n  ")
        );
    }
    match sample {
        None => {
            format!("{id} is whole: {} objects, {read}, read back in {seconds:.1} s", found.objects)
        }
        Some(percent) => format!(
            "{id}: {} objects, {read}, a sample of {percent} %, are good; {} were not read, and nothing was marked",
            found.objects, found.skipped
        ),
    }
}

/// Reads blobs, each of them once.
struct Reader<'a> {
    repository: Repository,
    /// What was read, by name: in words, what is wrong with it.
    seen: HashMap<String, Option<String>>,
    sample: Option<u8>,
    set_aside: bool,
    progress: &'a Progress,
}

impl Reader<'_> {
    async fn snapshot(
        &mut self,
        snapshots: &Snapshots,
        snapshot: &Snapshot,
    ) -> anyhow::Result<Found> {
        let mut found = Found { snapshot: snapshot.id.to_string(), ..Found::default() };
        for n in 0..snapshot.shards.len() {
            match Content::open(&self.repository, snapshots, snapshot, n).await {
                Ok(content) => self.shard(&content, &mut found).await?,
                Err(error) => found.damage.note(error)?,
            }
        }
        found.verified = found.damage.is_empty();
        Ok(found)
    }

    async fn shard(&mut self, content: &Content, found: &mut Found) -> anyhow::Result<()> {
        let manifest = &content.manifest;
        let pieces: BTreeSet<_> = manifest.pieces().collect();
        self.progress.expect(pieces.iter().map(|piece| u64::from(piece.size)).sum());
        self.progress.expect(manifest.log_bytes());
        for piece in pieces {
            let size = u64::from(piece.size);
            if self.is_due(&piece.name(), found) {
                let read = self.repository.piece(piece).await.map(drop);
                let blob = (piece.name(), What::Piece, piece.blake3);
                self.keep(blob, size, read, found).await?;
            }
            self.progress.moved(size, size);
        }
        for (step, segment) in content.steps().iter().zip(&manifest.log) {
            if self.is_due(&segment.name(), found) {
                let read = content.log.segment(&step.segment).await;
                let checked = read.and_then(|bytes| {
                    let checked = Frames::check_all(content.log.name(), &step.segment, &bytes);
                    let path = segment.name().into();
                    checked.map_err(|why| StoreError::Damaged { path, why })
                });
                let blob = (segment.name(), What::Segment, segment.blake3);
                self.keep(blob, segment.bytes, checked, found).await?;
            }
            self.progress.moved(segment.bytes, segment.bytes);
        }
        if let Some(digest) = &manifest.digest
            && let Err(why) = content.steps_to(digest.position)
        {
            found.damage.name(format!("{}: {why}", manifest.shard));
        }
        Ok(())
    }

    /// Whether a blob should be read now. What was found of it before counts again.
    fn is_due(&mut self, name: &str, found: &mut Found) -> bool {
        if let Some(known) = self.seen.get(name) {
            if let Some(damage) = known {
                found.damage.name(damage.clone());
            }
            return false;
        }
        let due = self.sample.is_none_or(|percent| rand::rng().random_range(0..100) < percent);
        found.skipped += u64::from(!due);
        due
    }

    async fn keep(
        &mut self,
        (name, what, id): (String, What, ObjectId),
        size: u64,
        read: Result<(), StoreError>,
        found: &mut Found,
    ) -> Result<(), StoreError> {
        let damage = read.as_ref().err().map(ToString::to_string);
        if let Err(error) = read {
            found.damage.note(error)?;
            if self.set_aside && self.repository.set_aside(&name, what, id).await? {
                tracing::warn!("{name} was set aside");
                found.set_aside.push(name.clone());
            }
        }
        found.objects += 1;
        found.bytes += size;
        self.seen.insert(name, damage);
        Ok(())
    }
}
