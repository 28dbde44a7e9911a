//! The ends of the last snapshots: from there on the log is kept, so that the next one can be the log.
//!
//! They stand in `<spool>/snapshots.json`, one for each repository that snapshots go to, and each is a
//! follower of the spool with a budget of its own. Past it the log is let go of, and the next snapshot is
//! made of files.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wal::Position;

use crate::identity::DatabaseId;
use crate::spool::{Pin, Spool};

/// The file's name in the spool.
const NAME: &str = "snapshots.json";
/// Repositories that are remembered; of more the one that was used longest ago is forgotten.
const REPOSITORIES_MAX: usize = 4;
/// The longest file that is read.
const BYTES_MAX: u64 = 64 << 10;
/// What these followers are called in the spool; no shard's name has a space or begins so.
const PIN: &str = "snapshot ";
/// The one of an export that is under way.
const EXPORTING: &str = "snapshot-export";

/// What is kept for the next snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keeping {
    /// Bytes of log files.
    pub bytes: u64,
    /// How old they may become.
    pub age: Duration,
}

/// Whether a follower of the spool is of exports.
pub fn is_ours(follower: &str) -> bool {
    follower == EXPORTING || follower.starts_with(PIN)
}

/// The end of a repository's last snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Last {
    repository: String,
    database: DatabaseId,
    position: Position,
    /// The number of the log file that the next batch is in, or after.
    file: u64,
}

/// The ends of the last snapshots; clones share them.
#[derive(Clone, Debug)]
pub(super) struct Lasts(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    spool: Spool,
    keeping: Keeping,
    path: PathBuf,
    /// The one that was used last comes last.
    all: Mutex<Vec<Last>>,
}

impl Lasts {
    /// Reads them, and has the spool keep the logs that follow on them.
    pub(super) fn open(spool: &Spool, keeping: Keeping) -> Self {
        let path = spool.root().join(NAME);
        let all = read(&path);
        let lasts =
            Self(Arc::new(Shared { spool: spool.clone(), keeping, path, all: Mutex::new(all) }));
        for last in lasts.locked().iter() {
            lasts.pin(&last.repository).advance(&last.database, last.file);
        }
        lasts
    }

    /// Keeps the whole log while an export runs.
    pub(super) fn exporting(&self) -> Exporting {
        let pin = self.0.spool.pin_within(EXPORTING, self.0.keeping.bytes);
        pin.hold();
        Exporting(pin)
    }

    /// A snapshot that ends there is sealed. Blocks.
    pub(super) fn sealed(
        &self,
        repository: &str,
        database: &DatabaseId,
        position: Position,
        file: u64,
    ) -> std::io::Result<()> {
        let mut all = self.locked();
        all.retain(|last| last.repository != repository);
        let (repository, database) = (repository.to_owned(), database.clone());
        all.push(Last { repository, database, position, file });
        let over = all.len().saturating_sub(REPOSITORIES_MAX);
        for last in all.drain(..over) {
            self.pin(&last.repository).release();
        }
        let last = all.last().expect("one was just added");
        self.pin(&last.repository).advance(&last.database, last.file);
        let json = serde_json::to_vec(&*all).map_err(std::io::Error::other)?;
        let new = self.0.path.with_extension("new");
        std::fs::write(&new, json)?;
        std::fs::File::open(&new)?.sync_all()?;
        std::fs::rename(&new, &self.0.path)
    }

    fn pin(&self, repository: &str) -> Pin {
        let Keeping { bytes, age } = self.0.keeping;
        self.0.spool.pin_for(&format!("{PIN}{repository}"), bytes, age)
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Vec<Last>> {
        self.0.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the log as long as it lives.
#[derive(Debug)]
pub(super) struct Exporting(Pin);

impl Exporting {
    /// Nothing before this file is needed.
    pub(super) fn begins_at(&self, database: &DatabaseId, file: u64) {
        self.0.advance(database, file);
    }

    /// Why it was not kept, if it was not.
    pub(super) fn lost(&self) -> Option<String> {
        self.0.lost()
    }
}

impl Drop for Exporting {
    fn drop(&mut self) {
        self.0.release();
    }
}

fn read(path: &Path) -> Vec<Last> {
    let short = std::fs::metadata(path).is_ok_and(|meta| meta.len() <= BYTES_MAX);
    let Some(bytes) = short.then(|| std::fs::read(path).ok()).flatten() else {
        return Vec::new();
    };
    let all = serde_json::from_slice(&bytes);
    all.unwrap_or_else(|why| {
        tracing::warn!(
            "{} does not read ({why}): the next snapshot is made of files",
            path.display()
        );
        Vec::new()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_after_a_snapshot_is_kept_over_a_restart_for_a_few_repositories() {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("db");
        std::fs::create_dir_all(&db).unwrap();
        let id = "0123456789abcdef".repeat(2);
        std::fs::write(db.join("GODWIT"), format!("{{\"database\":\"{id}\"}}")).unwrap();
        let spool = Spool::open(dir.path()).unwrap();
        let keeping = Keeping { bytes: 1 << 20, age: Duration::from_secs(60) };
        let database = DatabaseId::parse(&id).unwrap();
        let lasts = Lasts::open(&spool, keeping);
        let position: Position = "0000000000000000000000000000beef@42".parse().unwrap();
        for n in 0..6_u64 {
            lasts.sealed(&format!("repository-{n}"), &database, position, n).unwrap();
        }
        assert!(spool.pin("snapshot repository-1").lost().is_some());
        assert!(spool.pin("snapshot repository-5").lost().is_none());
        let again = Lasts::open(&Spool::open(dir.path()).unwrap(), keeping);
        let held: Vec<_> = again.locked().iter().map(|last| last.file).collect();
        assert_eq!(held, [2, 3, 4, 5]);
        assert!(is_ours("snapshot repository-5") && is_ours(EXPORTING) && !is_ours("b/0"));
    }
}
