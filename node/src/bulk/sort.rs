//! Sorting more than fits into memory: runs are sorted, spilled by another thread, and merged. Of
//! records with one key the last one that came stays.
//!
//! What is sorted comes out in parts, one after the other by the first bytes of keys, which may be
//! read by as many threads.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

/// Runs that are merged at a time: more are merged in several passes.
const FAN_IN: usize = 64;
/// Bytes of a run's buffer while it is written, and at least while it is read.
const BUFFER: usize = 256 << 10;
/// The most parts: keys begin with a slot, so their first bytes are below this.
pub(super) const PARTS_MAX: usize = 64;

/// The first sixteen bytes of a key: most comparisons need no more.
type Prefix = u128;

/// A record in memory.
#[derive(Clone, Copy)]
struct Entry {
    prefix: Prefix,
    at: usize,
    key: u32,
    value: u32,
}

/// Records in memory, in the order in which they came.
#[derive(Default)]
struct Run {
    arena: Vec<u8>,
    index: Vec<Entry>,
}

/// A run on disk.
struct Spilled {
    path: PathBuf,
    /// Where the first record is whose key begins with this byte or a greater one; the last of them
    /// is the length.
    starts: Box<[u64; 257]>,
    replaced: u64,
}

/// Takes records in any order.
pub(super) struct Sorter {
    dir: PathBuf,
    name: String,
    memory: usize,
    open: Run,
    /// Another run on its way to the disk.
    spilling: Option<JoinHandle<io::Result<(Run, Spilled)>>>,
    runs: Vec<Spilled>,
    made: u64,
    bytes: u64,
}

impl Run {
    /// In this much memory; pages that are never touched cost nothing.
    fn new(memory: usize) -> Self {
        let index = memory / 4 / size_of::<Entry>();
        let arena = Vec::with_capacity(memory - memory / 4);
        Self { arena, index: Vec::with_capacity(index.max(16)) }
    }

    fn is_full(&self, more: usize) -> bool {
        let full = self.index.len() == self.index.capacity()
            || self.arena.len() + more > self.arena.capacity();
        full && !self.index.is_empty()
    }

    /// Sorts it, writes it to a file, and empties it.
    fn spill(mut self, path: PathBuf) -> io::Result<(Self, Spilled)> {
        let replaced = sort(&self.arena, &mut self.index);
        let mut out = RunWriter::create(path)?;
        for entry in &self.index {
            out.write(key_of(&self.arena, entry), value_of(&self.arena, entry))?;
        }
        self.index.clear();
        self.arena.clear();
        Ok((self, out.finish(replaced)?))
    }
}

impl Sorter {
    /// Sorts in this much memory; runs go to `dir`, under names that begin with `name`.
    pub(super) fn new(dir: &Path, name: impl Into<String>, memory: usize) -> Self {
        Self {
            dir: dir.to_owned(),
            name: name.into(),
            memory,
            open: Run::new(memory / 2),
            spilling: None,
            runs: Vec::new(),
            made: 0,
            bytes: 0,
        }
    }

    /// Adds a record.
    pub(super) fn push(&mut self, key: &[u8], value: &[&[u8]]) -> io::Result<()> {
        let len: usize = value.iter().map(|part| part.len()).sum();
        if self.open.is_full(key.len() + len) {
            self.spill()?;
        }
        let long = |_| io::Error::other("a record of 4 GiB");
        let entry = Entry {
            prefix: prefix(key),
            at: self.open.arena.len(),
            key: u32::try_from(key.len()).map_err(long)?,
            value: u32::try_from(len).map_err(long)?,
        };
        self.open.arena.extend_from_slice(key);
        value.iter().for_each(|part| self.open.arena.extend_from_slice(part));
        self.open.index.push(entry);
        self.bytes += (key.len() + len) as u64;
        Ok(())
    }

    /// Whether records went to disk.
    pub(super) fn runs(&self) -> u64 {
        self.made
    }

    /// Bytes of all records that came.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Has the open run written by another thread; the one before that is done then.
    fn spill(&mut self) -> io::Result<()> {
        let next = match self.spilled()? {
            Some(emptied) => emptied,
            None => Run::new(self.memory / 2),
        };
        let full = std::mem::replace(&mut self.open, next);
        let path = self.next_path();
        let thread = std::thread::Builder::new().name("spill".to_owned());
        self.spilling = Some(thread.spawn(move || full.spill(path))?);
        Ok(())
    }

