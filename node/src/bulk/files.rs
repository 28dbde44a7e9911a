//! Table files: written in the order of their records, cut by size and at the bounds of shards.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use ::store::ObjectId;
use ::store::load::{ContentHash, Family, LoadFile};
use anyhow::{Context, bail};
use keyspace::{Cf, Slot, SlotRange, SlotSet};
use rocksdb::{Options, SstFileWriter};
use tables::Sink;
use xxhash_rust::xxh3::Xxh3;

/// How the files of a load are written, whoever writes them.
pub(super) struct Layout {
    pub(super) dir: PathBuf,
    /// By family, in the order of [`Family::ALL`].
    pub(super) options: [Options; 3],
    pub(super) file_size: u64,
    /// The slots of shards: no file has records of two of them.
    pub(super) split: Vec<SlotSet>,
}

/// Numbers of files that each part has for itself.
const NUMBERS_OF_PART: u32 = 100_000;

/// Writes the files of one part of a load.
pub(super) struct Files<'a> {
    layout: &'a Layout,
    open: Option<Open<'a>>,
    /// The last number of each family.
    numbers: [u32; 3],
    done: Vec<LoadFile>,
}

struct Open<'a> {
    writer: SstFileWriter<'a>,
    family: Family,
    path: PathBuf,
    first: Slot,
    last: Slot,
    shard: Option<usize>,
    records: u64,
    bytes: u64,
    content: Xxh3,
}

impl<'a> Files<'a> {
    pub(super) fn new(layout: &'a Layout, part: usize) -> Self {
        let numbers = [part as u32 * NUMBERS_OF_PART; 3];
        Self { layout, open: None, numbers, done: Vec::new() }
    }

    /// Adds the next record of a family.
    pub(super) fn put(&mut self, family: Family, key: &[u8], value: &[u8]) -> anyhow::Result<()> {
        let Some(slot) = Slot::of_encoded(key) else { bail!("a record without a slot") };
        let ends = self.open.as_ref().is_some_and(|open| {
            let crosses = slot != open.last && self.shard_of(slot) != open.shard;
            open.family != family || open.bytes >= self.layout.file_size || crosses
        });
        if ends {
            self.close()?;
        }
        if self.open.is_none() {
            self.open = Some(self.begin(family, slot)?);
        }
        let open = self.open.as_mut().expect("one was begun");
        open.writer.put(key, value).context("writing a table file")?;
        open.last = slot;
        open.records += 1;
        open.bytes += (key.len() + value.len()) as u64;
        let lengths = [key.len() as u32, value.len() as u32].map(u32::to_le_bytes);
        open.content.update(lengths.as_flattened());
        open.content.update(key);
        open.content.update(value);
        Ok(())
    }

    fn shard_of(&self, slot: Slot) -> Option<usize> {
        self.layout.split.iter().position(|slots| slots.contains(slot))
    }

    fn begin(&mut self, family: Family, slot: Slot) -> anyhow::Result<Open<'a>> {
        let index = Family::ALL.iter().position(|f| *f == family).unwrap_or_default();
        self.numbers[index] += 1;
        let path =
            self.layout.dir.join(format!("{}-{:06}.sst", family.name(), self.numbers[index]));
        let writer = SstFileWriter::create(&self.layout.options[index]);
        writer.open(&path).with_context(|| format!("creating {}", path.display()))?;
        let (records, bytes, content) = (0, 0, Xxh3::new());
        let shard = self.shard_of(slot);
        Ok(Open { writer, family, path, first: slot, last: slot, shard, records, bytes, content })
    }

    fn close(&mut self) -> anyhow::Result<()> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        open.writer.finish().with_context(|| format!("finishing {}", open.path.display()))?;
        let (size, blake3) = hash(&open.path)?;
        let name = open.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let range = SlotRange { first: open.first, last: open.last };
        self.done.push(LoadFile {
            name: name.parse()?,
            family: open.family,
            slots: SlotSet::from_ranges([range]),
            records: open.records,
            size,
            blake3,
            content: ContentHash(open.content.digest128()),
        });
        Ok(())
    }

    /// The part's files, family after family in the order of their records. Each is on disk.
    pub(super) fn finish(mut self) -> anyhow::Result<Vec<LoadFile>> {
        self.close()?;
        Ok(self.done)
    }
}

impl Sink for Files<'_> {
    fn put(&mut self, cf: Cf, key: &[u8], value: &[u8]) -> anyhow::Result<()> {
        let family = Family::ALL.into_iter().find(|family| family.cf() == cf);
        let Some(family) = family else { bail!("a load has no records of {}", cf.name()) };
        Self::put(self, family, key, value)
    }
}

/// The length and the hash of a file.
fn hash(path: &Path) -> anyhow::Result<(u64, ObjectId)> {
    let context = || format!("reading {} back", path.display());
    let mut file = File::open(path).with_context(context)?;
    let (mut hasher, mut buf, mut size) = (blake3::Hasher::new(), vec![0; 1 << 20], 0);
    loop {
        match file.read(&mut buf).with_context(context)? {
            0 => return Ok((size, ObjectId(*hasher.finalize().as_bytes()))),
            got => {
                hasher.update(&buf[..got]);
                size += got as u64;
            }
        }
    }
}
