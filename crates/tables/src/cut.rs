//! Table files for a node of another shape, one after the other: each of one family and one run of
//! slots, cut by size, and handed over as soon as it is whole.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use keyspace::{Cf, Slot, SlotSet, shard};
use rocksdb::{BlockBasedOptions, DBCompressionType, Options, SstFileWriter};

use crate::Sink;

/// A table file that is whole and on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its number: 0, 1 and so on.
    pub index: u32,
    /// Whose records are in it.
    pub family: Cf,
    /// Where it is.
    pub path: PathBuf,
    /// Its bytes.
    pub size: u64,
}

/// Cuts records into files.
pub struct Cut<'a> {
    dir: &'a Path,
    slots: &'a SlotSet,
    /// A file is closed at about so many bytes of records.
    file_bytes: u64,
    /// Takes each file; an error stops the copying.
    done: &'a mut dyn FnMut(Piece) -> anyhow::Result<()>,
    options: &'a Options,
    open: Option<Open<'a>>,
    next: u32,
}

/// The file that is being written.
struct Open<'a> {
    writer: SstFileWriter<'a>,
    family: Cf,
    path: PathBuf,
    /// Which run of the slots; `None` for records of no slot.
    run: Option<usize>,
    bytes: u64,
}

impl<'a> Cut<'a> {
    /// Files in `dir`, of records of these slots and of no slot; see [`table`] for the options.
    pub fn new(
        options: &'a Options,
        dir: &'a Path,
        slots: &'a SlotSet,
        file_bytes: u64,
        done: &'a mut dyn FnMut(Piece) -> anyhow::Result<()>,
    ) -> Self {
        Self { dir, slots, file_bytes, done, options, open: None, next: 0 }
    }

    /// Ends the last file; how many there were.
    ///
    /// # Errors
    /// It cannot be written, or nobody takes it.
    pub fn finish(mut self) -> anyhow::Result<u32> {
        self.close()?;
        Ok(self.next)
    }

    fn close(&mut self) -> anyhow::Result<()> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        let what = || format!("writing {}", open.path.display());
        open.writer.finish().with_context(what)?;
        let size = std::fs::metadata(&open.path).with_context(what)?.len();
        let piece = Piece { index: self.next, family: open.family, path: open.path, size };
        self.next += 1;
        (self.done)(piece)
    }

    /// Which run of the slots a record is of; `None` for one of no slot.
    fn run_of(&self, key: &[u8]) -> anyhow::Result<Option<usize>> {
        if shard::is_of_shard(key) {
            return Ok(None);
        }
        let slot = Slot::of_encoded(key).context("a record without a slot")?;
        let ranges = self.slots.ranges();
        let run = ranges.partition_point(|range| range.first <= slot).checked_sub(1);
        match run.filter(|run| slot <= ranges[*run].last) {
            Some(run) => Ok(Some(run)),
            None => bail!("a record of slot {slot}, which was not asked for"),
        }
    }
}

impl Sink for Cut<'_> {
    fn put(&mut self, cf: Cf, key: &[u8], value: &[u8]) -> anyhow::Result<()> {
        let run = self.run_of(key)?;
        let ends = self.open.as_ref().is_some_and(|open| {
            open.family != cf || open.run != run || open.bytes >= self.file_bytes
        });
        if ends {
            self.close()?;
        }
        if self.open.is_none() {
            if !cf.is_shipped() {
                bail!("node-local records are not copied");
            }
            let path = self.dir.join(format!("{:06}.sst", self.next));
            let writer = SstFileWriter::create(self.options);
            writer.open(&path).with_context(|| format!("creating {}", path.display()))?;
            self.open = Some(Open { writer, family: cf, path, run, bytes: 0 });
        }
        let open = self.open.as_mut().context("one was begun")?;
        open.writer.put(key, value).context("writing a table file")?;
        open.bytes += (key.len() + value.len()) as u64;
        Ok(())
    }
}

/// How files are written: as the node that takes them in would, but for what depends on its memory.
pub fn table() -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_size(8 << 10);
    table.set_format_version(6);
    table.set_bloom_filter(10.0, false);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::Lz4);
    options
}

#[cfg(test)]
mod tests {
    use keyspace::{library, meta};

    use super::*;

    #[test]
    fn a_file_has_one_family_and_one_run_of_slots_and_libraries_have_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let slots: SlotSet = "0-9,20-29".parse().unwrap();
        let (options, mut made) = (table(), Vec::new());
        let mut done = |piece: Piece| {
            made.push(piece);
            Ok(())
        };
        let key = |slot: u16, name: &str| {
            let mut key = Vec::new();
            meta::encode_key(Slot::new(slot).unwrap(), name.as_bytes(), &mut key);
            key
        };
        let mut library = Vec::new();
        library::encode_key("lib", &mut library);
        let mut cut = Cut::new(&options, dir.path(), &slots, 10, &mut done);
        for (cf, key) in [
            (Cf::Meta, key(1, "a")),
            (Cf::Meta, key(9, "longer than a file")),
            (Cf::Meta, key(9, "z")),
            (Cf::Meta, key(20, "b")),
            (Cf::Data, key(21, "b")),
            (Cf::Data, library),
        ] {
            cut.put(cf, &key, b"v").unwrap();
        }
        for (cf, slot) in [(Cf::Data, 10), (Cf::Data, 30), (Cf::System, 21)] {
            assert!(cut.put(cf, &key(slot, "foreign"), b"v").is_err(), "{cf:?} {slot}");
        }
        assert_eq!(cut.finish().unwrap(), 5);
        let families: Vec<_> = made.iter().map(|piece| (piece.index, piece.family)).collect();
        let wanted = [Cf::Meta, Cf::Meta, Cf::Meta, Cf::Data, Cf::Data];
        assert_eq!(families, (0..).zip(wanted).collect::<Vec<_>>());
        for piece in &made {
            assert_eq!(std::fs::metadata(&piece.path).unwrap().len(), piece.size);
        }
    }
}
