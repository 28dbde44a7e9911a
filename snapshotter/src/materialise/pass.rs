//! One pass over a repository: what is chosen is there afterwards, and what is not is not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, bail};
use ops::exit::{Exit, Stop};
use ops::progress::Progress;
use serde::Serialize;
use store::SnapshotId;
use store::repository::{Snapshot, Snapshots};
use topology::ShardName;

use super::build::{Build, Took};
use super::place::Place;
use super::record::Record;
use crate::content::Content;
use crate::report;

/// What to do.
pub struct Pass<'a> {
    /// Of these.
    pub snapshots: &'a Snapshots,
    /// There.
    pub place: &'a Place,
    /// Of this service; without it of all.
    pub service: Option<&'a str>,
    /// This one, beside what is there; without it the newest ones.
    pub only: Option<&'a SnapshotId>,
    /// How many of the newest of each cluster.
    pub keep: usize,
    /// Of them these shards; all if there is none.
    pub shards: &'a [ShardName],
    /// Bytes that stay free on the volume.
    pub free: u64,
    /// How far it is.
    pub progress: &'a Progress,
}

/// What was done.
#[derive(Debug, Default)]
pub struct Done {
    /// What was chosen: made now, or there already.
    pub made: Vec<Made>,
    /// Directories of older ones that went.
    pub removed: Vec<PathBuf>,
}

/// A shard of a snapshot that is there.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Made {
    snapshot: SnapshotId,
    shard: ShardName,
    dir: PathBuf,
    /// It was there before.
    pub already: bool,
    /// Bytes of its database.
    bytes: u64,
    linked_bytes: u64,
    written_bytes: u64,
    batches: u64,
    seconds: f64,
}

impl Made {
    pub(crate) fn text(&self) -> String {
        let Self { snapshot, shard, dir, bytes, linked_bytes, written_bytes, .. } = self;
        let (dir, bytes) = (dir.display(), report::size(*bytes));
        if self.already {
            return format!("{shard} of {snapshot} is in {dir} already: {bytes}");
        }
        format!(
            "{shard} of {snapshot} is in {dir}: {bytes}; {} linked from older ones, {} written, {} batches of log; {:.1} s",
            report::size(*linked_bytes),
            report::size(*written_bytes),
            self.batches,
            self.seconds
        )
    }
}

impl Pass<'_> {
    /// Does it.
    ///
    /// # Errors
    /// Refused: there is no room, another run is at it, or a shard that was asked for is in no snapshot.
    /// Or the repository or the disk failed: what was whole before is there still.
    pub async fn run(&self) -> anyhow::Result<Done> {
        let header = self.snapshots.repository().header();
        if header.encrypted && !self.snapshots.repository().keys().can_read() {
            let why = "the repository is encrypted, and here are no keys that read it: where they are, run `godwit-snapshotter materialise --key-file FILE` by hand";
            return Err(Stop::new(Exit::Refused, why).into());
        }
        let _lock = self.place.lock()?;
        let chosen = self.chosen()?;
        let mut done = Done::default();
        let mut shards: BTreeMap<(String, ShardName), BTreeSet<SnapshotId>> = BTreeMap::new();
        for (snapshot, n, shard) in &chosen {
            let of = shards.entry((snapshot.service.clone(), shard.clone())).or_default();
            if of.is_empty() {
                self.place.clean(&snapshot.service, shard)?;
            }
            of.insert(snapshot.id.clone());
            let made = self.one(snapshot, *n, shard).await;
            done.made
                .push(made.with_context(|| format!("materialising {shard} of {}", snapshot.id))?);
        }
        if self.only.is_some() {
            return Ok(done);
        }
        for ((service, shard), ids) in &shards {
            for one in self.place.list_of(service, shard)? {
                if !ids.contains(&one.record.snapshot) {
                    Place::remove(&one)?;
                    done.removed.push(one.dir);
                }
            }
        }
        Ok(done)
    }

    /// Oldest first, so that the newer ones have the older ones to link from.
    fn chosen(&self) -> anyhow::Result<Vec<(Snapshot, usize, ShardName)>> {
        let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        let mut newest = Vec::new();
        for (snapshot, _) in self.snapshots.list().rev() {
            if self.service.is_some_and(|service| snapshot.service != service) {
                continue;
            }
            let count = counts.entry((&snapshot.service, &snapshot.cluster)).or_default();
            *count += 1;
            match self.only {
                None if *count > self.keep => {}
                Some(only) if snapshot.id != *only => {}
                _ => newest.push(snapshot),
            }
        }
        let mut chosen = Vec::new();
        for snapshot in newest.into_iter().rev() {
            for (n, sealed) in snapshot.shards.iter().enumerate() {
                let shard: ShardName = sealed.shard.parse().context("a sealed shard's name")?;
                if self.shards.is_empty() || self.shards.contains(&shard) {
                    chosen.push((snapshot.clone(), n, shard));
                }
            }
        }
        let found = |shard: &&ShardName| chosen.iter().any(|(_, _, found)| found == *shard);
        if let Some(missing) =
            self.shards.iter().find(|shard| !found(shard)).filter(|_| self.service.is_none())
        {
            bail!(
                "no snapshot that is to be materialised has a shard {missing}: `godwit-snapshotter show` says which there are"
            );
        }
        Ok(chosen)
    }

    async fn one(&self, snapshot: &Snapshot, n: usize, shard: &ShardName) -> anyhow::Result<Made> {
        let begun = Instant::now();
        let dir = self.place.dir_of(&snapshot.service, shard, &snapshot.id)?;
        let repository = self.snapshots.repository();
        let mut took = Took::default();
        let already = dir.exists();
        if !already {
            let content = Content::open(repository, self.snapshots, snapshot, n).await?;
            let older = self.place.list_of(&snapshot.service, shard)?;
            let build = Build {
                repository,
                snapshot,
                content: &content,
                shard,
                older: &older,
                free: self.free,
                progress: self.progress,
            };
            took = build.run(&dir).await?;
        }
        let record = Record::read(&dir)?;
        if record.repository != repository.header().id {
            bail!(
                "{} is of another repository: remove it, or give another directory",
                dir.display()
            );
        }
        Ok(Made {
            snapshot: snapshot.id.clone(),
            shard: shard.clone(),
            dir,
            already,
            bytes: record.bytes,
            linked_bytes: took.linked,
            written_bytes: took.written,
            batches: took.batches,
            seconds: begun.elapsed().as_secs_f64(),
        })
    }
}
