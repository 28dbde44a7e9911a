//! Writing to the log.

use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use keyspace::{Cf, Hlc, system};
use rocksdb::{ErrorKind, WriteBatch, WriteOptions};
use wal::batch::MAX_BATCH;
use wal::{Kind, Sequence, Tag};

use super::{Durability, Order, Store};

/// How far ahead of the stamps in use the clock's bound is written and synced.
const CLOCK_AHEAD_MS: u64 = 10_000;
/// The next bound is written once less than this is left.
const CLOCK_LEFT_MS: u64 = 5_000;

/// Why a batch was not committed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// Writing is closed (a freeze, or the node is no primary): nothing was written.
    #[error("the batch was not written: this node takes no writes now")]
    Closed,
    /// The log failed before: nothing was written.
    #[error(
        "the batch was not written: the log failed before, and the database must be opened again"
    )]
    Latched,
    /// The log failed after the batch was written and before it was synced: a sync that comes after
    /// one that failed proves nothing of what came before. Close without an answer.
    #[error(
        "the batch was written and cannot be synced: the log failed; whether it survives is unknown until the database has been opened again"
    )]
    Unsynced,
    /// RocksDB would have held it up, and it was not to be: nothing was written.
    #[error("the batch was not written: flushes and compactions have to catch up first")]
    Stalled,
    /// More than followers could be sent: nothing was written.
    #[error("the batch was not written: it has {0} bytes, and a batch may have {MAX_BATCH}")]
    TooGreat(usize),
    /// A load that the log has announced is not in the tree, or half.
    #[error(
        "load {id} is announced in the log and could not be taken in: {why}; nothing is written until the database has been opened again, which finishes it"
    )]
    Load {
        /// Its id.
        id: String,
        /// Why.
        why: String,
    },
    /// The log failed now: whether the batch survives is unknown. Close without an answer.
    #[error(
        "writing to the log failed: {0}; whether the batch survives is unknown until the database has been opened again"
    )]
    Log(rocksdb::Error),
}

/// Whether a write may be held up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Until RocksDB's background jobs have caught up.
    Wait,
    /// Rather not at all.
    Now,
}

impl Store {
    /// Commits one batch with its tag, as durable as this node was told to be, and answers the
    /// sequence at its end. A batch without records is no commit.
    ///
    /// The batch must not be able to fail half-way: no column family of it is unknown, and it has
    /// no merge. After [`CommitError::Log`] and [`CommitError::Unsynced`] the outcome is unknown;
    /// after the others nothing was written.
    pub fn commit(&self, batch: WriteBatch, kind: Kind) -> Result<Sequence, CommitError> {
        self.commit_or(batch, kind, Pace::Wait)
    }

    /// The same, but rather not at all than late: [`CommitError::Stalled`] where RocksDB would wait
    /// for its background jobs first.
    pub fn try_commit(&self, batch: WriteBatch, kind: Kind) -> Result<Sequence, CommitError> {
        self.commit_or(batch, kind, Pace::Now)
    }

    fn commit_or(
        &self,
        batch: WriteBatch,
        kind: Kind,
        pace: Pace,
    ) -> Result<Sequence, CommitError> {
        let mut order = self.order();
        if !order.open {
            return Err(CommitError::Closed);
        }
        if batch.is_empty() {
            return Ok(Sequence(self.db.latest_sequence_number()));
        }
        if batch.size_in_bytes() > MAX_BATCH {
            return Err(CommitError::TooGreat(batch.size_in_bytes()));
        }
        let stamp = self.stamp();
        let tag = self.tag(kind, stamp, 0);
        let end = self.write_promised(&mut order, batch, &tag, pace)?;
        drop(order);
        if kind == Kind::Data {
            self.written.fetch_add(1, Ordering::Relaxed);
        }
        if self.options.durability == Durability::Always {
            self.sync_to(end)?;
        }
        Ok(end)
    }

    pub(super) fn order(&self) -> MutexGuard<'_, Order> {
        // A panic while it was held left the log as it was: one write either happened or not.
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tag(&self, kind: Kind, stamp: Hlc, marker: u128) -> Tag {
        let epoch = self.epoch.load(Ordering::Acquire);
        Tag { kind, origin: self.origin, epoch, stamp, marker }
    }

