//! Shards of other slots than the source had.
//!
//! ```text
//! reshape            what was asked for, until it is done
//! sources/N          a shard as it was, while its records are copied
//! sources/N.copied   they are
//! K/db.partial       a new shard, with what has been copied so far
//! ```
//!
//! One shard of the snapshot after the other is restored beside, copied into table files that the new
//! shards take in, and removed: that takes room for the data once, and for the largest shard. No record is
//! held in memory. What was interrupted goes on with the shard that it was at.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use keyspace::{Cf, Hlc, Slot, SlotRange, SlotSet, shard};
use ops::exit::{Exit, Stop};
use restore::{Copy, Done, PARTIAL, adopt, place};
use rocksdb::{Cache, DB, Env, IngestExternalFileOptions, Options};
use tables::{Copier, Cut, Form, Sink, table};

use super::{Job, Restored};
use crate::content::Content;

/// Where the sources are while their records are copied.
const SOURCES: &str = "sources";
/// A table file is ended at so many bytes of records.
const TABLE_BYTES: u64 = 64 << 20;
const CACHE_BYTES: usize = 16 << 20;

/// So many shards of slots that follow on each other.
pub(super) fn even(count: u16) -> Vec<SlotSet> {
    let at = |n: u32| (n * u32::from(keyspace::SLOTS) / u32::from(count)) as u16;
    let slot = |number: u16| Slot::new(number).expect("below the number of slots");
    let ranges =
        (0..u32::from(count)).map(|n| SlotRange { first: slot(at(n)), last: slot(at(n + 1) - 1) });
    ranges.map(|range| SlotSet::from_ranges([range])).collect()
}

/// Makes `to/0`, `to/1` and so on.
pub(super) async fn run(
    job: &Job<'_>,
    shapes: &[SlotSet],
    to: &Path,
) -> anyhow::Result<Vec<Restored>> {
    let said = shapes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let (marker, asked) = (to.join("reshape"), format!("{} {said}\n", job.snapshot.id));
    match fs::read_to_string(&marker) {
        Ok(held) if held == asked => {}
        Ok(held) => {
            let refusal = format!(
                "{} holds an unfinished restore of {}: ask for the same to finish it, or give another directory",
                to.display(),
                held.trim()
            );
            return Err(Stop::new(Exit::Refused, refusal).into());
        }
        Err(_) => place::refuse_unless_empty(to)?,
    }
    let sources = to.join(SOURCES);
    let mut held = SlotSet::default();
    let (mut todo, mut stamp) = (Vec::new(), Hlc::default());
    for n in 0..job.snapshot.shards.len() {
        let content = Content::open(job.repository(), job.snapshots, job.snapshot, n).await?;
        let slots = &content.manifest.slots;
        held = SlotSet::from_ranges(held.ranges().iter().chain(slots.ranges()).copied());
        if shapes.iter().all(|shape| shape.intersection(slots).is_empty()) {
            continue;
        }
        stamp = stamp.max(content.stamp());
        let source = Source { dir: sources.join(n.to_string()), slots: slots.clone() };
        if !source.copied().exists() {
            let is_there = source.dir.join("db").exists();
            let ready = match is_there {
                true => None,
                false => Some(job.ready(n, &source.dir, false).await?),
            };
            todo.push((source, ready));
        }
    }
    refuse_bad_shapes(shapes, &held)?;
    fs::create_dir_all(&sources).with_context(|| format!("making {}", sources.display()))?;
    fs::write(&marker, asked).with_context(|| format!("writing {}", marker.display()))?;
    for (source, ready) in todo {
        if let Some(ready) = ready {
            ready.run(job).await?;
        }
        let (at, shapes) = (to.to_owned(), shapes.to_vec());
        let copying = tokio::task::spawn_blocking(move || source.hand_out(&shapes, &at));
        copying.await.context("the thread that copies died")??;
    }
    let made = shapes.iter().enumerate().map(|(n, slots)| {
        let dir = to.join(n.to_string());
        finish(&dir, stamp)?;
        describe(&dir, n, slots)
    });
    let made = made.collect::<anyhow::Result<Vec<_>>>()?;
    place::remove(&sources)?;
    fs::remove_file(&marker).with_context(|| format!("removing {}", marker.display()))?;
    place::sync(to)?;
    Ok(made)
}

fn refuse_bad_shapes(shapes: &[SlotSet], held: &SlotSet) -> anyhow::Result<()> {
    let mut seen = SlotSet::default();
    for shape in shapes {
        let why = if shape.is_empty() {
            Some("a shard of no slots".to_owned())
        } else if !seen.intersection(shape).is_empty() {
            Some(format!("slots {} twice", seen.intersection(shape)))
        } else if shape.intersection(held) != *shape {
            Some(format!("slots {shape}, of which the snapshot holds {}", shape.intersection(held)))
        } else {
            None
        };
        if let Some(why) = why {
            let refusal = format!("it cannot be restored as {why}; nothing was written");
            return Err(Stop::new(Exit::Refused, refusal).into());
        }
        seen = SlotSet::from_ranges(seen.ranges().iter().chain(shape.ranges()).copied());
    }
    Ok(())
}

/// A shard of the snapshot.
struct Source {
    /// Where it is restored.
    dir: PathBuf,
    slots: SlotSet,
}

