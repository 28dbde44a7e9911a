use keyspace::{Cf, Hlc, SlotSet};
use proptest::collection::vec;
use proptest::prelude::*;
use wal::batch::BatchRef;
use wal::frame::{Codec, FrameBuilder, FrameError, FrameHeader, FrameRef, PushError};
use wal::{Chain, Sequence, TimelineId};

use crate::make::{self, Op};

/// Reads a frame to the last byte of its last batch.
fn read(bytes: &[u8]) -> Result<Option<Vec<Vec<u8>>>, FrameError> {
    let Some((frame, len)) = FrameRef::parse(bytes)? else { return Ok(None) };
    assert_eq!(len, frame.bytes().len());
    let mut scratch = Vec::new();
    let body = frame.decode(&mut scratch)?;
    Ok(Some(body.batches().map(|b| b.batch.bytes().to_vec()).collect()))
}

fn projected(batches: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let project = |bytes: &Vec<u8>| {
        let mut out = Vec::new();
        let batch = BatchRef::parse(bytes).unwrap();
        wal::batch::project(&batch, &SlotSet::all(), &mut out).unwrap();
        out
    };
    batches.iter().map(project).collect()
}

/// With its checksum made good, as a broken sender would send it.
fn resealed(header: FrameHeader, body: &[u8]) -> Vec<u8> {
    let body_crc = crc32c::crc32c(body);
    let header = FrameHeader { body_crc, body_len: body.len() as u32, ..header };
    [&header.encode()[..], body].concat()
}

