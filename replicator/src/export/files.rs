//! The files of a checkpoint.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use stream::export::{CHUNK_BYTES_MAX, ExportFile, FILES_MAX};

use super::ExportError;
use super::pace::Pace;

/// What is not data: RocksDB's own log of events and its lock, made anew by each open.
const NOT_DATA: [&str; 2] = ["LOG", "LOCK"];

/// The files of a checkpoint, by name, with their sizes.
#[derive(Debug)]
pub(super) struct Listing {
    dir: PathBuf,
    files: Vec<(String, u64)>,
}

impl Listing {
    /// Lists a checkpoint's directory. It has files only.
    pub(super) fn of(dir: &Path) -> Result<Self, ExportError> {
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
            files.push((name, meta.len()));
        }
        if files.len() > FILES_MAX {
            return Err(ExportError::Refused(format!(
                "the checkpoint has {} files, and a snapshot takes at most {FILES_MAX}: compact the node first (`godwit-node compact`)",
                files.len()
            )));
        }
        files.sort_unstable();
        Ok(Self { dir: dir.to_owned(), files })
    }

    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// The bytes of all files.
    pub(super) fn total(&self) -> u64 {
        self.files.iter().map(|(_, size)| size).sum()
    }

    /// The files with their hashes, for the manifest.
    pub(super) fn describe(&self, hashes: &[[u8; 32]]) -> Vec<ExportFile> {
        self.files
            .iter()
            .zip(hashes)
            .map(|((name, size), hash)| ExportFile { name: name.clone(), size: *size, hash: *hash })
            .collect()
    }

    /// Refuses indices that name no file or do not rise.
    pub(super) fn check_wanted(&self, wanted: &[u32]) -> Result<(), ExportError> {
        let rises = wanted.windows(2).all(|pair| pair[0] < pair[1]);
        let known = wanted.last().is_none_or(|last| (*last as usize) < self.files.len());
        if rises && known {
            return Ok(());
        }
        Err(ExportError::Refused("what was wanted are no files of the checkpoint".to_owned()))
    }

    /// Hashes every file; blocks. `done` counts the bytes; `stop` ends it early, with what it has.
    pub(super) fn hash(
        &self,
        rate: u64,
        done: &AtomicU64,
        stop: &AtomicBool,
    ) -> Result<Vec<[u8; 32]>, ExportError> {
        let mut pace = Pace::new(rate);
        let mut hashes = Vec::with_capacity(self.files.len());
        for index in 0..self.files.len() {
            let mut hasher = blake3::Hasher::new();
            self.read(index, &mut pace, &mut |piece| {
                hasher.update(piece);
                done.fetch_add(piece.len() as u64, Ordering::Relaxed);
                !stop.load(Ordering::Relaxed)
            })?;
            if stop.load(Ordering::Relaxed) {
                break;
            }
            hashes.push(*hasher.finalize().as_bytes());
        }
        Ok(hashes)
    }

    /// Reads a file in pieces of at most [`CHUNK_BYTES_MAX`]; blocks. Ends early when `take` says
    /// false.
    pub(super) fn read(
        &self,
        index: usize,
        pace: &mut Pace,
        take: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<(), ExportError> {
        let (name, size) = &self.files[index];
        let path = self.dir.join(name);
        let error = |why: String| ExportError::File { path: path.clone(), why };
        // No more than was listed: a checkpoint's live log file is a copy, but who knows.
        let mut file = File::open(&path).map_err(|why| error(why.to_string()))?.take(*size);
        let mut piece =
            vec![0; CHUNK_BYTES_MAX.min(usize::try_from(*size).unwrap_or(usize::MAX)).max(1)];
        let mut seen = 0;
        while seen < *size {
            let n = file.read(&mut piece).map_err(|why| error(why.to_string()))?;
            if n == 0 {
                return Err(error(format!("it ends after {seen} of {size} bytes")));
            }
            seen += n as u64;
            pace.took(n);
            if !take(&piece[..n]) {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in
            [("CURRENT", "MANIFEST-000005"), ("000012.sst", ""), ("LOG", "x"), ("LOG.old.1", "x")]
        {
            fs::write(dir.path().join(name), bytes).unwrap();
        }
        dir
    }

    #[test]
    fn data_is_listed_hashed_and_what_is_no_data_is_not() {
        let dir = checkpoint();
        let listing = Listing::of(dir.path()).unwrap();
        let hashes = listing.hash(u64::MAX, &AtomicU64::new(0), &AtomicBool::new(false)).unwrap();
        let files = listing.describe(&hashes);
        let names: Vec<_> = files.iter().map(|file| (file.name.as_str(), file.size)).collect();
        assert_eq!(names, [("000012.sst", 0), ("CURRENT", 15)]);
        assert_eq!(files[1].hash, *blake3::hash(b"MANIFEST-000005").as_bytes());
        assert!(listing.check_wanted(&[]).is_ok() && listing.check_wanted(&[0, 1]).is_ok());
        for wrong in [vec![2], vec![1, 1], vec![1, 0], vec![0, 7]] {
            assert!(listing.check_wanted(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_file_that_shrank_or_a_directory_is_an_error_in_words() {
        let dir = checkpoint();
        let listing = Listing::of(dir.path()).unwrap();
        fs::write(dir.path().join("CURRENT"), "MANI").unwrap();
        let error =
            listing.hash(u64::MAX, &AtomicU64::new(0), &AtomicBool::new(false)).unwrap_err();
        assert!(error.to_string().contains("ends after 4 of 15 bytes"), "{error}");
        fs::create_dir(dir.path().join("sub")).unwrap();
        assert!(Listing::of(dir.path()).unwrap_err().to_string().contains("no file"));
    }
}
