//! What keeps the database from taking writes for a while: a disk without room, compactions that do
//! not keep up.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Store;

/// What a try whether there is room again writes and removes.
const PROBE_BYTES: usize = 4 << 20;

/// Why writes of clients are refused, while reads go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hindrance {
    /// The log failed, and is opened again once there is room.
    Latched,
    /// The disk has no more room than the database needs for itself.
    Full,
}

/// What was found when it was last looked at.
#[derive(Debug, Default)]
pub(super) struct Pressure {
    full: AtomicBool,
    stopped: AtomicBool,
}

/// How RocksDB holds writes up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stall {
    /// It takes none: too many files or memtables wait for its background jobs.
    pub stopped: bool,
    /// It takes so many bytes a second; 0 for as many as come.
    pub delayed_rate: u64,
}

impl Store {
    /// Why writes of clients are refused now.
    pub fn hindrance(&self) -> Option<Hindrance> {
        if self.is_latched() {
            return Some(Hindrance::Latched);
        }
        self.pressure.full.load(Ordering::Relaxed).then_some(Hindrance::Full)
    }

    /// Whether RocksDB took no writes when it was last looked at.
    pub fn is_stopped(&self) -> bool {
        self.pressure.stopped.load(Ordering::Relaxed)
    }

    /// Looks at how RocksDB holds writes up.
    pub fn look_at_stall(&self) -> Stall {
        let property = |name: &str| self.db.property_int_value(name).ok().flatten().unwrap_or(0);
        let stopped =
            property("rocksdb.is-write-stopped") > 0 || ops::failpoint::hit("writes-stopped");
        let delayed_rate = property("rocksdb.actual-delayed-write-rate");
        let before = self.pressure.stopped.swap(stopped, Ordering::Relaxed);
        if stopped && !before {
            tracing::warn!(
                level0_files = property("rocksdb.num-files-at-level0"),
                memtables = property("rocksdb.num-immutable-mem-table"),
                pending_bytes = property("rocksdb.estimate-pending-compaction-bytes"),
                "writes stand still until flushes and compactions have caught up; reads go on"
            );
        } else if before && !stopped {
            tracing::info!("writes go on");
        }
        Stall { stopped, delayed_rate }
    }

    /// How many background jobs have failed since it was opened.
    pub fn failed_jobs(&self) -> u64 {
        self.db.property_int_value("rocksdb.background-errors").ok().flatten().unwrap_or(0)
    }

    /// Looks at how much room there is; refuses writes while there is less than the reserve, in
    /// which memtables can be flushed and control can write.
    pub fn look_at_room(&self) {
        let Some(free) = free_bytes(&self.path) else { return };
        let reserve = self.options.reserve();
        let before = self.pressure.full.load(Ordering::Relaxed);
        let full = free < if before { reserve + reserve / 4 } else { reserve };
        if full == before {
            return;
        }
        self.pressure.full.store(full, Ordering::Relaxed);
        if full {
            tracing::error!(
                free,
                reserve,
                "the disk is almost full: writes are refused until there is room, and reads go on"
            );
        } else {
            tracing::info!(free, "there is room on the disk: writes go on");
        }
    }

    /// Bytes that are free on its volume; `None` where it does not say.
    pub fn room(&self) -> Option<u64> {
        free_bytes(&self.path)
    }

    /// Whether a database of this directory could be written now; in words, if not.
    pub fn check_room(&self) -> Result<(), String> {
        let (free, reserve) = (free_bytes(&self.path), self.options.reserve());
        if let Some(free) = free.filter(|free| *free < reserve) {
            return Err(format!("{free} bytes are free on its disk, and it needs {reserve}"));
        }
        probe(&self.path).map_err(|why| format!("its disk takes no {PROBE_BYTES} bytes: {why}"))
    }
}

/// Bytes that an ordinary user may still write on the volume; `None` where it does not say.
fn free_bytes(path: &Path) -> Option<u64> {
    rustix::fs::statvfs(path).ok().map(|volume| volume.f_bavail * volume.f_frsize)
}

/// Free space is not all: there are quotas, limits and volumes that have become read-only.
fn probe(dir: &Path) -> std::io::Result<()> {
    let path = dir.join("PROBE");
    let written = File::create(&path).and_then(|mut file| {
        file.write_all(&vec![1; PROBE_BYTES])?;
        file.sync_all()
    });
    let removed = std::fs::remove_file(&path);
    written.and(removed)
}
