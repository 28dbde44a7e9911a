//! Sorting more than fits into memory: runs are sorted, spilled, and merged. Of records with one
//! key the last one that came stays.

use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// Runs that are merged at a time: more are merged in several passes.
const FAN_IN: usize = 64;
/// Bytes of a run's buffer while it is written, and at least while it is read.
const BUFFER: usize = 256 << 10;

/// A record in memory.
#[derive(Clone, Copy)]
struct Entry {
    /// The first eight bytes of the key: most comparisons need no more.
    prefix: u64,
    at: usize,
    key: u32,
    value: u32,
}

/// Takes records in any order.
pub(super) struct Sorter {
    dir: PathBuf,
    name: &'static str,
    arena: Vec<u8>,
    index: Vec<Entry>,
    runs: Vec<PathBuf>,
    made: u64,
    replaced: u64,
}

impl Sorter {
    /// Sorts in this much memory; runs go to `dir`, under names that begin with `name`.
    pub(super) fn new(dir: &Path, name: &'static str, memory: usize) -> Self {
        let index = memory / 4 / size_of::<Entry>();
        // Pages that are never touched cost nothing.
        Self {
            dir: dir.to_owned(),
            name,
            arena: Vec::with_capacity(memory - memory / 4),
            index: Vec::with_capacity(index.max(16)),
            runs: Vec::new(),
            made: 0,
            replaced: 0,
        }
    }

    /// Adds a record.
    pub(super) fn push(&mut self, key: &[u8], value: &[&[u8]]) -> io::Result<()> {
        let len: usize = value.iter().map(|part| part.len()).sum();
        let full = self.index.len() == self.index.capacity()
            || self.arena.len() + key.len() + len > self.arena.capacity();
        if full && !self.index.is_empty() {
            self.spill()?;
        }
        let long = |_| io::Error::other("a record of 4 GiB");
        let entry = Entry {
            prefix: prefix(key),
            at: self.arena.len(),
            key: u32::try_from(key.len()).map_err(long)?,
            value: u32::try_from(len).map_err(long)?,
        };
        self.arena.extend_from_slice(key);
        value.iter().for_each(|part| self.arena.extend_from_slice(part));
        self.index.push(entry);
        Ok(())
    }

    /// Whether records went to disk.
    pub(super) fn runs(&self) -> u64 {
        self.made
    }

    fn sort(&mut self) {
        let arena = &self.arena;
        self.index.sort_unstable_by(|a, b| {
            let by_prefix = a.prefix.cmp(&b.prefix);
            by_prefix.then_with(|| key_of(arena, a).cmp(key_of(arena, b))).then(a.at.cmp(&b.at))
        });
        let before = self.index.len();
        // The later one of two stays.
        let mut kept = 0;
        for next in 0..before {
            let same = kept > 0
                && key_of(arena, &self.index[kept - 1]) == key_of(arena, &self.index[next]);
            if !same {
                kept += 1;
            }
            self.index[kept - 1] = self.index[next];
        }
        self.index.truncate(kept);
        self.replaced += (before - kept) as u64;
    }

    fn spill(&mut self) -> io::Result<()> {
        self.sort();
        let path = self.next_path();
        let mut file = BufWriter::with_capacity(BUFFER, File::create_new(&path)?);
        for entry in &self.index {
            write_record(&mut file, key_of(&self.arena, entry), value_of(&self.arena, entry))?;
        }
        file.flush()?;
        self.runs.push(path);
        self.index.clear();
        self.arena.clear();
        Ok(())
    }

    fn next_path(&mut self) -> PathBuf {
        self.made += 1;
        self.dir.join(format!("{}-{}.run", self.name, self.made))
    }

    /// All records in the order of their keys, each key once.
    pub(super) fn finish(mut self) -> io::Result<Sorted> {
        if self.runs.is_empty() {
            self.sort();
            return Ok(Sorted(Source::Memory { sorter: self, next: 0 }));
        }
        if !self.index.is_empty() {
            self.spill()?;
        }
        // What was taken for sorting is given back before runs are read.
        (self.arena, self.index) = (Vec::new(), Vec::new());
        while self.runs.len() > FAN_IN {
            let path = self.next_path();
            let oldest: Vec<PathBuf> = self.runs.drain(..FAN_IN).collect();
            let mut file = BufWriter::with_capacity(BUFFER, File::create_new(&path)?);
            let mut merge = Merge::open(&oldest)?;
            while let Some((key, value)) = merge.next()? {
                write_record(&mut file, key, value)?;
            }
            file.flush()?;
            self.replaced += merge.replaced;
            for run in oldest {
                std::fs::remove_file(run)?;
            }
            // It stands for the oldest ones.
            self.runs.insert(0, path);
        }
        let mut merge = Merge::open(&self.runs)?;
        merge.replaced += self.replaced;
        Ok(Sorted(Source::Merge(merge)))
    }
}

fn prefix(key: &[u8]) -> u64 {
    let mut first = [0; 8];
    let len = key.len().min(8);
    first[..len].copy_from_slice(&key[..len]);
    u64::from_be_bytes(first)
}

fn key_of<'a>(arena: &'a [u8], entry: &Entry) -> &'a [u8] {
    &arena[entry.at..entry.at + entry.key as usize]
}

