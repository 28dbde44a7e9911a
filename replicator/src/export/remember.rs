//! Hashes of the pieces of table files, which never change: each is computed once.
//!
//! They stand in `<spool>/hashes`, so that the next push, the one after a restart too, hashes what is
//! new alone. A file is known again by database, name, size, inode and the time it was written at: a
//! volume that was rolled back has other ones. Hashes are made with a repository's naming key, so those of
//! other repositories are kept beside each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use store::ObjectId;

use crate::identity::DatabaseId;

/// The file's name in the spool.
const NAME: &str = "hashes";
/// Its first line; the hash of all that follows is the second.
const MAGIC: &str = "godwit-hashes 1";
/// The most hashes that are kept: of 4 TiB of files.
const HASHES_MAX: usize = 1 << 19;
/// The longest file that is read.
const BYTES_MAX: u64 = 256 << 20;

/// Which file it is, so that it can be told from another one of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Print {
    size: u64,
    inode: u64,
    modified_ns: i128,
}

impl Print {
    pub(super) fn of(meta: &fs::Metadata) -> Self {
        let modified_ns = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
        Self { size: meta.len(), inode: meta.ino(), modified_ns }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Entry {
    naming: String,
    database: DatabaseId,
    name: String,
    print: Print,
    pieces: Vec<ObjectId>,
}

/// What is remembered for one naming key and one database.
#[derive(Debug)]
pub(super) struct Remembered {
    path: PathBuf,
    naming: String,
    database: DatabaseId,
    files: BTreeMap<String, (Print, Vec<[u8; 32]>)>,
    /// Of other keys and databases.
    others: Vec<Entry>,
    /// Hashes that were added since it was saved.
    unsaved: usize,
}

impl Remembered {
    /// Reads what is remembered; what does not read is forgotten. Blocks.
    pub(super) fn open(spool: &Path, naming: Option<&[u8; 32]>, database: &DatabaseId) -> Self {
        // A key is known by a hash of it, never by itself.
        let naming = naming.map_or_else(
            || "none".to_owned(),
            |key| blake3::keyed_hash(key, b"godwit hashes").to_hex()[..16].to_owned(),
        );
        let path = spool.join(NAME);
        let (mut files, mut others) = (BTreeMap::new(), Vec::new());
        for entry in read(&path) {
            if entry.naming == naming && entry.database == *database {
                let pieces = entry.pieces.into_iter().map(|id| id.0).collect();
                files.insert(entry.name, (entry.print, pieces));
            } else {
                others.push(entry);
            }
        }
        Self { path, naming, database: database.clone(), files, others, unsaved: 0 }
    }

    /// The hashes of that file's pieces.
    pub(super) fn get(&self, name: &str, print: Print) -> Option<&Vec<[u8; 32]>> {
        self.files.get(name).filter(|(held, _)| *held == print).map(|(_, pieces)| pieces)
    }

    /// Remembers them; says how many were not saved yet.
    pub(super) fn insert(&mut self, name: &str, print: Print, pieces: Vec<[u8; 32]>) -> usize {
        self.unsaved += pieces.len();
        self.files.insert(name.to_owned(), (print, pieces));
        self.unsaved
    }

    /// Forgets files that are not among these.
    pub(super) fn retain(&mut self, names: &BTreeSet<&str>) {
        self.files.retain(|name, _| names.contains(name.as_str()));
    }

    /// Writes it, if there is anything new. Blocks. A failure costs the next push some hashing.
    pub(super) fn save(&mut self) {
        if self.unsaved == 0 {
            return;
        }
        self.unsaved = 0;
        if let Err(why) = self.write() {
            tracing::warn!(
                "hashes of table files were not saved in {}: {why}; the next snapshot reads those files again",
                self.path.display()
            );
        }
    }

    fn write(&self) -> std::io::Result<()> {
        let own = self.files.iter().map(|(name, (print, pieces))| Entry {
            naming: self.naming.clone(),
            database: self.database.clone(),
            name: name.clone(),
            print: *print,
            pieces: pieces.iter().copied().map(ObjectId).collect(),
        });
        let mut left = HASHES_MAX;
        // Ours first: of the others what there is room for.
        let entries: Vec<Entry> = own
            .chain(self.others.iter().cloned())
            .take_while(|entry| {
                let fits = entry.pieces.len() <= left;
                left = left.saturating_sub(entry.pieces.len());
                fits
            })
            .collect();
        let json = serde_json::to_vec(&entries).map_err(std::io::Error::other)?;
        let new = self.path.with_extension("new");
        let mut file = fs::File::create(&new)?;
        writeln!(file, "{MAGIC}\n{}", blake3::hash(&json).to_hex())?;
        file.write_all(&json)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)
    }
}

fn read(path: &Path) -> Vec<Entry> {
    if fs::metadata(path).is_ok_and(|meta| meta.len() > BYTES_MAX) {
        return Vec::new();
    }
    let Ok(bytes) = fs::read(path) else { return Vec::new() };
    let entries = parse(&bytes);
    if entries.is_none() {
        tracing::warn!("{} does not read: table files are hashed again", path.display());
    }
    entries.unwrap_or_default()
}

fn parse(bytes: &[u8]) -> Option<Vec<Entry>> {
    let rest = bytes.strip_prefix(MAGIC.as_bytes())?.strip_prefix(b"\n")?;
    let (hash, rest) = rest.split_at_checked(64)?;
    let json = rest.strip_prefix(b"\n")?;
    let good = hash == blake3::hash(json).to_hex().as_bytes();
    if good { serde_json::from_slice(json).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_again_by_what_it_is_and_not_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("000012.sst");
        fs::write(&path, b"first").unwrap();
        let print = Print::of(&fs::metadata(&path).unwrap());
        let database = DatabaseId::parse(&"0123456789abcdef".repeat(2)).unwrap();
        let key = [7; 32];
        let mut held = Remembered::open(dir.path(), Some(&key), &database);
        held.insert("000012.sst", print, vec![[1; 32]]);
        held.save();
        let open = |key: Option<&[u8; 32]>| Remembered::open(dir.path(), key, &database);
        assert_eq!(open(Some(&key)).get("000012.sst", print), Some(&vec![[1; 32]]));
        // Another key, another size, another inode: another file.
        assert_eq!(open(None).get("000012.sst", print), None);
        let other = Print { size: 6, ..print };
        assert_eq!(open(Some(&key)).get("000012.sst", other), None);
        let other = Print { inode: print.inode + 1, ..print };
        assert_eq!(open(Some(&key)).get("000012.sst", other), None);

        // Those of one key do not drive out those of another.
        let mut plain = open(None);
        plain.insert("000012.sst", print, vec![[2; 32]]);
        plain.save();
        assert!(open(Some(&key)).get("000012.sst", print).is_some());
        assert!(open(None).get("000012.sst", print).is_some());

        let file = dir.path().join(NAME);
        let mut bytes = fs::read(&file).unwrap();
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            assert!(parse(&bytes).is_none(), "byte {at}");
            bytes[at] ^= 1;
        }
    }
}
