//! Makes what the tests read: batches, frames, segments and log files of our own.

use keyspace::{Cf, Hlc, Slot, SlotRange, SlotSet};
use proptest::collection::vec;
use proptest::prelude::*;
use wal::batch::{BatchBuilder, BatchRef};
use wal::frame::{Codec, FrameBuilder};
use wal::segment::SegmentHeader;
use wal::{Chain, Kind, Position, Sequence, Tag, TimelineId};

/// The source of every position here.
pub(crate) const TIMELINE: TimelineId = TimelineId(0x7157);

/// One operation of a batch.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Put(Cf, Vec<u8>, Vec<u8>),
    Delete(Cf, Vec<u8>),
    DeleteRange(Cf, Vec<u8>, Vec<u8>),
    Tag(u64, u64),
}

pub(crate) fn position(sequence: u64) -> Position {
    Position { timeline: TIMELINE, sequence: Sequence(sequence) }
}

pub(crate) fn tag(epoch: u64, stamp: u64) -> Tag {
    Tag { kind: Kind::Data, origin: Tag::origin_of("a"), epoch, stamp: Hlc(stamp), marker: 0 }
}

pub(crate) fn batch(sequence: u64, ops: &[Op]) -> Vec<u8> {
    let mut batch = BatchBuilder::new(Sequence(sequence));
    for op in ops {
        match op {
            Op::Put(cf, key, value) => batch.put(*cf, key, value),
            Op::Delete(cf, key) => batch.delete(*cf, key),
            Op::DeleteRange(cf, begin, end) => batch.delete_range(*cf, begin, end),
            Op::Tag(epoch, stamp) => batch.log_data(&tag(*epoch, *stamp).encode()),
        };
    }
    batch.finish()
}

/// Batches one after the other from sequence 1.
pub(crate) fn run(all: &[Vec<Op>]) -> Vec<Vec<u8>> {
    let mut next = 1;
    let mut batches = Vec::new();
    for ops in all {
        let bytes = batch(next, ops);
        next += u64::from(BatchRef::parse(&bytes).unwrap().count());
        batches.push(bytes);
    }
    batches
}

/// A frame of these batches.
pub(crate) fn frame(batches: &[Vec<u8>], codec: Codec) -> Vec<u8> {
    let first = BatchRef::parse(&batches[0]).unwrap().sequence().0;
    let mut builder = FrameBuilder::new(position(first - 1), Chain::START, 0, Hlc(0));
    for bytes in batches {
        builder.push(&BatchRef::parse(bytes).unwrap(), &SlotSet::all()).unwrap();
    }
    builder.finish(codec, Chain(0xc4a1)).unwrap()
}

/// A segment file with a frame for each of these runs of batches, and where each frame ends.
pub(crate) fn segment(runs: &[Vec<Vec<u8>>], codec: Codec) -> (Vec<u8>, Vec<usize>) {
    let mut builder = FrameBuilder::new(position(0), Chain::START, 0, Hlc(0));
    let header = SegmentHeader {
        service: SegmentHeader::service_of("shop"),
        source: "a/0".to_owned(),
        start: position(0),
        chain: Chain::START,
    };
    let mut file = header.encode().unwrap();
    let mut ends = vec![file.len()];
    for batches in runs {
        for bytes in batches {
            builder.push(&BatchRef::parse(bytes).unwrap(), &SlotSet::all()).unwrap();
        }
        file.extend(builder.finish(codec, Chain(7)).unwrap());
        ends.push(file.len());
    }
    (file, ends)
}

/// RocksDB's log writer, again (`db/log_writer.cc`).
pub(crate) fn log_file(records: &[Vec<u8>]) -> (Vec<u8>, Vec<usize>) {
    let (mut file, mut ends) = (Vec::new(), Vec::new());
    for record in records {
        let mut rest = &record[..];
        let mut first = true;
        loop {
            let left = wal::log::BLOCK - file.len() % wal::log::BLOCK;
            if left < 7 {
                file.resize(file.len() + left, 0);
                continue;
            }
            let (piece, after) = rest.split_at(rest.len().min(left - 7));
            let kind = match (first, after.is_empty()) {
                (true, true) => 1,
                (true, false) => 2,
                (false, false) => 3,
                (false, true) => 4,
            };
            log_piece(&mut file, kind, piece);
            (rest, first) = (after, false);
            if rest.is_empty() {
                break;
            }
        }
        ends.push(file.len());
    }
    (file, ends)
}

pub(crate) fn log_piece(file: &mut Vec<u8>, kind: u8, piece: &[u8]) {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&[kind]), piece);
    let masked = crc.rotate_right(15).wrapping_add(0xa282_ead8);
    file.extend_from_slice(&masked.to_le_bytes());
    file.extend_from_slice(&(piece.len() as u16).to_le_bytes());
    file.push(kind);
    file.extend_from_slice(piece);
}

pub(crate) fn slot_sets() -> impl Strategy<Value = SlotSet> {
    let slot = || (0..keyspace::SLOTS).prop_map(|n| Slot::new(n).unwrap());
    vec((slot(), slot()).prop_map(|(first, last)| SlotRange { first, last }), 0..4)
        .prop_map(SlotSet::from_ranges)
}

pub(crate) fn families() -> impl Strategy<Value = Cf> {
    proptest::sample::select(Cf::ALL.to_vec())
}

/// Keys as nodes write them: a slot, then a few bytes.
pub(crate) fn keys() -> impl Strategy<Value = Vec<u8>> {
    (0..keyspace::SLOTS, vec(any::<u8>(), 0..6))
        .prop_map(|(slot, rest)| [&slot.to_be_bytes()[..], &rest].concat())
}

pub(crate) fn ops() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (families(), keys(), vec(any::<u8>(), 0..200)).prop_map(|(f, k, v)| Op::Put(f, k, v)),
        2 => (families(), keys()).prop_map(|(f, k)| Op::Delete(f, k)),
        2 => (families(), keys(), keys()).prop_map(|(f, a, b)| Op::DeleteRange(f, a, b)),
        1 => (0_u64..9, any::<u64>()).prop_map(|(e, s)| Op::Tag(e, s)),
    ]
}

/// Batches one after the other from sequence 1, some with nothing but tags, some empty.
pub(crate) fn runs() -> impl Strategy<Value = Vec<Vec<u8>>> {
    vec(vec(ops(), 0..6), 1..8).prop_map(|all| run(&all))
}

pub(crate) fn codecs() -> impl Strategy<Value = Codec> {
    proptest::sample::select(vec![Codec::None, Codec::Lz4, Codec::Zstd])
}