    /// Waits for the run that is on its way; its memory.
    fn spilled(&mut self) -> io::Result<Option<Run>> {
        let Some(thread) = self.spilling.take() else { return Ok(None) };
        let ended = thread.join().map_err(|_| io::Error::other("a thread that sorts panicked"))?;
        let (emptied, spilled) = ended?;
        self.runs.push(spilled);
        Ok(Some(emptied))
    }

    fn next_path(&mut self) -> PathBuf {
        self.made += 1;
        self.dir.join(format!("{}-{}.run", self.name, self.made))
    }

    /// All records in the order of their keys, each key once, in so many parts: a power of two, up to
    /// [`PARTS_MAX`].
    pub(super) fn finish(mut self, parts: usize) -> io::Result<Vec<Sorted>> {
        if self.made == 0 {
            return Ok(in_memory(self.open, parts));
        }
        if !self.open.index.is_empty() {
            self.spill()?;
        }
        // What was taken for sorting is given back before runs are read.
        drop(self.spilled()?);
        self.open = Run::default();
        while self.runs.len() > FAN_IN {
            let path = self.next_path();
            let oldest: Vec<Spilled> = self.runs.drain(..FAN_IN).collect();
            let mut out = RunWriter::create(path)?;
            let mut merge = Merge::open(&oldest, (0, 256))?;
            while let Some((key, value)) = merge.next()? {
                out.write(key, value)?;
            }
            let before: u64 = oldest.iter().map(|run| run.replaced).sum();
            for run in oldest {
                std::fs::remove_file(run.path)?;
            }
            // It stands for the oldest ones.
            self.runs.insert(0, out.finish(before + merge.replaced)?);
        }
        let mut before: u64 = self.runs.iter().map(|run| run.replaced).sum();
        let part = |part| {
            let mut merge = Merge::open(&self.runs, bytes_of(part, parts))?;
            merge.replaced += std::mem::take(&mut before);
            Ok(Sorted(Source::Merge(merge)))
        };
        (0..parts).map(part).collect()
    }
}

/// The first bytes of the keys of a part, the upper bound excluded.
fn bytes_of(part: usize, parts: usize) -> (usize, usize) {
    let each = PARTS_MAX / parts;
    (part * each, if part + 1 == parts { 256 } else { (part + 1) * each })
}

fn in_memory(run: Run, parts: usize) -> Vec<Sorted> {
    let arena = Arc::new(run.arena);
    let each = PARTS_MAX / parts;
    let of = |entry: &Entry| ((entry.prefix >> 120) as usize / each).min(parts - 1);
    let mut indices: Vec<Vec<Entry>> = vec![Vec::new(); parts];
    if parts == 1 {
        indices[0] = run.index;
    } else {
        run.index.iter().for_each(|entry| indices[of(entry)].push(*entry));
    }
    let part = |index| {
        let (next, replaced) = (None, 0);
        Sorted(Source::Memory { arena: arena.clone(), index, next, replaced })
    };
    indices.into_iter().map(part).collect()
}

/// Sorts and leaves the later one of two with the same key; how many gave way.
fn sort(arena: &[u8], index: &mut Vec<Entry>) -> u64 {
    index.sort_unstable_by(|a, b| {
        let by_prefix = a.prefix.cmp(&b.prefix);
        by_prefix.then_with(|| key_of(arena, a).cmp(key_of(arena, b))).then(a.at.cmp(&b.at))
    });
    let before = index.len();
    let mut kept = 0;
    for next in 0..before {
        let same = kept > 0
            && index[kept - 1].prefix == index[next].prefix
            && key_of(arena, &index[kept - 1]) == key_of(arena, &index[next]);
        if !same {
            kept += 1;
        }
        index[kept - 1] = index[next];
    }
    index.truncate(kept);
    (before - kept) as u64
}

fn prefix(key: &[u8]) -> Prefix {
    let mut first = [0; size_of::<Prefix>()];
    let len = key.len().min(first.len());
    first[..len].copy_from_slice(&key[..len]);
    Prefix::from_be_bytes(first)
}

fn key_of<'a>(arena: &'a [u8], entry: &Entry) -> &'a [u8] {
    &arena[entry.at..entry.at + entry.key as usize]
}

fn value_of<'a>(arena: &'a [u8], entry: &Entry) -> &'a [u8] {
    let at = entry.at + entry.key as usize;
    &arena[at..at + entry.value as usize]
}

/// Writes a run: of each record the lengths of key and value, four bytes each, little endian, then
/// both.
struct RunWriter {
    path: PathBuf,
    file: BufWriter<File>,
    written: u64,
    starts: Box<[u64; 257]>,
    /// How many of the starts are known.
    begun: usize,
}

