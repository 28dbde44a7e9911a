//! From sorted rows to files: in parts, by several threads.
//!
//! A part is a range of slots, so parts share no key and their files follow each other. How many
//! there are depends on the rows alone, not on the machine: the same rows make the same load. A
//! collection's meta record and its scores are known when all of its rows have been seen in order,
//! and are sorted on their own.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use ::store::load::{Family, LoadFile};
use anyhow::{Context, bail};
use keyspace::Hlc;
use keyspace::meta::Type;

use super::files::{Files, Layout};
use super::gather::Gather;
use super::sort::{PARTS_MAX, Sorted, Sorter};

/// A part has about so many bytes of rows, and of a file where that is less.
const PART_BYTES: u64 = 64 << 20;
/// Threads that write parts. A core may have two: one of them waits for the disk now and then.
const THREADS_MAX: usize = 8;
const DISK: &str = "sorting on disk";

/// Rows that were taken.
pub(super) struct Rows {
    pub(super) kind: Type,
    pub(super) stamp: Hlc,
    pub(super) rows: Sorter,
    /// Bytes in which records of collections are sorted.
    pub(super) memory: usize,
    /// Where runs are sorted on disk.
    pub(super) temp: PathBuf,
}

/// What came of the rows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) keys: u64,
    pub(super) replaced: u64,
    pub(super) runs: u64,
}

/// What came of one part.
struct Part {
    keys: u64,
    replaced: u64,
    files: Vec<LoadFile>,
}

/// What all threads share.
struct Work<'a> {
    kind: Type,
    stamp: Hlc,
    /// Of one part, for the records of collections.
    memory: usize,
    temp: PathBuf,
    layout: &'a Layout,
    /// Parts that nobody writes yet.
    sorted: Vec<Mutex<Option<Sorted>>>,
    next: AtomicUsize,
}

/// Writes all records; the files are in the order of a manifest.
pub(super) fn write(rows: Rows, layout: &Layout) -> anyhow::Result<(Totals, Vec<LoadFile>)> {
    let Rows { kind, stamp, rows, memory, temp } = rows;
    let runs = rows.runs();
    let each = layout.file_size.min(PART_BYTES);
    let parts = (rows.bytes().div_ceil(each) as usize).clamp(1, PARTS_MAX).next_power_of_two();
    let sorted = rows.finish(parts).context(DISK)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = (cores * 2).min(THREADS_MAX).min(parts);
    let work = Work {
        kind,
        stamp,
        memory: memory / threads,
        temp,
        layout,
        sorted: sorted.into_iter().map(|sorted| Mutex::new(Some(sorted))).collect(),
        next: AtomicUsize::new(0),
    };
    let written = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(|| work.run())).collect();
        let ended = running.into_iter().map(|thread| {
            thread.join().unwrap_or_else(|_| bail!("a thread that writes files panicked"))
        });
        ended.collect::<Vec<_>>()
    });
    let written = written.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let mut written: Vec<_> = written.into_iter().flatten().collect();
    written.sort_by_key(|(number, _)| *number);
    let mut totals = Totals { runs, ..Totals::default() };
    let mut files = Vec::new();
    for (_, part) in written {
        totals.keys += part.keys;
        totals.replaced += part.replaced;
        files.extend(part.files);
    }
    // A collection's meta records are known last, and come first.
    files.sort_by_key(|file| file.family);
    Ok((totals, files))
}

impl Work<'_> {
    /// Writes parts until there are no more. After an error of one thread the others take no more.
    fn run(&self) -> anyhow::Result<Vec<(usize, Part)>> {
        let mut done = Vec::new();
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(sorted) = self.sorted.get(number) else { return Ok(done) };
            let sorted = sorted.lock().unwrap_or_else(PoisonError::into_inner).take();
            let Some(sorted) = sorted else { return Ok(done) };
            let part = self.write(number, sorted).inspect_err(|_| {
                self.next.store(self.sorted.len(), Ordering::Relaxed);
            });
            done.push((number, part?));
        }
    }

    fn write(&self, number: usize, mut rows: Sorted) -> anyhow::Result<Part> {
        let mut files = Files::new(self.layout, number);
        if self.kind == Type::String {
            let keys = drain(&mut rows, Family::Meta, &mut files)?;
            return Ok(Part { keys, replaced: rows.replaced(), files: files.finish()? });
        }
        let (metas, scores) = match self.kind {
            Type::Zset => (self.memory / 2, self.memory / 2),
            _ => (self.memory, 0),
        };
        let sorter = |name, memory| Sorter::new(&self.temp, format!("{name}-{number}"), memory);
        let (metas, scores) = (sorter("meta", metas), sorter("score", scores));
        let mut gather = Gather::new(self.kind, self.stamp, metas, scores);
        while let Some((key, value)) = rows.next().context(DISK)? {
            gather.take(key, value, &mut files)?;
        }
        let replaced = rows.replaced();
        drop(rows);
        let (metas, scores) = gather.finish()?;
        let keys = drain(&mut whole(metas)?, Family::Meta, &mut files)?;
        drain(&mut whole(scores)?, Family::Score, &mut files)?;
        Ok(Part { keys, replaced, files: files.finish()? })
    }
}

/// What was sorted, in one part.
fn whole(sorter: Sorter) -> anyhow::Result<Sorted> {
    sorter.finish(1).context(DISK)?.pop().context("one part was asked for")
}

/// Writes what was sorted; how many records that were.
fn drain(sorted: &mut Sorted, family: Family, files: &mut Files<'_>) -> anyhow::Result<u64> {
    let mut count = 0;
    while let Some((key, value)) = sorted.next().context("reading what was sorted")? {
        files.put(family, key, value)?;
        count += 1;
    }
    Ok(count)
}
