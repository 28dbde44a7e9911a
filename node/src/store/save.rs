//! SAVE: all that was written is on disk, and in table files, so that an open has no log to read
//! again. There is no other file: the database is the save.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use keyspace::Cf;
use rocksdb::FlushOptions;

use super::{CommitError, Store};

/// When all was last saved, and whether it is being saved now.
#[derive(Debug)]
pub(super) struct Saves {
    runs: AtomicBool,
    /// Unix seconds.
    last_s: AtomicU64,
    /// What the caller counted as changes until then.
    changes: AtomicU64,
    failed: AtomicBool,
}

impl Saves {
    /// An open is one: all that there is has been read from disk.
    pub(super) fn at_open() -> Self {
        Self {
            runs: AtomicBool::new(false),
            last_s: AtomicU64::new(ops::clock::unix_ms() / 1000),
            changes: AtomicU64::new(0),
            failed: AtomicBool::new(false),
        }
    }
}

/// What became of the last save.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saved {
    /// When the last one succeeded, or the database was opened, in Unix seconds.
    pub at_s: u64,
    /// The changes that its caller had counted when it began.
    pub changes: u64,
    /// One runs now.
    pub runs: bool,
    /// The last one failed.
    pub failed: bool,
}

/// Why nothing was saved.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// Another one runs.
    #[error("Background save already in progress")]
    Runs,
    /// The log could not be synced.
    #[error("cannot save: {0}")]
    Log(#[from] CommitError),
    /// RocksDB could not write table files.
    #[error(
        "cannot save: RocksDB could not write table files: {0}; what was written is still in the log: look for room on the disk, and save again"
    )]
    Flush(#[from] rocksdb::Error),
}

/// A save that has begun; when it is dropped, another one may begin.
pub struct Saving<S: Deref<Target = Store>> {
    store: S,
    changes: u64,
}

impl Store {
    /// What became of the last save.
    pub fn saved(&self) -> Saved {
        Saved {
            at_s: self.saves.last_s.load(Ordering::Acquire),
            changes: self.saves.changes.load(Ordering::Acquire),
            runs: self.saves.runs.load(Ordering::Acquire),
            failed: self.saves.failed.load(Ordering::Acquire),
        }
    }
}

impl<S: Deref<Target = Store>> Saving<S> {
    /// Begins a save; one at a time. `changes` is what the caller has counted so far.
    pub fn begin(store: S, changes: u64) -> Result<Self, SaveError> {
        match store.saves.runs.swap(true, Ordering::AcqRel) {
            true => Err(SaveError::Runs),
            false => Ok(Self { store, changes }),
        }
    }

    /// Syncs the log, and writes what is only in memory to table files: all batches that were
    /// committed before it began. Takes as long as the disk takes.
    pub fn run(self) -> Result<(), SaveError> {
        let (store, saves) = (&self.store, &self.store.saves);
        let done = self.write();
        saves.failed.store(done.is_err(), Ordering::Release);
        if done.is_ok() {
            saves.changes.store(self.changes, Ordering::Release);
            saves.last_s.store(ops::clock::unix_ms() / 1000, Ordering::Release);
            tracing::debug!("saved up to {}", store.position());
        }
        done
    }

    fn write(&self) -> Result<(), SaveError> {
        // The log first: from here on nothing can be lost, whatever becomes of the rest.
        self.store.sync()?;
        let families: Vec<_> = Cf::ALL.into_iter().map(|cf| self.store.cf(cf)).collect();
        self.store.db().flush_cfs_opt(&families, &FlushOptions::default())?;
        Ok(())
    }
}

impl<S: Deref<Target = Store>> Drop for Saving<S> {
    fn drop(&mut self) {
        self.store.saves.runs.store(false, Ordering::Release);
    }
}
