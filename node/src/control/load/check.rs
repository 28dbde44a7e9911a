//! What is in the files of a load: RocksDB takes them into a scratch database and says.

use std::fs;
use std::path::{Component, Path};

use ::store::load::{Family, Load, LoadFile};
use admin::{IntentFile, Slice};
use keyspace::{Slot, SlotRange, SlotSet};
use rocksdb::{DB, IngestExternalFileOptions, LiveFile, Options, ReadOptions, SstFileWriter};

use super::bring::{remove, said};
use crate::store::StoreOptions;

/// The scratch database, in the load's directory.
const SCRATCH: &str = "check";
/// Where files are that were written anew.
const OWN: &str = "own";
/// A file that is written anew is cut at so many bytes.
const OWN_BYTES: u64 = 256 << 20;

/// What is to be taken in.
pub(super) struct Checked {
    pub(super) files: Vec<IntentFile>,
    pub(super) records: u64,
}

/// Opens the files in `dir` and compares what is in them with the manifest; those that have records
/// of other slots than `own` too are written anew, with `own` only.
pub(super) fn check(
    options: &StoreOptions,
    load: &Load,
    wanted: &[LoadFile],
    dir: &Path,
    own: &SlotSet,
) -> Result<Checked, String> {
    let (scratch, rewritten) = (dir.join(SCRATCH), dir.join(OWN));
    remove(&scratch);
    remove(&rewritten);
    let db = open(&scratch)?;
    let mut checked = Checked { files: Vec::new(), records: 0 };
    let known = keyspace::meta::ENCODING;
    if load.encoding != u32::from(known) {
        return Err(format!("its records have encoding {}, and {known} is known", load.encoding));
    }
    for family in Family::ALL {
        let files: Vec<_> = wanted.iter().filter(|file| file.family == family).collect();
        if files.is_empty() {
            continue;
        }
        let names: Vec<_> = files.iter().map(|file| file.name.as_str()).collect();
        bring_in(&db, &scratch, dir, family, &names)?;
        compare(&db, family, &files)?;
        for file in files {
            if file.is_within(own) {
                checked.records += file.records;
                checked
                    .files
                    .push(IntentFile { family: family.cf().id(), path: file.name.to_string() });
                continue;
            }
            fs::create_dir_all(&rewritten).map_err(|why| said("creating", &rewritten, &why))?;
            let table = options.table(family.cf());
            let parts = file.slots.intersection(own);
            for part in parts.ranges() {
                rewrite(&db, &table, file, *part, dir, &mut checked)?;
            }
        }
    }
    drop(db);
    remove(&scratch);
    Ok(checked)
}

/// Opens the files of a seed in `dir` and sees that they hold nothing but records of its slots, and
/// libraries; how many records that are.
pub(in crate::control) fn check_slice(dir: &Path, slice: &Slice) -> Result<u64, String> {
    let scratch = dir.join(SCRATCH);
    remove(&scratch);
    let plain = |path: &str| {
        let mut parts = Path::new(path).components();
        matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
    };
    let strange = slice.files.iter().find(|file| {
        !plain(&file.path) || !Family::ALL.iter().any(|family| family.cf().id() == file.family)
    });
    if let Some(file) = strange {
        return Err(format!("`{}` of family {} is no file of a seed", file.path, file.family));
    }
    let db = open(&scratch)?;
    for family in Family::ALL {
        let files = slice.files.iter().filter(|file| file.family == family.cf().id());
        let names: Vec<_> = files.map(|file| &*file.path).collect();
        if !names.is_empty() {
            bring_in(&db, &scratch, dir, family, &names)?;
        }
    }
    let live = db.live_files().map_err(|why| format!("RocksDB does not list the files: {why}"))?;
    if live.len() != slice.files.len() {
        return Err(format!("RocksDB found {} files of {}", live.len(), slice.files.len()));
    }
    let mut records = 0;
    for file in &live {
        let is_of_run = |key: &Option<Vec<u8>>, range: &SlotRange| {
            let slot = key.as_deref().and_then(Slot::of_encoded);
            slot.is_some_and(|slot| range.first <= slot && slot <= range.last)
        };
        let keys = [&file.start_key, &file.end_key];
        let of_slots = |range| keys.iter().all(|key| is_of_run(key, range));
        let of_shard = || {
            let is_of_shard = |key: &[u8]| keyspace::shard::is_of_shard(key);
            file.column_family_name == Family::Data.name()
                && keys.iter().all(|key| key.as_deref().is_some_and(is_of_shard))
        };
        let within = slice.slots.ranges().iter().any(of_slots) || of_shard();
        if !within || file.num_deletions != 0 {
            return Err(format!(
                "{} of the seed holds records of other slots than {}, or deletions",
                file.name, slice.slots
            ));
        }
        records += file.num_entries;
    }
    drop(db);
    remove(&scratch);
    Ok(records)
}

