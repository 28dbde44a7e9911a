//! What must hold of any bytes: no panic, and what is read is what was there.

use keyspace::{Cf, SlotSet};
use wal::batch::{BatchRef, HEADER, project};
use wal::frame::{FrameHeader, FrameRef};
use wal::log::LogDecoder;
use wal::segment::{SegmentHeader, scan};
use wal::{Continuation, History, Position, Sequence, Tag};

/// A log reads the same in one piece and byte by byte; as it is, and with its checksums made good.
pub(crate) fn log(bytes: &[u8]) {
    read_log(bytes);
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    while let Some(piece) = bytes.get_mut(at..).filter(|rest| rest.len() > 7) {
        let len = usize::from(u16::from_le_bytes([piece[4], piece[5]]));
        let Some(covered) = piece.get(6..7 + len) else { break };
        let masked = crc32c(covered).rotate_right(15).wrapping_add(0xa282_ead8);
        piece[..4].copy_from_slice(&masked.to_le_bytes());
        at += 7 + len;
    }
    read_log(&bytes);
}

fn read_log(bytes: &[u8]) {
    let mut whole = LogDecoder::new();
    whole.feed(bytes);
    let mut pieces = LogDecoder::new();
    let mut rest = bytes.chunks(if bytes.len() > 4096 { 997 } else { 1 });
    loop {
        let found = whole.next().map(|record| record.map(|r| (r.bytes.to_vec(), r.offset, r.end)));
        let again = loop {
            match pieces.next() {
                Ok(None) => {}
                Ok(Some(r)) => break Ok(Some((r.bytes.to_vec(), r.offset, r.end))),
                Err(damage) => break Err(damage),
            }
            match rest.next() {
                Some(piece) => pieces.feed(piece),
                None => break Ok(None),
            }
        };
        // A piece may be known to be bad by its header before its bytes have come, but in the end
        // the same is said.
        assert_eq!(found, again);
        let Ok(Some((record, offset, end))) = found else { break };
        assert!(offset + record.len() as u64 <= end && end <= bytes.len() as u64);
        batch(&record);
    }
    assert!(whole.end() <= whole.offset());
}

/// A batch that parses is made of its records, and its projections are batches.
pub(crate) fn batch(bytes: &[u8]) {
    let Ok(batch) = BatchRef::parse(bytes) else { return };
    let changes = batch.records().filter(|record| record.cf().is_some()).count();
    assert_eq!(changes, batch.count() as usize);
    assert!(batch.tags().count() + changes == batch.records().count());
    for keep in ["", "0-16383", "0-99,5000-16000"] {
        let keep: SlotSet = keep.parse().expect("slots");
        let mut out = Vec::new();
        let Ok(projection) = project(&batch, &keep, &mut out) else {
            assert!(out.is_empty());
            continue;
        };
        let part = BatchRef::parse(&out).expect("a projection is a batch");
        assert_eq!(part.sequence(), batch.sequence());
        assert_eq!(projection.emptied, part.count() == 0);
        assert_eq!(projection.whole, out == bytes);
        assert!(!part.touches(Cf::System) && out.len() >= HEADER);
        let mut again = Vec::new();
        let twice = project(&part, &keep, &mut again).expect("its keys have slots");
        assert!(twice.whole && again == out, "a projection projects to itself");
    }
}

/// A frame that reads is made of batches that follow each other. The checksums are made good, so
/// that what is behind them is reached.
pub(crate) fn frame(bytes: &[u8]) {
    read_frame(bytes);
    let mut bytes = bytes.to_vec();
    let Some((header, body)) = bytes.split_first_chunk_mut::<{ FrameHeader::LEN }>() else {
        return;
    };
    let codec = header[5] % 3;
    header[..8].copy_from_slice(&[b'G', b'W', b'F', b'R', 1, codec, 0, 0]);
    // Lengths that fit what there is, or almost.
    header[102..104].fill(0);
    header[104..108].copy_from_slice(&(body.len() as u32).to_le_bytes());
    header[108..112].copy_from_slice(&crc32c(body).to_le_bytes());
    header[112..120].fill(0);
    let crc = crc32c(&header[..120]);
    header[120..].copy_from_slice(&crc.to_le_bytes());
    read_frame(&bytes);
}

fn read_frame(bytes: &[u8]) {
    let Ok(Some((frame, len))) = FrameRef::parse(bytes) else { return };
    assert!(len <= bytes.len());
    let header = *frame.header();
    assert_eq!(header.encode()[..], bytes[..FrameHeader::LEN]);
    let mut scratch = Vec::new();
    let Ok(body) = frame.decode(&mut scratch) else { return };
    let mut at = header.start.sequence;
    for part in body.batches() {
        assert_eq!(part.start, at.next());
        at = part.end();
        batch(part.batch.bytes());
    }
    assert_eq!(at, header.end.sequence);
}

/// A segment's good part is good by itself; as it is, and with its header's checksum made good.
pub(crate) fn segment(bytes: &[u8]) {
    read_segment(bytes);
    let mut bytes = bytes.to_vec();
    let Some(&source_len) = bytes.get(6) else { return };
    let end = 48 + usize::from(source_len);
    let Some(covered) = bytes.get(..end) else { return };
    let crc = crc32c(covered).to_le_bytes();
    let Some(place) = bytes.get_mut(end..end + 4) else { return };
    place.copy_from_slice(&crc);
    read_segment(&bytes);
}

fn read_segment(bytes: &[u8]) {
    let Ok(found) = scan(bytes) else { return };
    assert_eq!(
        SegmentHeader::decode(&bytes[..found.valid]).expect("the same bytes").0,
        found.header
    );
    let again = scan(&bytes[..found.valid]).expect("the same bytes");
    assert_eq!(
        (again.frames, again.end(), again.chain()),
        (found.frames, found.end(), found.chain())
    );
}

/// A tag that reads writes the same bytes.
pub(crate) fn tag(bytes: &[u8]) {
    if let Ok(tag) = Tag::decode(bytes) {
        assert_eq!(tag.encode()[..], *bytes);
    }
}

/// A history that reads answers every follower.
pub(crate) fn history(bytes: &[u8]) {
    let Ok(history) = serde_json::from_slice::<History>(bytes) else { return };
    let text = serde_json::to_vec(&history).expect("it was text");
    assert_eq!(serde_json::from_slice::<History>(&text).expect("our own text"), history);
    let starts = history.starts();
    let parents = starts.iter().flat_map(|start| start.parents.iter().copied());
    let own = starts.iter().map(|s| Position { timeline: s.timeline, sequence: s.first });
    for at in parents.chain(own) {
        let answer = history.continue_from(at, at.sequence, Sequence(u64::MAX));
        if let Continuation::Rewind { fork, .. } = answer {
            assert!(fork.sequence < at.sequence && fork.timeline == at.timeline);
        }
        let _ = history.position_of(at.sequence);
    }
}

/// CRC-32C bit by bit: the checks need no crate but those they check.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 }
        })
    })
}
