//! Shards of other slots than the source had.
//!
//! Each source shard that has some of the slots is restored beside, as it was; then each new shard's
//! records are copied out of those into table files, family by family, which become its database. Only
//! one database is written at a time, and no record is held in memory.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use keyspace::{Cf, Hlc, Slot, SlotRange, SlotSet, shard};
use ops::exit::{Exit, Stop};
use restore::{Copy, Done, PARTIAL, adopt, place};
use rocksdb::{
    Cache, DB, DBCompressionType, Env, IngestExternalFileOptions, Options, ReadOptions,
    SstFileWriter,
};

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
    let mut ready = Vec::new();
    let mut held = SlotSet::default();
    for n in 0..job.snapshot.shards.len() {
        let dir = to.join(SOURCES).join(n.to_string());
        let content = Content::open(job.repository(), job.snapshots, job.snapshot, n).await?;
        held = SlotSet::from_ranges(
            held.ranges().iter().chain(content.manifest.slots.ranges()).copied(),
        );
        let wanted = shapes.iter().any(|s| !s.intersection(&content.manifest.slots).is_empty());
        if wanted && !dir.join("db").exists() {
            ready.push(job.ready(n, &dir, false).await?);
        }
    }
    refuse_bad_shapes(shapes, &held)?;
    fs::create_dir_all(to).with_context(|| format!("making {}", to.display()))?;
    fs::write(&marker, asked).with_context(|| format!("writing {}", marker.display()))?;
    for ready in ready {
        ready.run(job).await?;
    }
    let (shapes, at) = (shapes.to_vec(), to.to_owned());
    let made = tokio::task::spawn_blocking(move || build_all(&at, &shapes));
    let made = made.await.context("the thread that copies died")??;
    place::remove(&to.join(SOURCES))?;
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

fn build_all(to: &Path, shapes: &[SlotSet]) -> anyhow::Result<Vec<Restored>> {
    let mut sources = Vec::new();
    let listed = fs::read_dir(to.join(SOURCES)).context("listing the sources")?;
    for entry in listed {
        let path = entry.context("listing the sources")?.path().join("db");
        let stamp = adopted(&path)?;
        sources.push((Copy::open(path)?, stamp));
    }
    let stamp = sources.iter().map(|(_, stamp)| *stamp).max().unwrap_or_default();
    let sources: Vec<_> = sources.into_iter().map(|(copy, _)| copy).collect();
    let mut made = Vec::new();
    for (n, slots) in shapes.iter().enumerate() {
        let dir = to.join(n.to_string());
        if !dir.join("db").exists() {
            // What a run that died has left of it.
            place::remove(&dir)?;
            build(&sources, slots, &dir, stamp)?;
        }
        made.push(describe(&dir, n, slots)?);
    }
    Ok(made)
}

/// No stamp in a restored directory is above this one.
fn adopted(db: &Path) -> anyhow::Result<Hlc> {
    let path = db.join(admin::Adopt::FILE);
    let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let adopt = admin::Adopt::parse(&bytes).map_err(anyhow::Error::msg);
    Ok(adopt.with_context(|| format!("reading {}", path.display()))?.stamp)
}

fn build(sources: &[Copy], slots: &SlotSet, dir: &Path, stamp: Hlc) -> anyhow::Result<()> {
    let Some(first) = sources.first() else { bail!("there is nothing to copy from") };
    let partial = dir.join(PARTIAL);
    let tables = dir.join("tables");
    fs::create_dir_all(&tables).with_context(|| format!("making {}", tables.display()))?;
    let what = || format!("making the database in {}", partial.display());
    let env = Env::new().with_context(what)?;
    let cache = Cache::new_lru_cache(CACHE_BYTES);
    let loaded = Options::load_latest(first.db().path(), env, true, cache);
    let (mut options, families) = loaded.with_context(what)?;
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    let db = DB::open_cf_descriptors(&options, &partial, families).with_context(what)?;
    let mut packed = Options::default();
    packed.set_compression_type(DBCompressionType::Lz4);
    for cf in [Cf::Meta, Cf::Data, Cf::Score] {
        let mut out = Tables::new(&packed, &tables, cf);
        for range in slots.ranges() {
            let bounds = (range.first.prefix(), (range.last.number() + 1).to_be_bytes());
            copy(sources, cf, &bounds.0, &bounds.1, &mut out)?;
        }
        if cf == Cf::Data {
            for (key, value) in of_shard(sources)? {
                out.put(&key, &value)?;
            }
        }
        let paths = out.finish()?;
        if !paths.is_empty() {
            let mut ingest = IngestExternalFileOptions::default();
            ingest.set_move_files(true);
            let family = db.cf_handle(cf.name()).with_context(what)?;
            db.ingest_external_file_cf_opts(family, &ingest, paths).with_context(what)?;
        }
    }
    db.cancel_all_background_work(true);
    drop(db);
    place::remove(&tables)?;
    adopt::write(&partial, stamp)?;
    fs::rename(&partial, dir.join("db")).with_context(what)?;
    place::sync(dir)
}