    /// Writes one tagged batch.
    pub(super) fn write(
        &self,
        _order: &mut Order,
        mut batch: WriteBatch,
        tag: &Tag,
        pace: Pace,
    ) -> Result<Sequence, CommitError> {
        if self.is_latched() {
            return Err(CommitError::Latched);
        }
        if pace == Pace::Now && ops::failpoint::hit("write-stalled") {
            return Err(CommitError::Stalled);
        }
        batch.put_log_data(tag.encode());
        let mut options = WriteOptions::default();
        options.set_no_slowdown(pace == Pace::Now);
        self.db.write_opt(batch, &options).map_err(|why| match why.kind() {
            ErrorKind::Incomplete if pace == Pace::Now => {
                // Others need not find out for themselves.
                self.look_at_stall();
                CommitError::Stalled
            }
            _ => self.latch(why),
        })?;
        self.commits.fetch_add(1, Ordering::Relaxed);
        Ok(Sequence(self.db.latest_sequence_number()))
    }

    /// Writes one batch under a stamp of this node, and first makes sure that no restart gives that
    /// stamp again. [`Store::keep_clock_ahead`] has done so, but for a clock that has just moved on.
    pub(super) fn write_promised(
        &self,
        order: &mut Order,
        mut batch: WriteBatch,
        tag: &Tag,
        pace: Pace,
    ) -> Result<Sequence, CommitError> {
        if tag.stamp.0 < self.clock_bound.load(Ordering::Acquire) {
            return self.write(order, batch, tag, pace);
        }
        let bound = self.put_clock(&mut batch, tag.stamp);
        let end = self.write(order, batch, tag, pace)?;
        self.sync_to(end)?;
        self.clock_bound.fetch_max(bound.0, Ordering::AcqRel);
        Ok(end)
    }

    /// Adds the clock's next bound to a batch: it holds once that is synced.
    pub(super) fn put_clock(&self, batch: &mut WriteBatch, highest: Hlc) -> Hlc {
        let bound = Hlc::new(highest.ms().saturating_add(CLOCK_AHEAD_MS), 0);
        batch.put_cf(self.cf(Cf::System), system::CLOCK, system::encode_stamp(bound));
        bound
    }

    /// Moves the clock's bound on before commits come near it, so that none waits for a sync.
    pub fn keep_clock_ahead(&self) -> Result<(), CommitError> {
        let bound = Hlc(self.clock_bound.load(Ordering::Acquire));
        let near = self.clock.last().ms().saturating_add(CLOCK_LEFT_MS) >= bound.ms();
        let mut order = self.order();
        if !near || !order.open || self.is_latched() {
            return Ok(());
        }
        let stamp = self.stamp();
        let mut batch = WriteBatch::default();
        let bound = self.put_clock(&mut batch, stamp);
        let tag = self.tag(Kind::Heartbeat, stamp, 0);
        let end = self.write(&mut order, batch, &tag, Pace::Now)?;
        drop(order);
        self.sync_to(end)?;
        self.clock_bound.fetch_max(bound.0, Ordering::AcqRel);
        Ok(())
    }

    fn latch(&self, why: rocksdb::Error) -> CommitError {
        self.latched.store(true, Ordering::Release);
        tracing::error!(
            "writing to the log failed: {why}; no writes until it has been opened again"
        );
        CommitError::Log(why)
    }

    /// Syncs the log, at least up to here. Commits that wait together share one sync.
    pub fn sync_to(&self, sequence: Sequence) -> Result<(), CommitError> {
        if self.synced.load(Ordering::Acquire) >= sequence.0 {
            return Ok(());
        }
        let _one = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.synced.load(Ordering::Acquire) >= sequence.0 {
            return Ok(());
        }
        if self.is_latched() {
            return Err(CommitError::Unsynced);
        }
        let covers = self.db.latest_sequence_number();
        self.db.flush_wal(true).map_err(|why| self.latch(why))?;
        self.synced.fetch_max(covers, Ordering::AcqRel);
        Ok(())
    }

    /// Syncs all that is in the log.
    pub fn sync(&self) -> Result<(), CommitError> {
        self.sync_to(Sequence(self.db.latest_sequence_number()))
    }

    /// The last sequence of this log that is known to be on disk.
    pub fn synced(&self) -> Sequence {
        Sequence(self.synced.load(Ordering::Acquire))
    }
}
