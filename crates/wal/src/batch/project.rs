//! The part of a batch that one target gets.

use keyspace::{Slot, SlotSet, shard};

use super::builder::{begin, delete_range, set_count};
use super::reader::Reader;
use super::{BatchError, BatchRef, HEADER, Record};

/// What was left of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Projection {
    /// No record is left: the batch only moves the position (and carries its tags).
    pub emptied: bool,
    /// Nothing was taken away: the bytes are those of the source.
    pub whole: bool,
}

/// What becomes of one record.
enum Fate {
    Keep,
    Drop,
    Clip,
}

/// Appends to `out` the batch as a target with the slots `keep` gets it: records of the node-local
/// column family and of other slots go, range deletes are clipped; log data stays, and so do the
/// records of no slot, which belong to every shard.
///
/// The result is a valid batch with the source's sequence. Its count is that of what is left, which
/// a clipped range delete can make greater or smaller than the source's. On an error `out` is as it
/// was.
pub fn project(
    batch: &BatchRef<'_>,
    keep: &SlotSet,
    out: &mut Vec<u8>,
) -> Result<Projection, BatchError> {
    let start = out.len();
    begin(out, batch.sequence());
    let result = copy(batch, keep, out);
    match result {
        Ok((count, whole)) => {
            set_count(&mut out[start..], count);
            Ok(Projection { emptied: count == 0, whole })
        }
        Err(error) => {
            out.truncate(start);
            Err(error)
        }
    }
}

/// Copies runs of records that stay: one copy for a batch that stays whole.
fn copy(
    batch: &BatchRef<'_>,
    keep: &SlotSet,
    out: &mut Vec<u8>,
) -> Result<(u32, bool), BatchError> {
    let bytes = batch.bytes();
    let mut reader = Reader::new(bytes);
    let (mut run, mut count, mut index, mut whole) = (HEADER, 0_u32, 0, true);
    loop {
        let at = reader.offset();
        let Some(record) = reader.next()? else {
            out.extend_from_slice(&bytes[run..at]);
            return Ok((count, whole));
        };
        let fate = fate(&record, keep).ok_or(BatchError::NoSlot { record: index })?;
        index += 1;
        if matches!(fate, Fate::Keep) {
            count += u32::from(record.cf().is_some());
            continue;
        }
        whole = false;
        out.extend_from_slice(&bytes[run..at]);
        run = reader.offset();
        if let (Fate::Clip, Record::DeleteRange { cf, begin, end }) = (fate, record) {
            for (begin, end) in clip(begin, end, keep) {
                delete_range(out, cf, &begin, &end);
                count += 1;
            }
        }
    }
}

/// `None`: a key that begins with no slot.
fn fate(record: &Record<'_>, keep: &SlotSet) -> Option<Fate> {
    let Some(cf) = record.cf() else { return Some(Fate::Keep) };
    if !cf.is_shipped() {
        return Some(Fate::Drop);
    }
    match record {
        Record::DeleteRange { begin, end, .. } => {
            let inside = keep.ranges().iter().any(|range| {
                let (first, after) = bounds(range.first, range.last);
                first.as_slice() <= *begin && *end <= after.as_slice()
            });
            Some(if inside && begin < end { Fate::Keep } else { Fate::Clip })
        }
        Record::Put { key, .. }
        | Record::Delete { key, .. }
        | Record::SingleDelete { key, .. }
        | Record::Merge { key, .. } => {
            if shard::is_of_shard(key) {
                return Some(Fate::Keep);
            }
            let slot = Slot::of_encoded(key)?;
            Some(if keep.contains(slot) { Fate::Keep } else { Fate::Drop })
        }
        Record::LogData(_) => Some(Fate::Keep),
    }
}

/// The parts of a range of keys that lie in these slots.
fn clip<'a>(
    begin: &'a [u8],
    end: &'a [u8],
    keep: &'a SlotSet,
) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> + 'a {
    keep.ranges().iter().filter_map(move |range| {
        let (first, after) = bounds(range.first, range.last);
        let (begin, end) = (begin.max(&first), end.min(&after));
        (begin < end).then(|| (begin.to_vec(), end.to_vec()))
    })
}

/// The first key of a range of slots, and the first key after it.
fn bounds(first: Slot, last: Slot) -> ([u8; 2], [u8; 2]) {
    (first.prefix(), (last.number() + 1).to_be_bytes())
}
