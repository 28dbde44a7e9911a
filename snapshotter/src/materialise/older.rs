//! What older materialised snapshots of a shard give to the next one.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Context;
use restore::{files, place};
use store::repository::{FileEntry, Manifest, Step};
use store::{FileName, ObjectId};

use super::place::Materialised;
use super::record::{Look, Table, base_of, pieces_of};

/// What of a database no other one needs: what RocksDB says of its work, its lock, and where it keeps log files
/// that it needs no more.
const NOT_CLONED: [&str; 3] = ["LOG", "LOCK", ARCHIVE];
/// Where RocksDB keeps those.
pub(super) const ARCHIVE: &str = "archive";

/// Where files come from.
pub(super) enum Begin<'a> {
    /// An older one has the same files with a part of the log.
    Grown(&'a Materialised),
    /// Its files, those that older ones have by link.
    Files(Tables),
}

/// Table files that were compared when they were written, by their pieces.
pub(super) struct Tables(HashMap<ObjectId, (PathBuf, Look)>);

impl Tables {
    /// Where a table file is that is as it was then.
    pub(super) fn get(&self, file: &FileEntry) -> Option<&Path> {
        let (path, look) = self.0.get(&pieces_of(file)).filter(|_| is_table(file))?;
        (look.size == file.size && Look::of(path) == Some(*look)).then_some(path)
    }
}

impl<'a> Begin<'a> {
    /// The one that is furthest on the way there; or the table files of all of them.
    pub(super) fn choose(
        older: &'a [Materialised],
        manifest: &Manifest,
        repository: &str,
        steps: &[Step],
    ) -> Self {
        let base = base_of(manifest);
        let mut known = HashMap::new();
        let mut grown = None;
        for one in older {
            let record = &one.record;
            let place = steps.iter().position(|step| step.end() == record.end).map(|n| n + 1);
            let place = place.or((record.end == manifest.position).then_some(0));
            if record.base == base && record.repository == repository {
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
            Some((_, one)) => Self::Grown(one),
            None => Self::Files(Tables(known)),
        }
    }

    /// The table files in `db` that are as the snapshot says, by what was compared.
    pub(super) fn compared(&self, manifest: &Manifest, db: &Path) -> Vec<Table> {
        let there = |name: &FileName, pieces| {
            let look = Look::of(&db.join(name.as_str()))?;
            Some(Table { name: name.clone(), pieces, look })
        };
        match self {
            Self::Grown(older) => {
                let tables = older.record.tables.iter();
                let same = tables.filter_map(|table| there(&table.name, table.pieces));
                let before: HashMap<_, _> =
                    older.record.tables.iter().map(|table| (&table.name, table.look)).collect();
                same.filter(|table| before.get(&table.name) == Some(&table.look)).collect()
            }
            Self::Files(_) => {
                let tables = manifest.files.iter().filter(|file| is_table(file));
                let same =
                    tables.filter_map(|file| there(&file.name, pieces_of(file)).map(|t| (t, file)));
                same.filter(|(table, file)| table.look.size == file.size).map(|(t, _)| t).collect()
            }
        }
    }
}

fn is_table(file: &FileEntry) -> bool {
    file.name.as_str().ends_with(files::TABLE)
}

/// A database that goes on from another one that is closed: table files are the same, the few others are
/// copied, since they are written to. The bytes of the first.
pub(super) fn clone(from: &Path, to: &Path) -> anyhow::Result<u64> {
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