fn value_of<'a>(arena: &'a [u8], entry: &Entry) -> &'a [u8] {
    let at = entry.at + entry.key as usize;
    &arena[at..at + entry.value as usize]
}

fn write_record(out: &mut impl Write, key: &[u8], value: &[u8]) -> io::Result<()> {
    // Both are below 4 GiB: `push` has looked.
    out.write_all(&(key.len() as u32).to_le_bytes())?;
    out.write_all(&(value.len() as u32).to_le_bytes())?;
    out.write_all(key)?;
    out.write_all(value)
}

/// Records in the order of their keys.
pub(super) struct Sorted(Source);

enum Source {
    Memory { sorter: Sorter, next: usize },
    Merge(Merge),
}

impl Sorted {
    /// The next record.
    pub(super) fn next(&mut self) -> io::Result<Option<(&[u8], &[u8])>> {
        match &mut self.0 {
            Source::Memory { sorter, next } => {
                let Some(entry) = sorter.index.get(*next) else { return Ok(None) };
                *next += 1;
                Ok(Some((key_of(&sorter.arena, entry), value_of(&sorter.arena, entry))))
            }
            Source::Merge(merge) => merge.next(),
        }
    }

    /// How many records gave way to a later one of their key; known once all were given out.
    pub(super) fn replaced(&self) -> u64 {
        match &self.0 {
            Source::Memory { sorter, .. } => sorter.replaced,
            Source::Merge(merge) => merge.replaced,
        }
    }
}

/// The next record of one run.
struct Head {
    key: Vec<u8>,
    value: Vec<u8>,
    run: usize,
    file: BufReader<File>,
}

impl Head {
    /// Goes to the next record; false at the end.
    fn advance(&mut self) -> io::Result<bool> {
        let mut lengths = [0; 8];
        let mut first = [0];
        if self.file.read(&mut first)? == 0 {
            return Ok(false);
        }
        lengths[0] = first[0];
        self.file.read_exact(&mut lengths[1..])?;
        let (key, value) = lengths.split_at(4);
        let length = |bytes: &[u8]| bytes.iter().rev().fold(0, |sum, b| sum << 8 | usize::from(*b));
        self.key.resize(length(key), 0);
        self.value.resize(length(value), 0);
        self.file.read_exact(&mut self.key)?;
        self.file.read_exact(&mut self.value)?;
        Ok(true)
    }
}

// The heap gives out its greatest: the least key, and of one key the oldest run.
impl Ord for Head {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.key.cmp(&self.key).then(other.run.cmp(&self.run))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Head {}

struct Merge {
    heads: BinaryHeap<Head>,
    /// The record that was given out.
    given: Option<Head>,
    replaced: u64,
}

impl Merge {
    /// Runs, the oldest first.
    fn open(runs: &[PathBuf]) -> io::Result<Self> {
        let mut heads = BinaryHeap::with_capacity(runs.len());
        for (run, path) in runs.iter().enumerate() {
            let file = BufReader::with_capacity(BUFFER, File::open(path)?);
            let mut head = Head { key: Vec::new(), value: Vec::new(), run, file };
            if head.advance()? {
                heads.push(head);
            }
        }
        Ok(Self { heads, given: None, replaced: 0 })
    }

    fn next(&mut self) -> io::Result<Option<(&[u8], &[u8])>> {
        if let Some(mut given) = self.given.take()
            && given.advance()?
        {
            self.heads.push(given);
        }
        let Some(mut top) = self.heads.pop() else { return Ok(None) };
        while self.heads.peek().is_some_and(|next| next.key == top.key) {
            self.replaced += 1;
            if top.advance()? {
                self.heads.push(top);
            }
            top = self.heads.pop().expect("there was a next one");
        }
        let given = self.given.insert(top);
        Ok(Some((&given.key, &given.value)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn check(memory: usize, count: u32, keys: u32, at_least: u64) {
        let dir = tempfile::tempdir().unwrap();
        let mut sorter = Sorter::new(dir.path(), "t", memory);
        let mut wanted = BTreeMap::new();
        let mut state = 7_u32;
        for n in 0..count {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let key = format!("key-{}", (state >> 8) % keys).into_bytes();
            sorter.push(&key, &[b"v", &n.to_be_bytes()]).unwrap();
            wanted.insert(key, [b"v", &n.to_be_bytes()[..]].concat());
        }
        assert!(sorter.runs() >= at_least, "{} runs", sorter.runs());
        let mut sorted = sorter.finish().unwrap();
        let mut found = Vec::new();
        while let Some((key, value)) = sorted.next().unwrap() {
            found.push((key.to_vec(), value.to_vec()));
        }
        assert_eq!(sorted.replaced(), u64::from(count) - wanted.len() as u64);
        assert_eq!(found, wanted.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn what_fits_into_memory_is_sorted_there() {
        check(1 << 20, 1000, 400, 0);
        check(1 << 20, 0, 1, 0);
    }

    #[test]
    fn runs_on_disk_are_merged_and_the_last_one_of_a_key_stays() {
        check(4 << 10, 2000, 700, 10);
        // More runs than are merged at a time.
        check(1 << 10, 4000, 900, 100);
    }
}