proptest! {
    #[test]
    fn any_bytes_are_a_frame_or_not(bytes in vec(any::<u8>(), 0..300), magic in any::<bool>()) {
        let bytes = if magic { [b"GWFR\x01\0\0\0", &bytes[..]].concat() } else { bytes };
        let _ = read(&bytes);
    }

    #[test]
    fn any_body_behind_a_good_header_is_batches_or_an_error(
        body in vec(any::<u8>(), 0..200),
        codec in make::codecs(),
        raw_len in 0_u32..4096,
    ) {
        let batches = make::run(&[vec![Op::Tag(1, 1)]]);
        let header = *FrameRef::parse(&make::frame(&batches, Codec::None)).unwrap().unwrap().0.header();
        let _ = read(&resealed(FrameHeader { codec, raw_len, ..header }, &body));
    }

    #[test]
    fn batches_read_back_from_a_frame(batches in make::runs(), codec in make::codecs()) {
        let bytes = make::frame(&batches, codec);
        prop_assert_eq!(read(&bytes).unwrap(), Some(projected(&batches)));
        let (frame, _) = FrameRef::parse(&bytes).unwrap().unwrap();
        let tags = batches.iter().flat_map(|b| BatchRef::parse(b).unwrap().tags()).map(Result::unwrap);
        let (epoch, stamp) = tags.fold((0, Hlc(0)), |(e, s), t| (t.epoch.max(e), t.stamp.max(s)));
        prop_assert_eq!((frame.header().epoch, frame.header().stamp), (epoch, stamp));
    }

    #[test]
    fn a_cut_frame_is_not_there_yet(batches in make::runs(), codec in make::codecs()) {
        let bytes = make::frame(&batches, codec);
        for cut in 0..bytes.len() {
            prop_assert_eq!(read(&bytes[..cut]), Ok(None), "cut at {}", cut);
        }
    }

    #[test]
    fn a_frame_with_any_bit_flipped_is_refused(batches in make::runs(), codec in make::codecs()) {
        let mut bytes = make::frame(&batches, codec);
        let step = bytes.len() * 8 / 2048 + 1;
        for bit in (0..bytes.len() * 8).filter(|bit| bit % step == 0 || *bit < FrameHeader::LEN * 8) {
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(read(&bytes).is_err(), "bit {}", bit);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn a_stream_goes_on_from_frame_to_frame_and_across_a_timeline() {
    let batches = make::run(&[
        vec![Op::Put(Cf::Meta, vec![0, 1], vec![1]), Op::Tag(3, 10)],
        vec![Op::Put(Cf::System, vec![1], vec![1]), Op::Tag(2, 30)],
        vec![Op::Tag(2, 20)],
    ]);
    let parsed: Vec<_> = batches.iter().map(|b| BatchRef::parse(b).unwrap()).collect();
    let next = TimelineId(0xbeef);
    let mut builder = FrameBuilder::new(make::position(0), Chain(77), 0, Hlc(0));
    assert_eq!(builder.finish(Codec::None, Chain::START), None);

    builder.push(&parsed[0], &SlotSet::all()).unwrap();
    assert_eq!(builder.begin_timeline(next), Err(PushError::Timeline(next)));
    let first = builder.finish(Codec::None, Chain(1)).unwrap();
    builder.begin_timeline(next).unwrap();
    builder.push(&parsed[1], &SlotSet::all()).unwrap();
    builder.push(&parsed[2], &SlotSet::all()).unwrap();
    let second = builder.finish(Codec::None, Chain(2)).unwrap();

    let [first, second] =
        [&first, &second].map(|f| *FrameRef::parse(f).unwrap().unwrap().0.header());
    assert_eq!((first.start, first.end), (make::position(0), make::position(1)));
    assert_eq!((second.start, second.end.timeline), (first.end, next));
    assert_eq!(second.end.sequence, Sequence(2));
    assert_eq!((first.chain_before, second.chain_before), (Chain(77), first.chain));
    assert_eq!((first.epoch, second.epoch, second.stamp), (3, 3, Hlc(30)));
    assert_eq!((first.log_chain, second.log_chain), (Chain(1), Chain(2)));
}

#[test]
fn a_batch_that_does_not_follow_is_a_gap_and_changes_nothing() {
    let batches = make::run(&[vec![Op::Delete(Cf::Data, vec![0, 0])], vec![Op::Tag(1, 1)]]);
    let mut builder = FrameBuilder::new(make::position(4), Chain::START, 0, Hlc(0));
    let gap = PushError::Gap { expected: Sequence(5), found: Sequence(1) };
    assert_eq!(builder.push(&BatchRef::parse(&batches[0]).unwrap(), &SlotSet::all()), Err(gap));
    assert!(builder.is_empty() && builder.end() == make::position(4));
}

#[test]
fn frames_of_a_broken_sender_are_refused() {
    let batches = make::run(&[
        vec![Op::Put(Cf::Data, vec![0, 7, 1], b"value".to_vec())],
        vec![Op::Delete(Cf::Data, vec![0, 7, 1])],
    ]);
    let bytes = make::frame(&batches, Codec::None);
    let header = *FrameRef::parse(&bytes).unwrap().unwrap().0.header();
    let body = &bytes[FrameHeader::LEN..];
    let end = make::position(9);
    for (header, expected) in [
        (FrameHeader { end, ..header }, FrameError::End { said: Sequence(9), found: Sequence(2) }),
        (
            FrameHeader { start: make::position(1), ..header },
            FrameError::Gap { expected: Sequence(2), found: Sequence(1) },
        ),
        (
            FrameHeader { chain: Chain(1), ..header },
            FrameError::Chain { said: Chain(1), found: header.chain },
        ),
        (FrameHeader { batches: 3, ..header }, FrameError::Batches { said: 3, found: 2 }),
        (FrameHeader { batches: 0, ..header }, FrameError::Empty),
        (
            FrameHeader { raw_len: 1, ..header },
            FrameError::RawLength { said: 1, found: body.len() },
        ),
        (
            FrameHeader { raw_len: u32::MAX, ..header },
            FrameError::TooLarge { len: u64::from(u32::MAX) },
        ),
        (
            FrameHeader { start: end, ..header },
            FrameError::Backwards { start: end, end: header.end },
        ),
    ] {
        assert_eq!(read(&resealed(header, body)), Err(expected));
    }
    // The node-local column family never travels.
    let local = make::run(&[vec![Op::Put(Cf::System, vec![1], vec![])]]).remove(0);
    let len = (local.len() as u32).to_le_bytes();
    let body = [&1_u32.to_le_bytes()[..], &len, &local].concat();
    let raw_len = body.len() as u32;
    let header = FrameHeader { raw_len, batches: 1, ..header };
    assert_eq!(read(&resealed(header, &body)), Err(FrameError::Local));
}
