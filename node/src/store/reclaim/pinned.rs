//! A RocksDB snapshot that keeps its database instead of borrowing it.

#![allow(unsafe_code)]

use std::sync::Arc;

use rocksdb::{DB, SnapshotWithThreadMode};

/// A snapshot and the database that it is of.
pub(super) struct Pinned {
    // Dropped before the database: fields are dropped in the order in which they stand.
    snapshot: SnapshotWithThreadMode<'static, DB>,
    db: Arc<DB>,
}

impl Pinned {
    /// A snapshot of the database as it is now.
    pub(super) fn new(db: Arc<DB>) -> Self {
        let snapshot = db.snapshot();
        // SAFETY: the snapshot borrows the database inside the `Arc`, which does not move and lives
        // at least as long as this struct, which drops the snapshot first. Nobody gets at the
        // snapshot but through `&self`, so the longer lifetime never leaves this file.
        let snapshot = unsafe {
            std::mem::transmute::<SnapshotWithThreadMode<'_, DB>, SnapshotWithThreadMode<'static, DB>>(
                snapshot,
            )
        };
        Self { snapshot, db }
    }

    pub(super) fn snapshot<'a>(&'a self) -> &'a SnapshotWithThreadMode<'a, DB> {
        &self.snapshot
    }

    pub(super) fn db(&self) -> &DB {
        &self.db
    }
}
