//! One shard of a snapshot becomes a database on this disk, with as little as possible written anew.

use std::fs;
use std::path::Path;

use anyhow::Context;
use ops::exit::{Exit, Stop};
use ops::progress::Progress;
use restore::{files, place, replay};
use store::repository::{Repository, Snapshot, Step};
use topology::ShardName;

use super::follow;
use super::older::{self, ARCHIVE, Begin, Tables};
use super::place::{Materialised, Place};
use super::record::{Record, base_of};
use crate::content::Content;

/// Bytes of log, packed as they are, take so many times their length as table files, while compactions
/// have both what they read and what they write.
const LOG_ROOM: u64 = 8;
/// What a shard is made of.
pub(super) struct Build<'a> {
    pub(super) repository: &'a Repository,
    pub(super) snapshot: &'a Snapshot,
    pub(super) content: &'a Content,
    pub(super) shard: &'a ShardName,
    /// Those of the same shard that are there, oldest first.
    pub(super) older: &'a [Materialised],
    /// Bytes that stay free on the volume.
    pub(super) free: u64,
    pub(super) progress: &'a Progress,
}

/// What that took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Took {
    /// Bytes of files that older ones have too.
    pub(super) linked: u64,
    /// Bytes of files that were written from pieces.
    pub(super) written: u64,
    /// Batches of the log that were applied.
    pub(super) batches: u64,
}

impl Build<'_> {
    /// Makes it in `dir`, which is there when it is whole.
    pub(super) async fn run(&self, dir: &Path) -> anyhow::Result<Took> {
        let manifest = &self.content.manifest;
        let steps = self.content.steps();
        let begin =
            Begin::choose(self.older, manifest, self.repository.header().id.as_str(), &steps);
        self.refuse_without_room(dir, &begin, &steps)?;
        let partial = Place::partial(dir);
        place::remove(&partial)?;
        let db = partial.join("db");
        fs::create_dir_all(&db).with_context(|| format!("making {}", db.display()))?;
        let mut took = Took::default();
        match &begin {
            Begin::Grown(older) => took.linked = older::clone(&older.db(), &db)?,
            Begin::Files(known) => self.bring(known, &db, &mut took).await?,
        }
        die_if_asked("materialise-before-log");
        if !steps.is_empty() {
            self.progress.expect(steps.iter().map(|step| step.segment.bytes).sum());
            let (log, position) = (&self.content.log, manifest.position);
            took.batches = replay::segments(log, position, &steps, &db, self.progress).await?;
        }
        let record = self.describe(&begin, &db).await?;
        place::remove(&db.join(ARCHIVE))?;
        place::sync(&db)?;
        record.write(&partial)?;
        place::sync(&partial)?;
        die_if_asked("materialise-before-rename");
        fs::rename(&partial, dir).with_context(|| format!("renaming {}", partial.display()))?;
        let home = dir.parent().context("it stands in a directory")?;
        place::sync(home)?;
        Ok(took)
    }

    /// Refused before anything is written: a disk that is full helps nobody, least of all a node on it.
    fn refuse_without_room(
        &self,
        dir: &Path,
        begin: &Begin<'_>,
        steps: &[Step],
    ) -> anyhow::Result<()> {
        let manifest = &self.content.manifest;
        let (files, applied) = match begin {
            Begin::Grown(older) => (0, Some(older.record.end)),
            Begin::Files(known) => {
                let lacking = manifest.files.iter().filter(|file| known.get(file).is_none());
                (lacking.map(|file| file.size).sum(), None)
            }
        };
        let done = steps.iter().position(|step| Some(step.end()) == applied).map_or(0, |n| n + 1);
        let log: u64 = steps[done..].iter().map(|step| step.segment.bytes).sum();
        let needed = files.saturating_add(log.saturating_mul(LOG_ROOM));
        let home = dir.parent().context("it stands in a directory")?;
        fs::create_dir_all(home).with_context(|| format!("making {}", home.display()))?;
        let free = ops::disk::free(home);
        if free < needed.saturating_add(self.free) {
            let why = format!(
                "{} of {} would take {needed} bytes, {free} are free in {}, and {} must stay so (--free): make room, or materialise fewer; nothing was written",
                self.shard,
                self.snapshot.id,
                home.display(),
                self.free
            );
            return Err(Stop::new(Exit::Refused, why).into());
        }
        Ok(())
    }

    /// Links the files that older ones have, and fetches the others, each piece compared with its hash.
    async fn bring(&self, known: &Tables, db: &Path, took: &mut Took) -> anyhow::Result<()> {
        let files = &self.content.manifest.files;
        self.progress.expect(files.iter().map(|file| file.size).sum());
        for file in files {
            let to = db.join(file.name.as_str());
            if let Some(from) = known.get(file)
                && fs::hard_link(from, &to).is_ok()
            {
                took.linked += file.size;
                self.progress.moved(file.size, 0);
                continue;
            }
            let fetched = files::fetch(self.repository, file, &to, self.progress).await;
            fetched.with_context(|| format!("writing {}", to.display()))?;
            took.written += file.size;
        }
        place::sync(db)
    }

    async fn describe(&self, begin: &Begin<'_>, db: &Path) -> anyhow::Result<Record> {
        let (manifest, snapshot) = (&self.content.manifest, self.snapshot);
        let (path, shard) = (db.to_owned(), self.shard.clone());
        let end = manifest.clone();
        // A database that does not open is not whole, whatever its hashes are.
        let follow = tokio::task::spawn_blocking(move || follow::of(&end, shard, path));
        let follow = follow.await.context("the thread that opens it died")??;
        let tables = begin.compared(manifest, db);
        Ok(Record {
            format: Record::FORMAT,
            repository: self.repository.header().id.clone(),
            snapshot: snapshot.id.clone(),
            service: manifest.service.clone(),
            shard: self.shard.clone(),
            slots: manifest.slots.clone(),
            source_database: manifest.database.clone(),
            end: manifest.end(),
            stamp: self.content.stamp(),
            sealed_at: snapshot.sealed_at,
            follow,
            base: base_of(manifest),
            bytes: bytes_of(db)?,
            tables,
        })
    }
}

fn bytes_of(dir: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir).with_context(|| format!("listing {}", dir.display()))? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}

fn die_if_asked(point: &str) {
    if ops::failpoint::hit(point) {
        std::process::abort();
    }
}
