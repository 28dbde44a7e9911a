//! Which database of the node a stage goes on from. What is staged is of no use to another one: a node
//! whose database is swapped by an operator has what is staged for the one before sent again.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use topology::ShardName;

/// An id has 32 digits; what is longer is none.
const BYTES_MAX: u64 = 64;

/// The id of that database, also over a restart of the sidecar.
#[derive(Debug)]
pub(super) struct Beside {
    path: PathBuf,
    /// Not known before the first connection.
    id: Mutex<Option<String>>,
}

impl Beside {
    /// Reads it.
    pub(super) fn open(spool: &Path, source: &ShardName) -> Self {
        let path =
            spool.join("stage").join(format!("{}-{}.database", source.cluster, source.shard));
        let short = fs::metadata(&path).is_ok_and(|meta| meta.len() <= BYTES_MAX);
        let id = short.then(|| fs::read_to_string(&path).ok()).flatten();
        Self { path, id: Mutex::new(id) }
    }

    /// Whether it is this one; also if that is not known.
    pub(super) fn is(&self, id: &str) -> bool {
        let held = self.id.lock().unwrap_or_else(PoisonError::into_inner);
        held.as_ref().is_none_or(|held| held == id)
    }

    /// It is this one from here on.
    pub(super) fn note(&self, id: &str) {
        let mut held = self.id.lock().unwrap_or_else(PoisonError::into_inner);
        if held.as_deref() == Some(id) {
            return;
        }
        let new = self.path.with_extension("new");
        let written = fs::write(&new, id).and_then(|()| fs::rename(&new, &self.path));
        if let Err(why) = written {
            tracing::warn!(
                "cannot write {}: {why}; if the node's database is swapped while this sidecar is down, what is staged must be removed by hand",
                self.path.display()
            );
        }
        *held = Some(id.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_known_again_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("stage")).unwrap();
        let source: ShardName = "a/0".parse().unwrap();
        let open = || Beside::open(dir.path(), &source);
        let before = open();
        assert!(before.is("one") && before.is("two"), "nothing is known yet");
        before.note("one");
        assert!(before.is("one") && !before.is("two"));
        assert!(open().is("one") && !open().is("two"));
        fs::write(dir.path().join("stage/a-0.database"), "x".repeat(100)).unwrap();
        assert!(open().is("two"), "what is damaged says nothing");
    }
}
