//! MEMORY of the whole process: STATS, DOCTOR, MALLOC-STATS, PURGE.

use resp::reply::Writer;

use super::session::{Session, Shared};
use crate::command::{Args, Fail};

/// Where the process's memory is, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Memory {
    /// In RAM.
    pub(super) resident: u64,
    /// The most that ever was.
    pub(super) peak: u64,
    /// Writes that are not in files yet.
    pub(super) memtables: u64,
    /// Blocks of files that are kept.
    pub(super) block_cache: u64,
    /// Indexes and filters of files.
    pub(super) readers: u64,
}

impl Memory {
    pub(super) fn read(shared: &Shared) -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let property = |name: &str| {
            let store = shared.store.load()?;
            store.db().property_int_value(name).ok().flatten()
        };
        Self {
            resident: kib(&status, "VmRSS:").unwrap_or(0),
            peak: kib(&status, "VmHWM:").unwrap_or(0),
            memtables: property("rocksdb.cur-size-all-mem-tables").unwrap_or(0),
            block_cache: property("rocksdb.block-cache-usage").unwrap_or(0),
            readers: property("rocksdb.estimate-table-readers-mem").unwrap_or(0),
        }
    }

    /// What is neither.
    fn other(self) -> u64 {
        self.resident.saturating_sub(self.memtables + self.block_cache + self.readers)
    }
}

/// A size of `/proc/self/status` or `/proc/meminfo` (proc(5)), in bytes.
pub(super) fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

/// The machine's memory in bytes.
pub(super) fn of_machine() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    kib(&text, "MemTotal:").unwrap_or(0)
}

/// As Redis shows sizes to people.
pub(super) fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["K", "M", "G", "T", "P"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let power = (bytes.ilog2() / 10).min(UNITS.len() as u32);
    format!("{:.2}{}", bytes as f64 / (1u64 << (10 * power)) as f64, UNITS[power as usize - 1])
}

pub(crate) fn memory(
    session: &mut Session,
    args: &Args<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Fail> {
    let memory = Memory::read(&session.shared);
    let mut out = Writer::new(out, session.version);
    match &args.at(1).to_ascii_lowercase()[..] {
        b"stats" => stats(memory, &mut out),
        b"doctor" => out.verbatim(*b"txt", doctor(memory).as_bytes()),
        b"malloc-stats" => {
            out.verbatim(*b"txt", b"Stats not supported for the current allocator");
        }
        // The system's allocator gives back by itself; nothing is kept on purpose.
        _ => out.simple("OK"),
    }
    Ok(())
}

fn stats(memory: Memory, out: &mut Writer<'_>) {
    let rows = [
        ("peak.allocated", memory.peak),
        ("total.allocated", memory.resident),
        ("rocksdb.memtables", memory.memtables),
        ("rocksdb.block-cache", memory.block_cache),
        ("rocksdb.table-readers", memory.readers),
        ("overhead.total", memory.other()),
        ("dataset.bytes", memory.memtables + memory.block_cache),
    ];
    out.map(rows.len() + 1);
    for (name, bytes) in rows {
        out.bulk(name.as_bytes());
        out.integer(bytes as i64);
    }
    out.bulk(b"peak.percentage");
    out.double(memory.resident as f64 * 100.0 / memory.peak.max(1) as f64);
}

fn doctor(memory: Memory) -> String {
    let Memory { resident, memtables, block_cache, readers, .. } = memory;
    let part = |name: &str, bytes: u64| format!(" * {name}: {}\n", human(bytes));
    let mut text = format!("This node has {} in RAM:\n\n", human(resident));
    text += &part("writes that are not in files yet", memtables);
    text += &part("blocks of files (the share that --memory sets)", block_cache);
    text += &part("indexes and filters of files", readers);
    text += &part("connections, workers, the rest", memory.other());
    if readers > block_cache {
        text += "\nIndexes and filters take more than the cache: give the node more --memory.\n";
    }
    text
}