impl RunWriter {
    fn create(path: PathBuf) -> io::Result<Self> {
        let file = BufWriter::with_capacity(BUFFER, File::create_new(&path)?);
        Ok(Self { path, file, written: 0, starts: Box::new([0; 257]), begun: 0 })
    }

    fn write(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let first = key.first().map_or(0, |byte| usize::from(*byte));
        while self.begun <= first {
            self.starts[self.begun] = self.written;
            self.begun += 1;
        }
        // Both are below 4 GiB: `push` has looked.
        let lengths = [key.len() as u32, value.len() as u32].map(u32::to_le_bytes);
        self.file.write_all(lengths.as_flattened())?;
        self.file.write_all(key)?;
        self.file.write_all(value)?;
        self.written += (LENGTHS + key.len() + value.len()) as u64;
        Ok(())
    }

    fn finish(mut self, replaced: u64) -> io::Result<Spilled> {
        self.file.flush()?;
        self.starts[self.begun..].fill(self.written);
        Ok(Spilled { path: self.path, starts: self.starts, replaced })
    }
}

/// Bytes of the lengths before a record of a run.
const LENGTHS: usize = 8;

/// Records in the order of their keys: all, or those of a part.
pub(super) struct Sorted(Source);

enum Source {
    /// `next` is `None` until the index is sorted.
    Memory {
        arena: Arc<Vec<u8>>,
        index: Vec<Entry>,
        next: Option<usize>,
        replaced: u64,
    },
    Merge(Merge),
}

impl Sorted {
    /// The next record.
    pub(super) fn next(&mut self) -> io::Result<Option<(&[u8], &[u8])>> {
        match &mut self.0 {
            Source::Memory { arena, index, next, replaced } => {
                let at = next.unwrap_or_else(|| {
                    *replaced = sort(arena, index);
                    0
                });
                *next = Some(at + 1);
                let Some(entry) = index.get(at) else { return Ok(None) };
                Ok(Some((key_of(arena, entry), value_of(arena, entry))))
            }
            Source::Merge(merge) => merge.next(),
        }
    }

    /// How many records gave way to a later one of their key; known once all were given out.
    pub(super) fn replaced(&self) -> u64 {
        match &self.0 {
            Source::Memory { replaced, .. } => *replaced,
            Source::Merge(merge) => merge.replaced,
        }
    }
}

/// One run, or a part of it, at one of its records.
struct Head {
    file: File,
    /// Bytes that were not read of it yet.
    left: u64,
    buffer: Vec<u8>,
    /// What is read and not passed of the buffer: it begins with the record.
    from: usize,
    to: usize,
    prefix: Prefix,
    key: usize,
    value: usize,
}

impl Head {
    fn open(run: &Spilled, (first, end): (usize, usize)) -> io::Result<Self> {
        let mut file = File::open(&run.path)?;
        file.seek(SeekFrom::Start(run.starts[first]))?;
        let left = run.starts[end] - run.starts[first];
        let buffer = vec![0; BUFFER];
        Ok(Self { file, left, buffer, from: 0, to: 0, prefix: 0, key: 0, value: 0 })
    }

    /// Goes to the next record; false at the end. The first call goes to the first one.
    fn advance(&mut self) -> io::Result<bool> {
        if self.to > 0 {
            self.from += LENGTHS + self.key + self.value;
        }
        if self.left == 0 && self.from == self.to {
            return Ok(false);
        }
        self.fill(LENGTHS)?;
        let length = |at: usize| {
            let bytes = self.buffer[self.from + at..].first_chunk().expect("it was filled");
            u32::from_le_bytes(*bytes) as usize
        };
        (self.key, self.value) = (length(0), length(4));
        self.fill(LENGTHS + self.key + self.value)?;
        self.prefix = prefix(self.key());
        Ok(true)
    }

    /// Has so many bytes in the buffer.
    fn fill(&mut self, wanted: usize) -> io::Result<()> {
        if self.to - self.from >= wanted {
            return Ok(());
        }
        self.buffer.copy_within(self.from..self.to, 0);
        (self.from, self.to) = (0, self.to - self.from);
        if wanted > self.buffer.len() {
            self.buffer.resize(wanted, 0);
        }
        while self.to < wanted {
            let room = (self.buffer.len() - self.to) as u64;
            let end = self.to + room.min(self.left) as usize;
            let got = self.file.read(&mut self.buffer[self.to..end])?;
            if got == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.to += got;
            self.left -= got as u64;
        }
        Ok(())
    }

