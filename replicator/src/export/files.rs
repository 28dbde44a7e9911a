//! The files of a checkpoint, or the table files of a database.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use stream::export::{ExportFile, FILES_MAX, HASHES_MAX, PIECE_BYTES};

use super::ExportError;
use super::pack;
use super::remember::{Print, Remembered};

/// What is no data: RocksDB's own log of events and its lock, and the node's own words about its
/// directory.
const NOT_DATA: [&str; 4] = ["LOG", "LOCK", crate::identity::FILE, admin::Adopt::FILE];
/// Files of which a sample is read to guess how well they pack, and its bytes of each.
const SAMPLED: usize = 8;
const SAMPLE_BYTES: usize = 256 << 10;

/// Files by name.
#[derive(Debug)]
pub(super) struct Listing {
    dir: PathBuf,
    pub(super) files: Vec<Listed>,
}

/// One of them.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) print: Print,
    /// Remembered hashes of its pieces.
    pub(super) hashes: Option<Vec<[u8; 32]>>,
}

impl Listed {
    /// Only table files never change.
    pub(super) fn is_table(&self) -> bool {
        self.name.ends_with(".sst")
    }
}

impl Listing {
    /// Lists a checkpoint's directory. It has files only.
    pub(super) fn of(dir: &Path, remembered: &Remembered) -> Result<Self, ExportError> {
        let error = |path: &Path, why: String| ExportError::File { path: path.to_owned(), why };
        let entries = fs::read_dir(dir).map_err(|why| error(dir, why.to_string()))?;
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|why| error(dir, why.to_string()))?;
            let path = entry.path();
            let meta = fs::metadata(&path).map_err(|why| error(&path, why.to_string()))?;
            let name = entry
                .file_name()
                .into_string()
                .map_err(|_| error(&path, "its name is no UTF-8".to_owned()))?;
            if NOT_DATA.contains(&name.as_str()) || name.starts_with("LOG.old.") {
                continue;
            }
            if !meta.is_file() {
                return Err(error(&path, "it is no file, and a checkpoint has files only".into()));
            }
            files.push((name, meta));
        }
        Self::from(dir, files, remembered)
    }

    /// The table files that a database has at this moment; those that go meanwhile are left out.
    pub(super) fn of_tables(db: &Path, remembered: &Remembered) -> Result<Self, ExportError> {
        let error =
            |why: std::io::Error| ExportError::File { path: db.to_owned(), why: why.to_string() };
        let mut files = Vec::new();
        for entry in fs::read_dir(db).map_err(error)?.flatten() {
            let (name, meta) = (entry.file_name().into_string(), entry.metadata());
            if let (Ok(name), Ok(meta)) = (name, meta)
                && name.ends_with(".sst")
            {
                files.push((name, meta));
            }
        }
        Self::from(db, files, remembered)
    }

    fn from(
        dir: &Path,
        mut files: Vec<(String, fs::Metadata)>,
        remembered: &Remembered,
    ) -> Result<Self, ExportError> {
        if files.len() > FILES_MAX {
            return Err(ExportError::Refused(format!(
                "the checkpoint has {} files, and a snapshot takes at most {FILES_MAX}: compact the node first (`godwit-node compact`)",
                files.len()
            )));
        }
        files.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let mut room = HASHES_MAX;
        let files = files.into_iter().map(|(name, meta)| {
            let print = Print::of(&meta);
            let hashes = remembered.get(&name, print).filter(|hashes| hashes.len() <= room);
            room -= hashes.map_or(0, Vec::len);
            let hashes = hashes.cloned();
            Listed { name, size: meta.len(), print, hashes }
        });
        Ok(Self { dir: dir.to_owned(), files: files.collect() })
    }

    /// The files, as the snapshotter is told of them.
    pub(super) fn describe(&self) -> Vec<ExportFile> {
        let describe = |file: &Listed| ExportFile {
            name: file.name.clone(),
            size: file.size,
            hashes: file.hashes.clone(),
        };
        self.files.iter().map(describe).collect()
    }

    /// Their names.
    pub(super) fn names(&self) -> BTreeSet<&str> {
        self.files.iter().map(|file| file.name.as_str()).collect()
    }

    /// What those without hashes take when they are packed, of a thousand, as a sample says. Blocks.
    pub(super) fn permille(&self) -> u32 {
        let mut unknown: Vec<_> = self.files.iter().filter(|file| file.hashes.is_none()).collect();
        unknown.sort_by_key(|file| std::cmp::Reverse(file.size));
        let samples: Vec<usize> =
            unknown.iter().take(SAMPLED).filter_map(|file| self.sample(file)).collect();
        let mean = samples.iter().sum::<usize>().checked_div(samples.len());
        mean.map_or(1000, |mean| u32::try_from(mean.min(1000)).unwrap_or(1000))
    }

    fn sample(&self, file: &Listed) -> Option<usize> {
        let len = SAMPLE_BYTES.min(usize::try_from(file.size).ok()?);
        let mut bytes = vec![0; len];
        let middle = (file.size - len as u64) / 2;
        let opened = File::open(self.dir.join(&file.name)).ok()?;
        opened.read_exact_at(&mut bytes, middle).ok()?;
        Some(match pack::permille(&bytes) {
            0 => 1000,
            permille => permille,
        })
    }

    /// Opens a file to be read piece by piece.
    pub(super) fn open(&self, file: &Listed) -> Result<Pieces, ExportError> {
        let path = self.dir.join(&file.name);
        match File::open(&path) {
            Ok(opened) => Ok(Pieces { file: opened, path, left: file.size }),
            Err(why) => Err(ExportError::File { path, why: why.to_string() }),
        }
    }
}

