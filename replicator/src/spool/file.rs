//! A log file in the spool, and the list of those that a former run left.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::SpoolError;
use crate::identity::DatabaseId;

/// A hard link to a log file of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// RocksDB's number of it; they rise, with gaps.
    pub number: u64,
    /// Its inode: a number may come again after a database was replaced.
    pub inode: u64,
    /// Our name for it.
    pub path: PathBuf,
}

impl LogFile {
    pub(super) fn name(number: u64, inode: u64) -> String {
        format!("{number:012}-{inode}.log")
    }

    fn parse(path: &Path) -> Option<Self> {
        let stem = path.file_name()?.to_str()?.strip_suffix(".log")?;
        let (number, inode) = stem.split_once('-')?;
        Some(Self {
            number: number.parse().ok()?,
            inode: inode.parse().ok()?,
            path: path.to_owned(),
        })
    }

    /// Bytes that it takes on the disk.
    pub fn bytes(&self) -> u64 {
        fs::metadata(&self.path).map(|m| m.blocks() * 512).unwrap_or(0)
    }
}

type Files = BTreeMap<DatabaseId, BTreeMap<(u64, u64), LogFile>>;

/// What is in a spool.
pub(super) fn list(root: &Path) -> Result<Files, SpoolError> {
    let mut all = Files::new();
    for dir in fs::read_dir(root).map_err(SpoolError::io("list", root))? {
        let dir = dir.map_err(SpoolError::io("list", root))?.path();
        let Some(database) = dir.file_name().and_then(|n| n.to_str()).and_then(DatabaseId::parse)
        else {
            continue;
        };
        let mut files = BTreeMap::new();
        for file in fs::read_dir(&dir).map_err(SpoolError::io("list", &dir))? {
            let path = file.map_err(SpoolError::io("list", &dir))?.path();
            if let Some(file) = LogFile::parse(&path) {
                files.insert((file.number, file.inode), file);
            }
        }
        all.insert(database, files);
    }
    Ok(all)
}
