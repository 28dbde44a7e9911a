//! What drills have left that died: `godwit-switchover drill` has a standby make the checkpoint
//! `drill-ID` and makes of it `drill-ID-node`, the directory of a node of its own, both of hard links.

use std::fs::{File, TryLockError};
use std::path::Path;

/// What their names begin with.
const DRILL: &str = "drill-";

/// Whether a checkpoint is for a drill.
pub(crate) fn is_drill(name: &str) -> bool {
    name.starts_with(DRILL)
}

/// Removes what no drill uses any more. One drill of a service runs at a time, so whoever begins one may
/// take all others for dead whose node has let go of its lock.
pub(crate) fn clear_dead_drills(checkpoints: &Path) {
    // No directory: nothing was ever left.
    let Ok(entries) = std::fs::read_dir(checkpoints) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let path = entry.path();
        if !is_dir || !name.to_str().is_some_and(is_drill) || is_locked(&path) {
            continue;
        }
        match std::fs::remove_dir_all(&path) {
            Ok(()) => tracing::info!(path = %path.display(), "removed what a dead drill had left"),
            Err(why) => tracing::warn!(
                path = %path.display(),
                "a dead drill has left this, and it cannot be removed: {why}; remove it"
            ),
        }
    }
}

/// Whether a node has this directory.
fn is_locked(dir: &Path) -> bool {
    let lock = File::open(dir.join("LOCK"));
    lock.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_drill_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let lock = |name: &str| {
            let inner = dir.path().join(name);
            std::fs::create_dir_all(inner.join("db")).unwrap();
            File::create(inner.join("LOCK")).unwrap()
        };
        let live = lock("drill-2-node");
        live.try_lock().unwrap();
        drop(lock("drill-1-node"));
        for name in ["drill-1", "snapshot-1"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        std::fs::write(dir.path().join("drill-file"), "kept").unwrap();
        let left = || {
            let names = std::fs::read_dir(dir.path()).unwrap();
            let mut names: Vec<_> =
                names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        clear_dead_drills(dir.path());
        assert_eq!(left(), ["drill-2-node", "drill-file", "snapshot-1"]);
        drop(live);
        clear_dead_drills(dir.path());
        assert_eq!(left(), ["drill-file", "snapshot-1"]);
        clear_dead_drills(&dir.path().join("nothing"));
    }
}
