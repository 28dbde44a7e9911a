//! One shard of a snapshot becomes a database on this disk, with as little as possible written anew.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use admin::{Applied, Follow};
use anyhow::Context;
use keyspace::{Cf, system};
use ops::exit::{Exit, Stop};
use ops::progress::Progress;
use restore::{Copy, files, place, replay};
use rocksdb::{Direction, IteratorMode};
use store::ObjectId;
use store::repository::{FileEntry, Manifest, Repository, Snapshot, Step};
use topology::{Epoch, ShardName};
use wal::Chain;

use super::place::{Materialised, Place};
use super::record::{Look, Record, Table, base_of, pieces_of};
use crate::content::Content;

/// Bytes of log, packed as they are, take so many times their length as table files, while compactions
/// have both what they read and what they write.
const LOG_ROOM: u64 = 8;
/// What of a database no other one needs: what RocksDB says of its work, its lock, and where it keeps log files
/// that it needs no more.
const NOT_CLONED: [&str; 3] = ["LOG", "LOCK", ARCHIVE];
const ARCHIVE: &str = "archive";

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

/// Where files come from.
enum Begin<'a> {
    /// An older one has the same files with a part of the log.
    Grown(&'a Materialised),
    /// Its files, those that older ones have by link.
    Files(HashMap<ObjectId, (PathBuf, Look)>),
}

impl Build<'_> {
    /// Makes it in `dir`, which is there when it is whole.
    pub(super) async fn run(&self, dir: &Path) -> anyhow::Result<Took> {
        let manifest = &self.content.manifest;
        let steps = self.content.steps();
        let begin = self.begin(&steps);
        self.refuse_without_room(dir, &begin, &steps)?;
        let partial = Place::partial(dir);
        place::remove(&partial)?;
        let db = partial.join("db");
        fs::create_dir_all(&db).with_context(|| format!("making {}", db.display()))?;
        let mut took = Took::default();
        match &begin {
            Begin::Grown(older) => took.linked = clone(&older.db(), &db)?,
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

    fn begin(&self, steps: &[Step]) -> Begin<'_> {
        let manifest = &self.content.manifest;
        let (base, repository) = (base_of(manifest), &self.repository.header().id);
        let mut known = HashMap::new();
        let mut grown = None;
        for one in self.older {
            let record = &one.record;
            let place = steps.iter().position(|step| step.end() == record.end).map(|n| n + 1);
            let place = place.or((record.end == manifest.position).then_some(0));
            if record.base == base && record.repository == *repository {
                grown = place
                    .map(|place| (place, one))
                    .filter(|(place, _)| grown.as_ref().is_none_or(|(best, _)| place > best))
                    .or(grown);
            }
            for table in &record.tables {
                let path = one.db().join(table.name.as_str());
                known.insert(table.pieces, (path, table.look));
            }
        }
        match grown {
            Some((_, one)) => Begin::Grown(one),
            None => Begin::Files(known),
        }
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
                let lacking = manifest.files.iter().filter(|file| linkable(known, file).is_none());
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
    async fn bring(
        &self,
        known: &HashMap<ObjectId, (PathBuf, Look)>,
        db: &Path,
        took: &mut Took,
    ) -> anyhow::Result<()> {
        let files = &self.content.manifest.files;
        self.progress.expect(files.iter().map(|file| file.size).sum());
        for file in files {
            let to = db.join(file.name.as_str());
            if let Some(from) = linkable(known, file)
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
        let follow = tokio::task::spawn_blocking(move || follow_of(&end, shard, path));
        let follow = follow.await.context("the thread that opens it died")??;
        let there = |name: &store::FileName, pieces| {
            let look = Look::of(&db.join(name.as_str()))?;
            Some(Table { name: name.clone(), pieces, look })
        };
        let tables = match begin {
            Begin::Grown(older) => {
                let tables = older.record.tables.iter();
                let same = tables.filter_map(|table| there(&table.name, table.pieces));
                let before: HashMap<_, _> =
                    older.record.tables.iter().map(|table| (&table.name, table.look)).collect();
                same.filter(|table| before.get(&table.name) == Some(&table.look)).collect()
            }
            Begin::Files(_) => {
                let tables = manifest.files.iter().filter(|file| is_table(file));
                let same =
                    tables.filter_map(|file| there(&file.name, pieces_of(file)).map(|t| (t, file)));
                same.filter(|(table, file)| table.look.size == file.size).map(|(t, _)| t).collect()
            }
        };
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

fn is_table(file: &FileEntry) -> bool {
    file.name.as_str().ends_with(files::TABLE)
}

/// Where a table file is that is as it was when its hashes were compared.
fn linkable<'a>(
    known: &'a HashMap<ObjectId, (PathBuf, Look)>,
    file: &FileEntry,
) -> Option<&'a Path> {
    let (path, look) = known.get(&pieces_of(file)).filter(|_| is_table(file))?;
    (look.size == file.size && Look::of(path) == Some(*look)).then_some(path)
}

/// A database that goes on from another one that is closed: table files are the same, the few others are
/// copied, since they are written to. The bytes of the first.
fn clone(from: &Path, to: &Path) -> anyhow::Result<u64> {
    let mut linked = 0;
    let listing = || format!("listing {}", from.display());
    for entry in fs::read_dir(from).with_context(listing)? {
        let name = entry.with_context(listing)?.file_name();
        let name = name.to_str().context("a file's name is no text")?;
        let (from, to) = (from.join(name), to.join(name));
        if NOT_CLONED.contains(&name) || name.starts_with("LOG.old.") {
            continue;
        }
        if name.ends_with(files::TABLE) {
            fs::hard_link(&from, &to).with_context(|| format!("linking {}", from.display()))?;
            linked += fs::metadata(&to).with_context(listing)?.len();
        } else {
            let copied = fs::copy(&from, &to).and_then(|_| File::open(&to)?.sync_all());
            copied.with_context(|| format!("copying {}", from.display()))?;
        }
    }
    place::sync(to)?;
    Ok(linked)
}

/// What a standby follows that has this: the log of the shard itself if it was a primary then, and that of
/// its source if it was a standby.
fn follow_of(
    manifest: &Manifest,
    shard: ShardName,
    path: PathBuf,
) -> anyhow::Result<Option<Follow>> {
    let copy = Copy::open(path)?;
    let db = copy.db();
    let family = db.cf_handle(Cf::System.name()).context("it has no family `system`")?;
    let standing = db.get_cf(family, system::STANDING)?;
    let role = standing.and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
    let primary = role.is_some_and(|standing| standing["role"] == "primary");
    let follow = if primary || manifest.cut.is_some() {
        let position = manifest.end();
        let last = manifest.log.last();
        Some(Follow {
            source: shard,
            position,
            log_chain: last.map_or(Chain::START, |segment| segment.log_chain),
            stream_chain: Chain::START,
            epoch: Epoch(manifest.epoch),
            until: position.sequence,
        })
    } else {
        let prefix = system::applied("");
        let mut sources = Vec::new();
        for found in db.iterator_cf(family, IteratorMode::From(&prefix, Direction::Forward)) {
            let (key, value) = found?;
            let Some(source) = system::applied_source(&key) else { break };
            let Applied { position, log_chain, stream_chain, epoch, .. } =
                serde_json::from_slice(&value).context("reading how far it was with its source")?;
            let (source, until) = (source.parse::<ShardName>()?, position.sequence);
            sources.push(Follow { source, position, log_chain, stream_chain, epoch, until });
        }
        // Of several logs, each has a part of its slots.
        if sources.len() == 1 { sources.pop() } else { None }
    };
    copy.close()?;
    Ok(follow)
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