impl Source {
    /// Is there once all of it has been copied.
    fn copied(&self) -> PathBuf {
        self.dir.with_extension("copied")
    }

    /// Gives each new shard what is its own, and removes the source. Taking in twice what a run that died
    /// has copied already changes nothing.
    fn hand_out(&self, shapes: &[SlotSet], to: &Path) -> anyhow::Result<()> {
        let source = Copy::open(self.dir.join("db"))?;
        for (n, shape) in shapes.iter().enumerate() {
            let slots = shape.intersection(&self.slots);
            if !slots.is_empty() {
                let dir = to.join(n.to_string());
                let what = || format!("making the database in {}", dir.display());
                take_in(source.db(), &slots, &dir).with_context(what)?;
            }
        }
        drop(source);
        let copied = self.copied();
        fs::write(&copied, "").with_context(|| format!("writing {}", copied.display()))?;
        place::sync(copied.parent().unwrap_or(to))?;
        place::remove(&self.dir)
    }
}

/// Whether a database was made there to the end: RocksDB writes its options last, before anything is put into
/// it. One that was killed earlier has a `CURRENT` already, and nothing in it.
fn was_made(dir: &Path) -> anyhow::Result<bool> {
    let what = || format!("listing {}", dir.display());
    let mut entries = match fs::read_dir(dir) {
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        listed => listed.with_context(what)?,
    };
    let is_options = |name: &std::ffi::OsStr| {
        let name = name.to_string_lossy();
        name.starts_with("OPTIONS-") && !name.ends_with(".dbtmp")
    };
    entries.try_fold(false, |made, entry| {
        Ok(made || is_options(&entry.with_context(what)?.file_name()))
    })
}

/// Copies these slots, and what is of no slot, into the database that is being made in `dir`.
fn take_in(source: &DB, slots: &SlotSet, dir: &Path) -> anyhow::Result<()> {
    let (partial, files) = (dir.join(PARTIAL), dir.join("tables"));
    // What a run that died has left of them.
    place::remove(&files)?;
    fs::create_dir_all(&files).with_context(|| format!("making {}", files.display()))?;
    let begun = was_made(&partial)?;
    if !begun {
        place::remove(&partial)?;
    }
    let (env, cache) = (Env::new()?, Cache::new_lru_cache(CACHE_BYTES));
    let like = if begun { partial.as_path() } else { source.path() };
    let (mut options, families) = Options::load_latest(like, env, true, cache)?;
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    let db = DB::open_cf_descriptors(&options, &partial, families)?;
    let mut done = |piece: tables::Piece| {
        let mut ingest = IngestExternalFileOptions::default();
        ingest.set_move_files(true);
        let family = db.cf_handle(piece.family.name()).context("a family is missing")?;
        Ok(db.ingest_external_file_cf_opts(family, &ingest, vec![piece.path])?)
    };
    let (options, snapshot) = (table(), source.snapshot());
    let mut cut = Cut::new(&options, &files, slots, TABLE_BYTES, &mut done);
    let (form, goes_on) = (Form::AsItIs, || true);
    let copier = Copier { db: source, snapshot: &snapshot, slots, form, goes_on: &goes_on };
    copier.run(&mut cut)?;
    copier.of_shard(&mut Newer { db: &db, cut: &mut cut })?;
    cut.finish()?;
    db.cancel_all_background_work(true);
    drop(db);
    place::remove(&files)
}

/// Takes records of no slot (libraries of functions, users), which every source has: of two the later one
/// counts.
struct Newer<'a, 'b> {
    db: &'a DB,
    cut: &'a mut Cut<'b>,
}

impl Sink for Newer<'_, '_> {
    fn put(&mut self, cf: Cf, key: &[u8], value: &[u8]) -> anyhow::Result<()> {
        let stamp = |value: &[u8]| shard::stamp(value).context("reading a record of no slot");
        let family = self.db.cf_handle(cf.name()).context("a family is missing")?;
        if let Some(held) = self.db.get_pinned_cf(family, key)?
            && stamp(&held)? >= stamp(value)?
        {
            return Ok(());
        }
        self.cut.put(cf, key, value)
    }
}

/// Makes a node's database of what was copied.
fn finish(dir: &Path, stamp: Hlc) -> anyhow::Result<()> {
    let (partial, db) = (dir.join(PARTIAL), dir.join("db"));
    if db.exists() {
        return Ok(());
    }
    adopt::write(&partial, stamp)?;
    let what = || format!("naming {}", db.display());
    fs::rename(&partial, &db).with_context(what)?;
    place::sync(dir)
}

fn describe(dir: &Path, n: usize, slots: &SlotSet) -> anyhow::Result<Restored> {
    let db = dir.join("db");
    let (mut files, mut bytes) = (0, 0);
    for entry in fs::read_dir(&db).with_context(|| format!("listing {}", db.display()))? {
        let meta = entry.and_then(|entry| entry.metadata());
        bytes += meta.with_context(|| format!("listing {}", db.display()))?.len();
        files += 1;
    }
    Ok(Restored {
        shard: n.to_string(),
        dir: dir.to_owned(),
        slots: slots.clone(),
        position: None,
        files,
        bytes,
        segments: 0,
        done: Done::default(),
    })
}
