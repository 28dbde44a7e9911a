//! RocksDB alone, as a floor: puts in batches by one thread, with all that flushes and compactions take.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use rocksdb::{DB, Options, WriteBatch};

use super::account::own_cpu;

/// Puts a batch.
const BATCH: u64 = 16;

/// Microseconds of processor for a put of a value of so many bytes, and puts a second.
pub fn put(dir: &Path, puts: u64, keys: u64, value: usize) -> Result<(f64, f64)> {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_compression_type(rocksdb::DBCompressionType::Lz4);
    let db = DB::open(&options, dir)?;
    let value = vec![b'v'; value];
    let (cpu, begun) = (own_cpu()?, Instant::now());
    for batch in 0..puts / BATCH {
        let mut writes = WriteBatch::default();
        for put in 0..BATCH {
            // Spread over the keys without a random number for each.
            let key = (batch * BATCH + put).wrapping_mul(0x9e37_79b9_7f4a_7c15) % keys;
            writes.put(format!("key:{key:020}"), &value);
        }
        db.write(writes)?;
    }
    db.flush()?;
    let took = begun.elapsed().as_secs_f64();
    Ok(((own_cpu()? - cpu) * 1e6 / puts as f64, puts as f64 / took))
}
