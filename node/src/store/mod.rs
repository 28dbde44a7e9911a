//! The node's directory and its database: opening it safely, committing to it, swapping it.
//!
//! Start with [`Store`]: every change of data goes through [`Store::commit`], which tags it. What
//! control writes beside data goes through [`Exclusive`], with no commit in flight. [`NodeDir`]
//! holds the lock and the fence for the life of the process; [`Current`] is the handle through
//! which workers find the store, and find none while it is being swapped.

mod commit;
mod current;
mod dir;
mod drills;
mod exclusive;
mod identity;
mod intact;
mod load;
mod open;
mod options;
mod pressure;
pub mod reclaim;
mod save;
mod slice;
mod state;
mod wall;

#[cfg(test)]
mod power;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use keyspace::{Cf, Hlc, HlcClock};
use rocksdb::{ColumnFamily, DB, DBPinnableSlice, ReadOptions};
use topology::Epoch;
use wal::{History, Position, Sequence};

pub use commit::CommitError;
pub use current::Current;
pub(crate) use dir::fail_here;
pub use dir::{DirError, NodeDir};
pub(crate) use drills::{clear_dead_drills, is_drill};
pub use exclusive::Exclusive;
pub use identity::{Identity, prepare_seed};
pub use load::Following;
pub use open::{OpenError, read_copy};
pub use options::{Compression, Durability, Shares, StoreOptions};
use pressure::Pressure;
pub use pressure::{Hindrance, Stall};
pub use reclaim::Reclaim;
use save::Saves;
pub use save::{SaveError, Saved, Saving};
pub use slice::Taking;
pub use state::{NodeState, Standing, Until};
use wall::Wall;

/// An open database. One at a time in a process; workers share it through [`Current`].
#[derive(Debug)]
pub struct Store {
    db: Arc<DB>,
    path: PathBuf,
    identity: Identity,
    options: StoreOptions,
    reads: Reads,
    /// Which cluster tags its batches with.
    origin: u32,
    /// Which epoch tags carry.
    epoch: AtomicU64,
    clock: HlcClock,
    wall: Wall,
    /// No stamp at or above it survives a power cut, so none is given.
    clock_bound: AtomicU64,
    /// Which records nobody can need any more.
    reclaim: Arc<Reclaim>,
    /// Held from the choice of a stamp to the end of the write, so that stamps rise along the log
    /// and whoever holds it knows the exact end of the log.
    order: Mutex<Order>,
    history: ArcSwap<History>,
    state: ArcSwap<NodeState>,
    /// The last sequence that is known to be on disk.
    synced: AtomicU64,
    /// One sync at a time; those who wait for it share it.
    syncing: Mutex<()>,
    /// Names the state of the data apart from what workers commit; no other store has had it.
    generation: AtomicU64,
    /// Batches written, for the metrics.
    commits: AtomicU64,
    /// Those of commands.
    written: AtomicU64,
    /// When the log was last seen to take what was asked of it: milliseconds of the boot clock.
    moved: AtomicU64,
    /// What keeps it from taking writes for a while.
    pressure: Pressure,
    saves: Saves,
    /// The log failed: nothing is written until the database has been opened again.
    latched: AtomicBool,
}

/// How single records are read: made once, which costs as much as a tenth of a read.
#[derive(Default)]
struct Reads(ReadOptions);

impl std::fmt::Debug for Reads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reads")
    }
}

/// What only the holder of the log's order may touch.
#[derive(Debug)]
struct Order {
    /// Whether commands of clients may be committed.
    open: bool,
}

impl Drop for Store {
    fn drop(&mut self) {
        // Views hold the database open; compactions that still run drop nothing from here on.
        self.reclaim.forget();
    }
}

impl Store {
    /// The database.
    pub fn db(&self) -> &DB {
        &self.db
    }

    /// A column family.
    pub fn cf(&self, cf: Cf) -> &ColumnFamily {
        self.db.cf_handle(cf.name()).expect("all column families were opened")
    }

    /// A record as it is now, in place.
    pub fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<DBPinnableSlice<'_>>, rocksdb::Error> {
        self.db.get_pinned_cf_opt(self.cf(cf), key, &self.reads.0)
    }

    /// Several records of a family as they are now, each with its own error. The keys must rise.
    pub fn get_many<'k>(
        &self,
        cf: Cf,
        keys: impl Iterator<Item = &'k [u8]>,
    ) -> Vec<Result<Option<DBPinnableSlice<'_>>, rocksdb::Error>> {
        self.db.batched_multi_get_cf_opt(self.cf(cf), keys, true, &self.reads.0)
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whose database it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The next stamp: for the version of a new collection, and for each value of a batch.
    pub fn stamp(&self) -> Hlc {
        self.clock.next(self.now_ms())
    }

    /// Unix milliseconds, for what has expired: on a wall clock that does not jump ahead, and never
    /// before what is reclaimed.
    pub fn now_ms(&self) -> u64 {
        self.wall.now_ms().max(self.reclaim.horizon_ms())
    }

    /// How far the wall clock has jumped ahead of [`Store::now_ms`].
    pub fn clock_ahead(&self) -> Option<Duration> {
        self.wall.ahead()
    }

    /// Which records nobody can need any more.
    pub fn reclaim(&self) -> &Arc<Reclaim> {
        &self.reclaim
    }

    /// The clock that stamps come from.
    pub fn hlc(&self) -> &HlcClock {
        &self.clock
    }

    /// Its timelines.
    pub fn history(&self) -> Arc<History> {
        self.history.load_full()
    }

    /// The log was looked after, as often as that is due: what had to be written and synced was.
    pub fn note_moved(&self) {
        self.moved.store(boot_ms(), Ordering::Release);
    }

    /// For how long nobody has seen the log move: a disk that hangs shows here, and only here.
    pub fn still(&self) -> Duration {
        Duration::from_millis(boot_ms().saturating_sub(self.moved.load(Ordering::Acquire)))
    }

    /// The node-local state.
    pub fn state(&self) -> Arc<NodeState> {
        self.state.load_full()
    }

    /// The end of its log.
    pub fn position(&self) -> Position {
        let history = self.history.load();
        self.position_in(&history, Sequence(self.db.latest_sequence_number()))
    }

    fn position_in(&self, history: &History, sequence: Sequence) -> Position {
        history.position_of(sequence).expect("the first batch after an open starts a timeline")
    }

    /// The epoch that tags carry.
    pub fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Acquire))
    }

    /// Whether the log failed and the database must be opened again before anything is written.
    pub fn is_latched(&self) -> bool {
        self.latched.load(Ordering::Acquire)
    }

    /// Data has changed otherwise than by [`Store::commit`]: what is cached of it is dropped. Call it
    /// when the change can be seen.
    pub fn changed_outside(&self) {
        self.generation.store(next_generation(), Ordering::Release);
    }

    /// Which state of the data caches may be of.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// How many batches were written since it was opened.
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// How many of them were of commands.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// How it was opened.
    pub fn options(&self) -> &StoreOptions {
        &self.options
    }
}

/// A number that no store of this process had.
fn next_generation() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

fn boot_ms() -> u64 {
    u64::try_from(ops::clock::boot_now().as_millis()).unwrap_or(u64::MAX)
}
