//! What can go wrong with a store.

use std::io;
use std::path::{Path, PathBuf};

/// Why a store did not do what was asked. None of these loses what was sealed before.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The address is none, or of a kind that this version does not have.
    #[error("`{address}` is no store: {why}")]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it, and what to write instead.
        why: String,
    },
    /// The directory is no store, or one of a newer version.
    #[error("{path} cannot be used as a store: {why}", path = .path.display())]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// Why, and what to do.
        why: String,
    },
    /// A bucket said no, or could not be asked.
    #[error("could not {what} {name}: {why}")]
    Bucket {
        /// What was tried.
        what: &'static str,
        /// On which object.
        name: String,
        /// What it answered.
        why: String,
    },
    /// The disk said no.
    #[error("could not {what} {path}: {source}", path = .path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// What is stored is not what was stored.
    #[error("{path} is damaged: {why}", path = .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// What came to be stored is not what was announced.
    #[error("{name} was not stored: {why}")]
    Rejected {
        /// The object or file.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// What is there is no repository, or none that can be used.
    #[error("the store cannot be used: {why}")]
    NoRepository {
        /// Why, and what to do.
        why: String,
    },
    /// Somebody else wrote what was to be written.
    #[error("{name} was written by another writer meanwhile: read it again and go on from there")]
    Overtaken {
        /// The object.
        name: String,
    },
    /// Another does what only one may do.
    #[error(
        "{holder} holds the lock {name}, for {seconds} seconds more at most unless it renews it"
    )]
    Held {
        /// The lock.
        name: String,
        /// Who has it.
        holder: String,
        /// When it ends, if the holder is dead.
        seconds: u64,
    },
    /// There is no such snapshot, or it was never sealed.
    #[error("there is no sealed snapshot `{id}` in {path}: `godwit-snapshotter list` shows those that are", path = .path.display())]
    NoSnapshot {
        /// What was asked for.
        id: String,
        /// The store.
        path: PathBuf,
    },
}

impl StoreError {
    /// An I/O error with what was tried on which path; for `map_err`.
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        move |source| Self::Io { what, path, source }
    }

    /// Damage found in a file.
    pub(crate) fn damaged(path: &Path, why: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_path_buf(), why: why.into() }
    }

    /// Whether this says that stored bytes are not what they were.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }
}
