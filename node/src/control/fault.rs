//! Why a control command was not carried out.

use admin::Code;

use wal::TimelineId;

use crate::store::{CommitError, DirError, OpenError, Store};

/// An error's answer: a code to branch on and a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} {message}", code.word())]
pub struct Fault {
    /// What to branch on.
    pub code: Code,
    /// The sentence.
    pub message: String,
}

impl Fault {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(super) fn role(message: impl Into<String>) -> Self {
        Self::new(Code::Role, message)
    }

    pub(super) fn other_database(meant: TimelineId, store: &Store) -> Self {
        let why = format!(
            "this was decided while the node's log was on timeline {meant}, and it is on {} now: its database was swapped or opened again; ask again where it stands; nothing was changed",
            store.position().timeline
        );
        Self::new(Code::Database, why)
    }

    pub(super) fn swapping() -> Self {
        Self::new(Code::Busy, "the database is being swapped or closed: ask again")
    }
}

impl From<CommitError> for Fault {
    fn from(why: CommitError) -> Self {
        // Nothing was written, and later it may be.
        let code = if matches!(why, CommitError::Stalled) { Code::Busy } else { Code::Io };
        Self::new(code, why.to_string())
    }
}

impl From<DirError> for Fault {
    fn from(why: DirError) -> Self {
        Self::new(Code::Err, why.to_string())
    }
}

impl From<OpenError> for Fault {
    fn from(why: OpenError) -> Self {
        Self::new(Code::Err, why.to_string())
    }
}

impl From<rocksdb::Error> for Fault {
    fn from(why: rocksdb::Error) -> Self {
        Self::new(Code::Err, format!("RocksDB: {why}; nothing was changed"))
    }
}
