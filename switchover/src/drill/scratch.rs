//! The directory of a drill's own: its registry, its journal, what its proxy says.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::Context;

use ::drill::process::private_dir;

const NAME: &str = "godwit-drill-";
const LOCK: &str = "LOCK";

/// A directory that is gone with the drill, or with the next one if the tool is killed.
pub(super) struct Scratch {
    pub(super) dir: PathBuf,
    /// Held while the drill lives; nobody but the file system needs to know.
    _lock: File,
}

impl Scratch {
    /// Makes one under `parent`, and removes those of drills that died.
    pub(super) fn make(parent: &Path, id: &str) -> anyhow::Result<Self> {
        clear_dead(parent);
        let dir = parent.join(format!("{NAME}{}", &id[..12]));
        let made = || -> std::io::Result<File> {
            private_dir(&dir)?;
            let lock = File::create(dir.join(LOCK))?;
            lock.lock()?;
            Ok(lock)
        };
        let lock =
            made().with_context(|| format!("cannot make the directory {}", dir.display()))?;
        Ok(Self { dir, _lock: lock })
    }
}

/// Those of other users stay: their locks cannot be opened.
fn clear_dead(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if !is_dir || !entry.file_name().to_str().is_some_and(|name| name.starts_with(NAME)) {
            continue;
        }
        let Ok(lock) = File::open(entry.path().join(LOCK)) else { continue };
        if !matches!(lock.try_lock(), Err(TryLockError::WouldBlock)) {
            // A few small files; the next drill tries again.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_tool_left_is_gone_with_the_next_drill() {
        let parent = tempfile::tempdir().unwrap();
        let dead = Scratch::make(parent.path(), "0123456789abcdef").unwrap();
        let (dir, live) = (dead.dir.clone(), dead);
        let other = Scratch::make(parent.path(), "fedcba9876543210").unwrap();
        assert!(dir.is_dir() && other.dir.is_dir(), "a drill that lives keeps its own");
        drop(live);
        let third = Scratch::make(parent.path(), "aaaaaaaaaaaaaaaa").unwrap();
        assert!(!dir.exists() && other.dir.is_dir() && third.dir.is_dir());
    }
}
