//! How RocksDB is opened, and what must never be set.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use keyspace::Cf;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode,
    DataBlockIndexType, LogLevel, Options,
};
use serde::{Deserialize, Serialize};

use super::reclaim::Reclaim;
use super::reclaim::filter::Factory;

/// A file is compacted when it is so old, so that what is garbage in it goes.
const RECLAIM_AGE: Duration = Duration::from_secs(24 * 3600);

/// When a commit is on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Before its answer.
    Always,
    /// Within a second. A process that dies loses nothing, a machine that does a second.
    #[default]
    Everysec,
    /// When the operating system likes. A process that dies loses nothing.
    Os,
}

impl Durability {
    /// Redis's word for it (`appendfsync`).
    pub const fn redis_name(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Everysec => "everysec",
            Self::Os => "no",
        }
    }
}

/// How table files are compressed. Blocks that are read are decompressed, so this is felt where
/// there is more data than memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Quickly.
    #[default]
    Lz4,
    /// The last level, which has nearly all of the data, by Zstandard: smaller, and a read that
    /// misses every cache takes about twice as long.
    Zstd,
}

/// What an operator can choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// When a commit is on disk.
    pub durability: Durability,
    /// What the node may use, in bytes; [`StoreOptions::shares`] says for what.
    pub memory: u64,
    /// Log files that are kept for a sidecar that is down, in bytes.
    pub wal_archive: u64,
    /// How often a primary takes a new reclaim view, where it has written since.
    pub reclaim_every: Duration,
    /// Bytes a second that flushes and compactions may write; 0 for as many as they can.
    pub background_rate: u64,
    /// How table files are compressed.
    pub compression: Compression,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            durability: Durability::default(),
            memory: 256 << 20,
            wal_archive: 1 << 30,
            reclaim_every: Duration::from_secs(30),
            background_rate: 0,
            compression: Compression::default(),
        }
    }
}

/// What the memory is for, in bytes. What is left over is for connections, threads, the allocator, and
/// buffers that are being written to files while the next ones fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// Records in front of RocksDB: the workers' caches.
    pub records: u64,
    /// RocksDB's blocks, with indexes and filters.
    pub blocks: u64,
    /// What is written and not in a table file yet.
    pub buffers: u64,
}

/// A table file is compacted soon where so many of this many records in a row are deletions, or
/// this part of all.
const DELETED_OF: usize = 16 << 10;
const DELETED_MAX: usize = 8 << 10;
const DELETED_RATIO: f64 = 0.5;

/// A block has its keys in full at every so many records, from which a read goes on one by one.
/// RocksDB's own 16 make files a twentieth smaller and a read a tenth slower.
const RESTART_INTERVAL: i32 = 4;

/// Lines of RocksDB's OPTIONS file that the replication log depends on.
///
/// Recycled files and a log that is not flushed by each write break the sidecar's hard links; the
/// recovery modes open over holes; two-phase commit and unordered writes break the order; a
/// compressed log is one that the sidecar does not read.
const REQUIRED: [(&str, &str); 9] = [
    ("recycle_log_file_num", "0"),
    ("manual_wal_flush", "false"),
    ("wal_recovery_mode", "kPointInTimeRecovery"),
    ("best_efforts_recovery", "false"),
    ("allow_2pc", "false"),
    ("unordered_write", "false"),
    ("two_write_queues", "false"),
    ("wal_compression", "kNoCompression"),
    ("wal_dir", ""),
];

impl StoreOptions {
    /// How the memory is divided.
    pub fn shares(&self) -> Shares {
        let part = |percent: u64| self.memory / 100 * percent;
        Shares { records: part(42), blocks: part(25), buffers: part(18) }
    }

    /// Bytes that must stay free on the volume: what the memtables take when they are flushed, and
    /// what control writes.
    pub fn reserve(&self) -> u64 {
        self.shares().buffers.clamp(16 << 20, 512 << 20)
    }