    fn key(&self) -> &[u8] {
        let from = self.from + LENGTHS;
        &self.buffer[from..from + self.key]
    }

    fn value(&self) -> &[u8] {
        let from = self.from + LENGTHS + self.key;
        &self.buffer[from..from + self.value]
    }

    fn has_key_of(&self, other: &Self) -> bool {
        self.prefix == other.prefix && self.key() == other.key()
    }
}

/// Merges runs, the oldest first among those with the same key.
struct Merge {
    heads: Vec<Head>,
    /// Those that have a record, as a heap: the one before all others is the first.
    order: Vec<usize>,
    /// The first one's record was given out.
    given: bool,
    replaced: u64,
}

impl Merge {
    /// Runs, the oldest first; of each the records whose keys begin with these bytes.
    fn open(runs: &[Spilled], bytes: (usize, usize)) -> io::Result<Self> {
        let mut merge = Self { heads: Vec::new(), order: Vec::new(), given: false, replaced: 0 };
        for run in runs {
            let mut head = Head::open(run, bytes)?;
            if head.advance()? {
                merge.order.push(merge.heads.len());
                merge.heads.push(head);
            }
        }
        (0..merge.order.len()).rev().for_each(|at| merge.sink(at));
        Ok(merge)
    }

    fn is_before(&self, a: usize, b: usize) -> bool {
        let (one, other) = (&self.heads[a], &self.heads[b]);
        let order = one.prefix.cmp(&other.prefix);
        order.then_with(|| one.key().cmp(other.key())).then(a.cmp(&b)).is_lt()
    }

    /// Moves what is at this place of the heap down to where it belongs.
    fn sink(&mut self, mut at: usize) {
        loop {
            let mut least = at;
            for child in [at * 2 + 1, at * 2 + 2] {
                if child < self.order.len() && self.is_before(self.order[child], self.order[least])
                {
                    least = child;
                }
            }
            if least == at {
                return;
            }
            self.order.swap(at, least);
            at = least;
        }
    }

    /// The first run goes to its next record.
    fn pass(&mut self) -> io::Result<()> {
        if !self.heads[self.order[0]].advance()? {
            self.order.swap_remove(0);
        }
        self.sink(0);
        Ok(())
    }

    fn next(&mut self) -> io::Result<Option<(&[u8], &[u8])>> {
        if std::mem::take(&mut self.given) {
            self.pass()?;
        }
        // The second of all is one of the two below the first.
        while let Some(&first) = self.order.first() {
            let mut below = self.order.iter().skip(1).take(2);
            if !below.any(|&next| self.heads[next].has_key_of(&self.heads[first])) {
                self.given = true;
                return Ok(Some((self.heads[first].key(), self.heads[first].value())));
            }
            self.replaced += 1;
            self.pass()?;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn check(memory: usize, (count, keys): (u32, u32), at_least: u64, parts: usize) {
        let dir = tempfile::tempdir().unwrap();
        let mut sorter = Sorter::new(dir.path(), "t", memory);
        let mut wanted = BTreeMap::new();
        let mut state = 7_u32;
        for n in 0..count {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // First bytes as of slots, and some beyond.
            let number = (state >> 8) % keys;
            let first = (number % 67) as u8;
            let key = [&[first][..], format!("-key-{number}").as_bytes()].concat();
            sorter.push(&key, &[b"v", &n.to_be_bytes()]).unwrap();
            wanted.insert(key, [b"v", &n.to_be_bytes()[..]].concat());
        }
        assert!(sorter.runs() >= at_least, "{} runs", sorter.runs());
        let (mut found, mut replaced) = (Vec::new(), 0);
        for mut sorted in sorter.finish(parts).unwrap() {
            while let Some((key, value)) = sorted.next().unwrap() {
                found.push((key.to_vec(), value.to_vec()));
            }
            replaced += sorted.replaced();
        }
        assert_eq!(replaced, u64::from(count) - wanted.len() as u64);
        assert_eq!(found, wanted.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn what_fits_into_memory_is_sorted_there() {
        for parts in [1, 2, 64] {
            check(1 << 20, (1000, 400), 0, parts);
            check(1 << 20, (0, 1), 0, parts);
        }
    }

    #[test]
    fn runs_on_disk_are_merged_and_the_last_one_of_a_key_stays() {
        for parts in [1, 8, 64] {
            check(8 << 10, (2000, 700), 10, parts);
            // More runs than are merged at a time.
            check(1 << 10, (4000, 900), 100, parts);
        }
    }
}
