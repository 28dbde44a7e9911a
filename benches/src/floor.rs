//! RocksDB alone: what no store on top of it can be below, unless it does not ask RocksDB.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rand::Rng;
use rocksdb::{BlockBasedOptions, Cache, DB, Options as DbOptions, WriteBatch};

use crate::load::{Sample, key, per_op};
use crate::say;
use crate::server::pinned;

/// What a node puts before each string: type, flags, stamp, expiry.
const HEADER_BYTES: usize = 18;

/// RocksDB alone, in this process.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Where its database lies; made if it is not there.
    #[arg(long)]
    dir: PathBuf,
    /// What to do.
    #[arg(long, value_enum)]
    operation: Operation,
    /// How many keys there are.
    #[arg(long)]
    keys: u64,
    /// Operations.
    #[arg(long)]
    requests: u64,
    /// Puts of one batch.
    #[arg(long, default_value_t = 1)]
    batch: u64,
    #[arg(long)]
    value_bytes: usize,
    /// Bytes for its cache and buffers.
    #[arg(long)]
    memory: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Operation {
    /// Writes random keys in batches.
    Put,
    /// Writes every key, to be read later.
    Fill,
    /// Reads random keys after all were read once.
    Get,
    /// Reads random keys of a database that was opened just now.
    Cold,
}

/// Runs it here, and prints microseconds of CPU an operation and operations a second.
pub(crate) fn run(options: &Options) -> Result<()> {
    let db = open(&options.dir, options.memory)?;
    let mut random = rand::rng();
    if options.operation == Operation::Get {
        for number in 0..options.keys {
            std::hint::black_box(db.get_pinned(stored(number))?);
        }
    }
    let value = vec![b'x'; HEADER_BYTES + options.value_bytes];
    let (before, begun) = (own_cpu(), Instant::now());
    let mut done = 0;
    while done < options.requests {
        match options.operation {
            Operation::Put | Operation::Fill => {
                let mut batch = WriteBatch::default();
                let end = options.requests.min(done + options.batch);
                for number in done..end {
                    let chosen = match options.operation {
                        Operation::Put => random.random_range(0..options.keys),
                        _ => number,
                    };
                    batch.put(stored(chosen), &value);
                }
                db.write(batch)?;
                done = end;
            }
            Operation::Get | Operation::Cold => {
                std::hint::black_box(db.get_pinned(stored(random.random_range(0..options.keys)))?);
                done += 1;
            }
        }
    }
    if options.operation == Operation::Fill {
        db.compact_range(None::<&[u8]>, None::<&[u8]>);
    }
    let used = own_cpu().saturating_sub(before);
    say!("{} {}", per_op(used, done), done as f64 / begun.elapsed().as_secs_f64());
    Ok(())
}

/// A key with a slot before it, as a node's.
fn stored(number: u64) -> Vec<u8> {
    let key = key(number);
    let slot = (number % 16_384) as u16;
    [&slot.to_be_bytes(), key.as_bytes()].concat()
}

/// The settings of a node's meta family that matter here.
fn open(dir: &Path, memory: usize) -> Result<DB> {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&Cache::new_lru_cache(memory / 2));
    table.set_block_size(8 << 10);
    table.set_bloom_filter(10.0, false);
    let mut options = DbOptions::default();
    options.create_if_missing(true);
    options.set_write_buffer_size((memory / 8).clamp(4 << 20, 128 << 20));
    options.set_max_write_buffer_number(4);
    options.set_memtable_whole_key_filtering(true);
    options.set_memtable_prefix_bloom_ratio(0.05);
    options.set_compression_type(rocksdb::DBCompressionType::Lz4);
    options.set_wal_bytes_per_sync(1 << 20);
    options.set_block_based_table_factory(&table);
    DB::open(&options, dir).with_context(|| format!("cannot open {}", dir.display()))
}

/// User and system time of all threads of this process.
fn own_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// Runs it in a process of its own on one core.
pub(crate) fn measure(core: usize, options: &Options) -> Result<Sample> {
    let mut command = pinned(core, &std::env::current_exe()?);
    command.arg("floor").arg("--dir").arg(&options.dir);
    command.arg("--operation").arg(match options.operation {
        Operation::Put => "put",
        Operation::Fill => "fill",
        Operation::Get => "get",
        Operation::Cold => "cold",
    });
    for (option, value) in [
        ("--keys", options.keys),
        ("--requests", options.requests),
        ("--batch", options.batch),
        ("--value-bytes", options.value_bytes as u64),
        ("--memory", options.memory as u64),
    ] {
        command.arg(option).arg(value.to_string());
    }
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<f64> = text.split_whitespace().flat_map(str::parse).collect();
    match numbers[..] {
        [cpu_us, rate] if output.status.success() => Ok(Sample { cpu_us, rate, p99_ms: 0.0 }),
        _ => bail!("RocksDB alone answered ({}): {text}", output.status),
    }
}

impl Options {
    pub(crate) fn new(
        dir: &Path,
        (operation, batch): (Operation, u64),
        (keys, requests): (u64, u64),
        value_bytes: usize,
        memory: usize,
    ) -> Self {
        Self { dir: dir.to_owned(), operation, keys, requests, batch, value_bytes, memory }
    }
}
