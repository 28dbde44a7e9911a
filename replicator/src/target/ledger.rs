//! What an old primary wrote past the fork: kept in a segment file, and what it touched.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use keyspace::{Cf, Hlc, Slot, SlotRange, SlotSet, meta, shard};
use wal::batch::{BatchRef, Record};
use wal::frame::{Codec, FrameBuilder};
use wal::segment::SegmentHeader;
use wal::{Chain, Position};

use crate::cursor::Cursor;
use crate::ledger::Touched;

/// The most keys of a rewind; beyond it a seed is cheaper.
const KEYS_MAX: usize = 1_000_000;
/// The most bytes of their names.
const KEY_BYTES_MAX: usize = 256 << 20;
/// The most records of no slot of a rewind.
const RECORDS_MAX: usize = 100_000;
/// The most bytes of them, which are kept here until the ledger is written.
const RECORD_BYTES_MAX: usize = 64 << 20;
/// The most ranges of slots that may have been emptied.
const FLUSHES_MAX: usize = 4096;
/// A frame of the ledger is finished at this size.
const FRAME_BYTES: usize = 1 << 20;

/// A load that was taken in past the fork.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StrandedLoad {
    /// The batch that announced it.
    pub touched: Touched,
    /// Its id.
    pub id: u128,
    /// The stamp of its records.
    pub stamp: Hlc,
    /// The slots that were taken in.
    pub slots: SlotSet,
    /// The directory of its files, in the node's `loads`.
    pub dir: String,
}

/// What is stranded.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Stranded {
    /// The keys whose records were changed, each with the last batch that did.
    pub keys: BTreeMap<Vec<u8>, Touched>,
    /// The raw keys of records of no slot that were changed, each with the last batch that did and what
    /// that put.
    pub records: BTreeMap<Vec<u8>, (Touched, Option<Vec<u8>>)>,
    /// The slots that were emptied, each run with the last batch that did.
    pub flushed: Vec<(Touched, SlotSet)>,
    /// Loads that were taken in.
    pub loads: Vec<StrandedLoad>,
    /// The batches that hold more than node-local state.
    pub batches: u64,
    /// Why what they touched cannot all be told, and a seed is needed.
    pub untold: Option<String>,
    /// The highest stamp up to the fork.
    pub stamp: Hlc,
    bytes: usize,
    record_bytes: usize,
}

impl Stranded {
    /// All slots that were emptied.
    pub fn flushed_slots(&self) -> SlotSet {
        let ranges = self.flushed.iter().flat_map(|(_, slots)| slots.ranges().to_vec());
        SlotSet::from_ranges(ranges)
    }

    /// Adds a record of no slot, as it was put; none: it was deleted.
    fn touch_record(
        &mut self,
        key: &[u8],
        touched: Touched,
        value: Option<&[u8]>,
    ) -> Result<(), String> {
        let before = self.records.insert(key.to_vec(), (touched, value.map(<[u8]>::to_vec)));
        let held = before.map_or(0, |(_, value)| key.len() + value.map_or(0, |v| v.len()));
        self.record_bytes += key.len() + value.map_or(0, <[u8]>::len);
        self.record_bytes -= held;
        if self.records.len() > RECORDS_MAX || self.record_bytes > RECORD_BYTES_MAX {
            return Err(format!(
                "it changed more than {RECORDS_MAX} users and libraries of functions, or {RECORD_BYTES_MAX} bytes of them, past the fork"
            ));
        }
        Ok(())
    }

    /// Adds a key.
    pub fn touch(&mut self, key: &[u8], touched: Touched) -> Result<(), String> {
        if let Some(known) = self.keys.get_mut(key) {
            *known = touched;
            return Ok(());
        }
        if self.keys.len() >= KEYS_MAX || self.bytes + key.len() > KEY_BYTES_MAX {
            return Err(format!("it changed more than {KEYS_MAX} keys past the fork"));
        }
        self.bytes += key.len();
        self.keys.insert(key.to_vec(), touched);
        Ok(())
    }
}

/// Adds what a batch changed. In words, why it cannot be told.
pub fn stranded_keys(batch: &BatchRef<'_>, into: &mut Stranded) -> Result<(), String> {
    let load = |tag: &wal::Tag| tag.kind == wal::Kind::Load;
    if batch.tags().flatten().any(|tag| load(&tag)) {
        into.batches += 1;
        return Ok(());
    }
    if batch.is_local() {
        return Ok(());
    }
    into.batches += 1;
    let stamp = batch.tags().flatten().map(|tag| tag.stamp).max().unwrap_or_default();
    let touched = Touched { stamp, end: batch.end() };
    for record in batch.records() {
        let (cf, key) = match record {
            Record::LogData(_) => continue,
            Record::DeleteRange { cf: Cf::System, .. } => continue,
            Record::DeleteRange { end, .. } if end > &shard::PREFIX[..] => {
                return Err("it deleted a range of records of no slot past the fork".to_owned());
            }
            Record::DeleteRange { cf, begin, end } => {
                match key_of(cf, begin)? {
                    // A range within one key's records.
                    Some(key) if key_of(cf, end)? == Some(key) || cf != Cf::Meta => {
                        into.touch(key, touched)?;
                    }
                    _ => flush(begin, end, touched, into)?,
                }
                continue;
            }
            Record::Put { cf: Cf::Data, key, value } if shard::is_of_shard(key) => {
                into.touch_record(key, touched, Some(value))?;
                continue;
            }
            Record::Delete { cf: Cf::Data, key } if shard::is_of_shard(key) => {
                into.touch_record(key, touched, None)?;
                continue;
            }
            Record::Put { cf, key, .. }
            | Record::Delete { cf, key }
            | Record::SingleDelete { cf, key }
            | Record::Merge { cf, key, .. } => (cf, key),
        };
        if cf != Cf::System && shard::is_of_shard(key) {
            return Err("it changed a record of no slot past the fork in a way that is not known"
                .to_owned());
        }
        if let Some(key) = key_of(cf, key)? {
            into.touch(key, touched)?;
        }
    }
    Ok(())
}