fn open(path: &Path) -> Result<DB, String> {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_disable_auto_compactions(true);
    options.set_max_open_files(256);
    let names = Family::ALL.map(Family::name);
    DB::open_cf(&options, path, names)
        .map_err(|why| said("opening the files beside the database in", path, &why))
}

fn bring_in(
    db: &DB,
    scratch: &Path,
    dir: &Path,
    family: Family,
    files: &[&str],
) -> Result<(), String> {
    let mut links = Vec::new();
    for file in files {
        let (from, to) = (dir.join(file), scratch.join(format!("in-{file}")));
        fs::hard_link(&from, &to).map_err(|why| said("linking", &from, &why))?;
        links.push(to);
    }
    let mut options = IngestExternalFileOptions::default();
    options.set_move_files(true);
    let cf = db.cf_handle(family.name()).ok_or("the scratch database lacks a family")?;
    db.ingest_external_file_cf_opts(cf, &options, links)
        .map_err(|why| format!("RocksDB does not take its {} files: {why}", family.name()))
}

/// What RocksDB found against what the manifest says.
fn compare(db: &DB, family: Family, files: &[&LoadFile]) -> Result<(), String> {
    let live = db.live_files().map_err(|why| format!("RocksDB does not list the files: {why}"))?;
    let mut live: Vec<_> =
        live.into_iter().filter(|f| f.column_family_name == family.name()).collect();
    live.sort_by(|a, b| a.start_key.cmp(&b.start_key));
    if live.len() != files.len() {
        return Err(format!(
            "RocksDB found {} {} files of {}",
            live.len(),
            family.name(),
            files.len()
        ));
    }
    for (found, file) in live.iter().zip(files) {
        let slot = |key: &Option<Vec<u8>>| key.as_deref().and_then(Slot::of_encoded);
        let range = file.range();
        let agrees = |found: &LiveFile| {
            slot(&found.start_key) == Some(range.first)
                && slot(&found.end_key) == Some(range.last)
                && found.num_entries == file.records
                && found.num_deletions == 0
        };
        if !agrees(found) {
            return Err(format!(
                "{} holds {} records of slots {:?} to {:?}, and the manifest says {} of {}",
                file.name,
                found.num_entries,
                slot(&found.start_key),
                slot(&found.end_key),
                file.records,
                file.slots
            ));
        }
    }
    let overlap = live.windows(2).find(|pair| pair[0].end_key >= pair[1].start_key);
    match overlap {
        Some(_) => Err(format!("its {} files overlap", family.name())),
        None => Ok(()),
    }
}

/// Writes the records of a file that are of these slots anew.
fn rewrite(
    db: &DB,
    table: &Options,
    file: &LoadFile,
    part: SlotRange,
    dir: &Path,
    into: &mut Checked,
) -> Result<(), String> {
    let failed = |why: rocksdb::Error| format!("writing slots {part} of {} anew: {why}", file.name);
    let cf = db.cf_handle(file.family.name()).ok_or("the scratch database lacks a family")?;
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(part.first.prefix());
    options.set_iterate_upper_bound((part.last.number() + 1).to_be_bytes());
    options.fill_cache(false);
    let mut records = db.raw_iterator_cf_opt(cf, options);
    records.seek_to_first();
    // The files before and after may begin and end in the same slots.
    let live = db.live_files().map_err(failed)?;
    let stem = file.name.as_str();
    let range = file.range();
    let bounds = live.iter().find(|found| {
        found.column_family_name == file.family.name()
            && found.num_entries == file.records
            && found.start_key.as_deref().and_then(Slot::of_encoded) == Some(range.first)
            && found.end_key.as_deref().and_then(Slot::of_encoded) == Some(range.last)
    });
    let bounds = bounds.and_then(|found| found.start_key.clone().zip(found.end_key.clone()));
    let (first, last) = bounds.ok_or_else(|| format!("{stem} is not to be found again"))?;
    let mut number = 0;
    let mut writer: Option<SstFileWriter<'_>> = None;
    let mut written = 0;
    while let Some((key, value)) = records.item() {
        if key < first.as_slice() {
            records.seek(&first);
            continue;
        }
        if key > last.as_slice() {
            break;
        }
        if writer.is_none() {
            number += 1;
            let path = format!("{OWN}/{}-{}-{number}.sst", stem, part.first);
            let begun = SstFileWriter::create(table);
            begun.open(dir.join(&path)).map_err(failed)?;
            into.files.push(IntentFile { family: file.family.cf().id(), path });
            (writer, written) = (Some(begun), 0);
        }
        let open = writer.as_mut().expect("one was begun");
        open.put(key, value).map_err(failed)?;
        into.records += 1;
        written += (key.len() + value.len()) as u64;
        records.next();
        if written >= OWN_BYTES
            && let Some(mut full) = writer.take()
        {
            full.finish().map_err(failed)?;
        }
    }
    records.status().map_err(failed)?;
    match writer {
        Some(mut last) => last.finish().map_err(failed),
        None => Ok(()),
    }
}
