//! The files of a database that lies elsewhere, into the node's directory.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use ::store::FileName;

use crate::store::{Identity, fail_here};

/// The most files of a database.
const FILES_MAX: usize = 1 << 20;
/// Nothing ever writes to a table file, so two databases may have one together.
const TABLE: &str = ".sst";
/// What RocksDB says about its work, its lock, and log files that it needs no more: of no use elsewhere.
const NOT_TAKEN: [&str; 3] = ["LOG", "LOCK", "archive"];

/// Links table files into `to`, or copies them with `copy`; the few others are written, so they are always
/// copied. All is synced; how many files that were. In words, why it cannot be done.
pub(super) fn bring(from: &Path, to: &Path, copy: bool) -> Result<usize, String> {
    let files = list(from)?;
    fs::create_dir_all(to).map_err(|why| said("creating", to, &why))?;
    if copy {
        let needed: u64 = files.iter().map(|file| file.bytes).sum();
        let free = ops::disk::free(to);
        if free < needed {
            return Err(format!(
                "the files in {} are {needed} bytes, and {free} are free in {}",
                from.display(),
                to.display()
            ));
        }
    }
    for (n, file) in files.iter().enumerate() {
        if n == files.len() / 2 {
            fail_here("activate-half-linked");
        }
        let (from, to) = (from.join(&file.name), to.join(&file.name));
        if copy || !file.name.ends_with(TABLE) {
            fs::copy(&from, &to).map_err(|why| said("copying", &from, &why))?;
            let synced = File::open(&to).and_then(|file| file.sync_all());
            synced.map_err(|why| said("syncing", &to, &why))?;
        } else {
            fs::hard_link(&from, &to).map_err(|why| unlinked(&from, &to, &why))?;
        }
    }
    let synced = File::open(to).and_then(|dir| dir.sync_all());
    synced.map_err(|why| said("syncing", to, &why))?;
    Ok(files.len())
}

struct Found {
    name: String,
    bytes: u64,
}

/// Only plain files with plain names: nothing in there is followed to anywhere else.
fn list(from: &Path) -> Result<Vec<Found>, String> {
    let is_dir = fs::symlink_metadata(from).is_ok_and(|meta| meta.is_dir());
    if !is_dir || !from.join("CURRENT").is_file() {
        return Err(format!("{} is no RocksDB database that this node can read", from.display()));
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(from).map_err(|why| said("listing", from, &why))? {
        let entry = entry.map_err(|why| said("listing", from, &why))?;
        let path: PathBuf = entry.path();
        let meta = entry.metadata().map_err(|why| said("reading", &path, &why))?;
        let name = entry.file_name().into_string().unwrap_or_default();
        if NOT_TAKEN.contains(&&*name) || name.starts_with("LOG.old.") {
            continue;
        }
        let foreign = [Identity::FILE, admin::Adopt::FILE].contains(&&*name);
        if !meta.is_file() || foreign || name.parse::<FileName>().is_err() {
            return Err(format!(
                "{} is no file of a database that can be activated",
                path.display()
            ));
        }
        if files.len() == FILES_MAX {
            return Err(format!("{} has more than {FILES_MAX} files", from.display()));
        }
        files.push(Found { name, bytes: meta.len() });
    }
    Ok(files)
}

fn unlinked(from: &Path, to: &Path, why: &io::Error) -> String {
    if why.kind() == io::ErrorKind::CrossesDevices {
        return format!(
            "{} is on another file system than this node's directory, so it cannot be linked: copy it (--copy), which takes the time and the room of all its data, or have snapshots materialised on the file system of {}",
            from.display(),
            to.display()
        );
    }
    said("linking", from, why)
}

fn said(what: &str, path: &Path, why: &dyn std::fmt::Display) -> String {
    format!("{what} {}: {why}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(dir: &Path) {
        fs::create_dir_all(dir).unwrap();
        for (name, bytes) in
            [("CURRENT", "MANIFEST-000001\n"), ("000007.sst", "table"), ("LOG", "x")]
        {
            fs::write(dir.join(name), bytes).unwrap();
        }
    }

    #[test]
    fn tables_are_linked_and_the_rest_is_copied() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        database(&from);
        fs::create_dir(from.join("archive")).unwrap();
        assert_eq!(bring(&from, &to, false), Ok(2));
        let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
        assert_eq!(inode(from.join("000007.sst")), inode(to.join("000007.sst")));
        assert_ne!(inode(from.join("CURRENT")), inode(to.join("CURRENT")));
        assert!(!to.join("LOG").exists());
        let copied = dir.path().join("copied");
        assert_eq!(bring(&from, &copied, true), Ok(2));
        assert_ne!(inode(from.join("000007.sst")), inode(copied.join("000007.sst")));
    }

    #[test]
    fn what_is_no_database_or_leads_elsewhere_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("to");
        let check = |change: &dyn Fn(&Path), words: &str| {
            let from = dir.path().join("from");
            let _ = fs::remove_dir_all(&from);
            database(&from);
            change(&from);
            let why = bring(&from, &to, false).unwrap_err();
            assert!(why.contains(words), "{why}");
        };
        check(&|from| fs::remove_file(from.join("CURRENT")).unwrap(), "no RocksDB database");
        check(&|from| fs::create_dir(from.join("deeper")).unwrap(), "deeper");
        check(&|from| fs::write(from.join("ADOPT"), "{}").unwrap(), "ADOPT");
        let link = |from: &Path| {
            std::os::unix::fs::symlink("/etc/passwd", from.join("000008.sst")).unwrap();
        };
        check(&link, "000008.sst");
    }
}