/// Whose record it is; `None` for node-local state and for the bound of a slot.
fn key_of(cf: Cf, raw: &[u8]) -> Result<Option<&[u8]>, String> {
    if cf == Cf::System || raw.len() <= 2 {
        return Ok(None);
    }
    let key = match cf {
        Cf::System => return Ok(None),
        Cf::Meta => meta::decode_key(raw).map(|(_, key)| key),
        // Both begin with slot, length and key; the bound of a range may end there.
        Cf::Data | Cf::Score => {
            let length = raw.get(2..6).and_then(|l| <[u8; 4]>::try_from(l).ok());
            let length = length.map_or(usize::MAX, |l| u32::from_be_bytes(l) as usize);
            let key = length.checked_add(6).and_then(|end| raw.get(6..end));
            return key.map(Some).ok_or_else(|| "a record whose key is cut off".to_owned());
        }
    };
    key.map(Some).map_err(|error| error.to_string())
}

/// A range of slots was emptied; the range of each family says so.
fn flush(begin: &[u8], end: &[u8], touched: Touched, into: &mut Stranded) -> Result<(), String> {
    let bound = |raw: &[u8]| raw.first_chunk::<2>().map(|prefix| u16::from_be_bytes(*prefix));
    let (first, after) = bound(begin).zip(bound(end)).ok_or("a range without slots")?;
    let last = if end.len() > 2 { Some(after) } else { after.checked_sub(1) };
    let range = Slot::new(first).zip(last.and_then(Slot::new));
    let (first, last) = range.ok_or("it deleted a range beyond the slots past the fork")?;
    let slots = SlotSet::from_ranges([SlotRange { first, last }]);
    if let Some((known, _)) = into.flushed.iter_mut().find(|(_, known)| *known == slots) {
        *known = touched;
    } else if into.flushed.len() < FLUSHES_MAX {
        into.flushed.push((touched, slots));
    } else {
        return Err(format!("it deleted more than {FLUSHES_MAX} ranges past the fork"));
    }
    Ok(())
}

/// Reads the node's own log from the fork (where the cursor stands) to `end`, writes it to the
/// ledger, synced, and answers what it touched and where it is written. The segment is whole also
/// where the keys cannot all be told ([`Stranded::untold`]): then the node is seeded, and it is all
/// that is left of them.
pub fn write_ledger(
    mut cursor: Cursor,
    end: Position,
    slots: &SlotSet,
    service: &str,
    shard: &str,
    dir: &Path,
) -> Result<(Stranded, PathBuf), String> {
    let fork = cursor.position();
    let mut stranded = Stranded { stamp: cursor.highest().1, ..Stranded::default() };
    fs::create_dir_all(dir).map_err(|error| format!("cannot create {}: {error}", dir.display()))?;
    let name = format!("{}-{}-{}.seg", fork.timeline, fork.sequence, end.sequence);
    let (path, new) = (dir.join(&name), dir.join(format!("{name}.new")));
    let failed =
        |error: std::io::Error| format!("cannot write the ledger {}: {error}", new.display());
    let mut file = File::create(&new).map_err(failed)?;
    let header = SegmentHeader {
        service: SegmentHeader::service_of(service),
        source: shard.to_owned(),
        start: fork,
        chain: Chain::START,
    };
    file.write_all(&header.encode().map_err(|e| e.to_string())?).map_err(failed)?;
    let (epoch, stamp) = cursor.highest();
    let mut builder = FrameBuilder::new(fork, Chain::START, epoch, stamp);
    let mut chain = cursor.chain();
    while cursor.position().sequence < end.sequence {
        if !cursor.advance().map_err(|error| error.to_string())? {
            return Err(format!("its log ends at {} and not at {end}", cursor.position()));
        }
        let batch = cursor.batch().map_err(|error| error.to_string())?;
        let started = cursor.started().and_then(|h| h.current()).map(|s| s.timeline);
        if started.is_some() || builder.raw_len() >= FRAME_BYTES {
            if let Some(frame) = builder.finish(Codec::Zstd, chain) {
                file.write_all(&frame).map_err(failed)?;
            }
            if let Some(timeline) = started {
                builder.begin_timeline(timeline).map_err(|error| error.to_string())?;
            }
        }
        builder.push(&batch, slots).map_err(|error| error.to_string())?;
        if stranded.stamp == Hlc(0)
            && let Some(tag) = batch.tags().flatten().next()
        {
            // The fork lies where a file begins: stamps rise along a log.
            stranded.stamp = Hlc(tag.stamp.0.saturating_sub(1));
        }
        if stranded.untold.is_none() {
            stranded.untold = stranded_keys(&batch, &mut stranded).err();
        }
        if let Some(load) = cursor.load() {
            let stamp = batch.tags().flatten().map(|tag| tag.stamp).max().unwrap_or_default();
            stranded.loads.push(StrandedLoad {
                touched: Touched { stamp, end: batch.end() },
                id: load.marker(),
                stamp: load.stamp,
                slots: load.slots.clone(),
                dir: load.dir.clone(),
            });
        }
        chain = cursor.chain();
    }
    if let Some(frame) = builder.finish(Codec::Zstd, chain) {
        file.write_all(&frame).map_err(failed)?;
    }
    file.sync_all().map_err(failed)?;
    fs::rename(&new, &path).map_err(failed)?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
    Ok((stranded, path))
}