    /// Of the database as a whole.
    pub(super) fn database(&self) -> Options {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_recycle_log_file_num(0);
        options.set_manual_wal_flush(false);
        options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
        options.set_unordered_write(false);
        options.set_wal_compression_type(DBCompressionType::None);
        options.set_track_and_verify_wals_in_manifest(true);
        options.set_paranoid_checks(true);
        // Without a time limit the size limit alone decides what the archive keeps.
        options.set_wal_ttl_seconds(0);
        options.set_wal_size_limit_mb((self.wal_archive >> 20).max(1));
        // All families flush together: the small `system` one pins no old log file, and no
        // family's files are ever ahead of another's.
        options.set_atomic_flush(true);
        let buffers = usize::try_from(self.shares().buffers).unwrap_or(usize::MAX).max(8 << 20);
        options.set_db_write_buffer_size(buffers);
        options.set_max_total_wal_size((buffers as u64).saturating_mul(4));
        let jobs = std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 8));
        options.set_max_background_jobs(i32::try_from(jobs).unwrap_or(2));
        options.set_bytes_per_sync(1 << 20);
        options.set_wal_bytes_per_sync(1 << 20);
        options.set_max_open_files(4096);
        options.set_keep_log_file_num(4);
        options.set_max_log_file_size(16 << 20);
        options.set_log_level(LogLevel::Warn);
        options.set_avoid_unnecessary_blocking_io(true);
        if let Some(rate) = i64::try_from(self.background_rate).ok().filter(|rate| *rate > 0) {
            // RocksDB's own defaults: the tokens of a tenth of a second; one time in ten the low
            // priority goes first.
            options.set_ratelimiter(rate, 100_000, 10);
        }
        options
    }

    /// Of each column family, in the order of their ids.
    pub(super) fn families(&self, reclaim: &Arc<Reclaim>) -> Vec<ColumnFamilyDescriptor> {
        // Without locks; 0: entries of any size.
        let blocks = usize::try_from(self.shares().blocks).unwrap_or(usize::MAX);
        let cache = Cache::new_hyper_clock_cache(blocks, 0);
        let of = |cf: Cf| {
            let mut options = self.family(cf, &cache);
            if cf.is_shipped() {
                options.set_compaction_filter_factory(Factory::new(reclaim.clone(), cf));
                options.set_periodic_compaction_seconds(RECLAIM_AGE.as_secs());
            }
            ColumnFamilyDescriptor::new(cf.name(), options)
        };
        Cf::ALL.map(of).into_iter().collect()
    }

    /// Of a table file that is written outside of a database.
    pub(crate) fn table(&self, cf: Cf) -> Options {
        self.family(cf, &Cache::new_lru_cache(1 << 20))
    }

    fn family(&self, cf: Cf, cache: &Cache) -> Options {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(cache);
        table.set_block_size(8 << 10);
        table.set_block_restart_interval(RESTART_INTERVAL);
        table.set_format_version(6);
        table.set_cache_index_and_filter_blocks(true);
        table.set_pin_l0_filter_and_index_blocks_in_cache(true);
        table.set_bloom_filter(10.0, false);
        table.set_optimize_filters_for_memory(true);
        let mut options = Options::default();
        if cf == Cf::Meta {
            table.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
        }
        // Scores are never looked up by key.
        if matches!(cf, Cf::Meta | Cf::Data) {
            options.set_memtable_whole_key_filtering(true);
            options.set_memtable_prefix_bloom_ratio(0.05);
        }
        // Queues leave runs of deleted records, which every look at their end would pass again.
        options.add_compact_on_deletion_collector_factory(DELETED_OF, DELETED_MAX, DELETED_RATIO);
        options.set_block_based_table_factory(&table);
        let buffer = usize::try_from(self.shares().buffers / 2).unwrap_or(usize::MAX);
        options.set_write_buffer_size(buffer.clamp(4 << 20, 128 << 20));
        options.set_max_write_buffer_number(4);
        options.set_level_compaction_dynamic_level_bytes(true);
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_bottommost_compression_type(match self.compression {
            Compression::Lz4 => DBCompressionType::Lz4,
            Compression::Zstd => DBCompressionType::Zstd,
        });
        options
    }
}

/// Reads the options that RocksDB says it runs with; in words, if one of them is forbidden.
pub(super) fn verify(path: &Path) -> Result<(), String> {
    let failed = |why: std::io::Error| format!("its OPTIONS file cannot be read: {why}");
    let mut newest: Option<(u64, std::path::PathBuf)> = None;
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("OPTIONS-"));
        let Some(number) = number.and_then(|n| n.parse().ok()) else { continue };
        if newest.as_ref().is_none_or(|(last, _)| number > *last) {
            newest = Some((number, entry.path()));
        }
    }
    let (_, file) = newest.ok_or("it has no OPTIONS file")?;
    let text = std::fs::read_to_string(file).map_err(failed)?;
    let value = |name: &str| {
        let line = |line: &&str| line.trim().split_once('=').is_some_and(|(key, _)| key == name);
        text.lines().find(line).and_then(|line| line.split_once('=')).map(|(_, v)| v.trim())
    };
    for (name, wanted) in REQUIRED {
        match value(name) {
            Some(found) if found != wanted => {
                return Err(format!(
                    "RocksDB runs with {name}={found} and the log needs {name}={wanted}"
                ));
            }
            _ => {}
        }
    }
    Ok(())
}