/// Records of a range, whose slots one source alone has.
fn copy(
    sources: &[Copy],
    cf: Cf,
    from: &[u8],
    to: &[u8],
    out: &mut Tables<'_>,
) -> anyhow::Result<()> {
    // In the order of their keys: a source's slots may lie between another's.
    let mut readers = Vec::new();
    for source in sources {
        let family = source.db().cf_handle(cf.name()).context("a source lacks a family")?;
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        options.set_iterate_upper_bound(to.to_vec());
        let mut records = source.db().raw_iterator_cf_opt(family, options);
        records.seek(from);
        readers.push(records);
    }
    loop {
        let next = readers.iter_mut().filter(|records| records.valid());
        let Some(next) = next.min_by(|a, b| a.key().cmp(&b.key())) else { break };
        if let Some((key, value)) = next.item() {
            out.put(key, value)?;
        }
        next.next();
    }
    readers.iter().try_for_each(|records| records.status()).context("reading a source")
}

/// Every shard has all records of no slot (libraries of functions, users); of two versions the later one
/// counts.
fn of_shard(sources: &[Copy]) -> anyhow::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let (from, to) = shard::bounds();
    let mut found = BTreeMap::<Vec<u8>, (Hlc, Vec<u8>)>::new();
    for source in sources {
        let family = source.db().cf_handle(Cf::Data.name()).context("a source lacks a family")?;
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(to.to_vec());
        let mut records = source.db().raw_iterator_cf_opt(family, options);
        records.seek(from);
        while let Some((key, value)) = records.item() {
            let stamp = shard::stamp(value).context("reading a record of no slot")?;
            let held = found.entry(key.to_vec()).or_default();
            if held.0 <= stamp {
                *held = (stamp, value.to_vec());
            }
            records.next();
        }
        records.status().context("reading a source")?;
    }
    Ok(found.into_iter().map(|(key, (_, value))| (key, value)).collect())
}

/// Table files of one family, in the order of their keys.
struct Tables<'a> {
    options: &'a Options,
    dir: &'a Path,
    cf: Cf,
    open: Option<(SstFileWriter<'a>, u64)>,
    made: Vec<PathBuf>,
}

impl<'a> Tables<'a> {
    fn new(options: &'a Options, dir: &'a Path, cf: Cf) -> Self {
        Self { options, dir, cf, open: None, made: Vec::new() }
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> anyhow::Result<()> {
        if self.open.is_none() {
            let name = format!("{}-{}.sst", self.cf.name(), self.made.len());
            let path = self.dir.join(name);
            let writer = SstFileWriter::create(self.options);
            writer.open(&path).with_context(|| format!("making {}", path.display()))?;
            self.made.push(path);
            self.open = Some((writer, 0));
        }
        let Some((writer, bytes)) = &mut self.open else { bail!("no table file is open") };
        writer.put(key, value).context("writing a table file")?;
        *bytes += (key.len() + value.len()) as u64;
        if *bytes >= TABLE_BYTES {
            self.end()?;
        }
        Ok(())
    }

    fn end(&mut self) -> anyhow::Result<()> {
        let Some((mut writer, _)) = self.open.take() else { return Ok(()) };
        writer.finish().context("writing a table file")
    }

    fn finish(mut self) -> anyhow::Result<Vec<PathBuf>> {
        self.end()?;
        Ok(self.made)
    }
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