/// A file that is read piece by piece.
#[derive(Debug)]
pub(super) struct Pieces {
    file: File,
    path: PathBuf,
    left: u64,
}

impl Pieces {
    /// The next piece; `None` at the end. Blocks.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>, ExportError> {
        let len = self.next_len();
        if len == 0 {
            return Ok(None);
        }
        let mut bytes = vec![0; len];
        // No more than was listed: a checkpoint's live log file is a copy, but who knows.
        self.file.read_exact(&mut bytes).map_err(|why| self.error(&why))?;
        self.left -= len as u64;
        Ok(Some(bytes))
    }

    /// Passes the next piece over.
    pub(super) fn skip(&mut self) -> Result<(), ExportError> {
        let len = self.next_len();
        let moved = i64::try_from(len).unwrap_or(0);
        std::io::Seek::seek_relative(&mut self.file, moved).map_err(|why| self.error(&why))?;
        self.left -= len as u64;
        Ok(())
    }

    fn next_len(&self) -> usize {
        usize::try_from(self.left).unwrap_or(usize::MAX).min(PIECE_BYTES)
    }

    fn error(&self, why: &std::io::Error) -> ExportError {
        let why = format!("{why}, {} bytes before its end", self.left);
        ExportError::File { path: self.path.clone(), why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::DatabaseId;

    fn checkpoint() -> (tempfile::TempDir, Remembered) {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in [
            ("CURRENT", "MANIFEST-000005"),
            ("000012.sst", "table"),
            ("LOG", "x"),
            ("GODWIT", "{}"),
        ] {
            fs::write(dir.path().join(name), bytes).unwrap();
        }
        let database = DatabaseId::parse(&"0123456789abcdef".repeat(2)).unwrap();
        let remembered = Remembered::open(dir.path(), None, &database);
        (dir, remembered)
    }

    #[test]
    fn data_is_listed_with_what_is_remembered_and_what_is_no_data_is_not() {
        let (dir, mut remembered) = checkpoint();
        let listing = Listing::of(dir.path(), &remembered).unwrap();
        let files = listing.describe();
        let names: Vec<_> = files.iter().map(|file| (file.name.as_str(), file.size)).collect();
        assert_eq!(names, [("000012.sst", 5), ("CURRENT", 15)]);
        assert!(files.iter().all(|file| file.hashes.is_none()));
        remembered.insert("000012.sst", listing.files[0].print, vec![[3; 32]]);
        let again = Listing::of(dir.path(), &remembered).unwrap().describe();
        assert_eq!(again[0].hashes, Some(vec![[3; 32]]));
        let tables = Listing::of_tables(dir.path(), &remembered).unwrap().describe();
        assert_eq!(tables, again[..1]);
    }

    #[test]
    fn files_are_read_by_pieces_and_one_that_shrank_is_an_error_in_words() {
        let (dir, remembered) = checkpoint();
        let long: Vec<u8> = (0..PIECE_BYTES + 3).map(|n| n as u8).collect();
        fs::write(dir.path().join("000012.sst"), &long).unwrap();
        let listing = Listing::of(dir.path(), &remembered).unwrap();
        let mut pieces = listing.open(&listing.files[0]).unwrap();
        pieces.skip().unwrap();
        assert_eq!(pieces.next().unwrap().unwrap(), &long[PIECE_BYTES..]);
        assert_eq!(pieces.next().unwrap(), None);
        fs::write(dir.path().join("CURRENT"), "MANI").unwrap();
        let error = listing.open(&listing.files[1]).unwrap().next().unwrap_err();
        assert!(error.to_string().contains("15 bytes before its end"), "{error}");
        fs::create_dir(dir.path().join("sub")).unwrap();
        let refused = Listing::of(dir.path(), &remembered).unwrap_err();
        assert!(refused.to_string().contains("no file"));
    }
}
