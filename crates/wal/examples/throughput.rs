//! How fast a log goes through this crate, on one core: `cargo run --release --example throughput`.
//!
//! Prints gigabytes of log a second for each stage that a sidecar puts a batch through.
#![allow(clippy::print_stdout, reason = "a report")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use keyspace::{Cf, Hlc, Slot, SlotSet};
use wal::batch::{BatchBuilder, BatchRef, project};
use wal::frame::{Codec, FrameBuilder, FrameRef};
use wal::log::LogDecoder;
use wal::{Chain, Kind, Position, Sequence, Tag, TimelineId};

const LOG: usize = 64 << 20;
const FRAME: usize = 1 << 20;

fn main() {
    println!(
        "value bytes  records a batch  log  parse  project  chain  frame  lz4  zstd  open  (GB/s)"
    );
    for (value, records) in [(128, 1), (128, 16), (1024, 16)] {
        let batches = batches(value, records);
        let log = log_file(&batches);
        let half: SlotSet = "0-8191".parse().expect("slots");
        let pack = |codec| {
            let mut packed = 0;
            frames(&batches, codec, |frame| packed += frame.len());
            packed
        };
        let mut plain = Vec::new();
        frames(&batches, Codec::None, |frame| plain.push(frame));
        println!(
            "{value:11}  {records:15}  {:3.1}  {:5.1}  {:7.1}  {:5.1}  {:5.1}  {:3.1}  {:4.1}  {:4.1}",
            rate(&log, || decode(&log)),
            rate(&log, || batches.iter().map(|b| parse(b).count() as usize).sum()),
            rate(&log, || {
                let mut out = Vec::new();
                let whole = batches.iter().filter(|b| {
                    out.clear();
                    project(&parse(b), &half, &mut out).is_ok_and(|p| p.whole)
                });
                whole.count()
            }),
            rate(&log, || batches.iter().fold(Chain::START, |c, b| c.extend(b)).0 as usize),
            rate(&log, || pack(Codec::None)),
            rate(&log, || pack(Codec::Lz4)),
            rate(&log, || pack(Codec::Zstd)),
            rate(&log, || open(&plain)),
        );
    }
}

/// Gigabytes of log a second: the best of a few rounds.
fn rate(log: &[u8], mut work: impl FnMut() -> usize) -> f64 {
    let best = (0..3)
        .map(|_| {
            let start = Instant::now();
            black_box(work());
            start.elapsed()
        })
        .min()
        .unwrap_or(Duration::MAX);
    log.len() as f64 / best.as_secs_f64() / 1e9
}

fn parse(bytes: &[u8]) -> BatchRef<'_> {
    BatchRef::parse(bytes).expect("built here")
}

/// Batches like a node's: a tag, and puts of text that packs about as data does.
fn batches(value: usize, records: u64) -> Vec<Vec<u8>> {
    let words = ["amsterdam ", "godwit ", "0x3f9a77 ", "flies ", "eleven ", "1700000000 "];
    let (mut batches, mut size, mut n) = (Vec::new(), 0, 1_u64);
    while size < LOG {
        let mut batch = BatchBuilder::new(Sequence(n));
        let tag = Tag { kind: Kind::Data, origin: 1, epoch: 1, stamp: Hlc(n), marker: 0 };
        batch.log_data(&tag.encode());
        for _ in 0..records {
            let key = format!("key:{n:020}");
            let key = [&Slot::of_key(key.as_bytes()).prefix(), key.as_bytes()].concat();
            let mut text = String::new();
            let mut state = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            while text.len() < value {
                state ^= state >> 29;
                state = state.wrapping_mul(0xbf58_476d_1ce4_e5b9);
                text.push_str(words[(state >> 32) as usize % words.len()]);
            }
            text.truncate(value);
            batch.put(Cf::Meta, &key, text.as_bytes());
            n += 1;
        }
        let bytes = batch.finish();
        size += bytes.len();
        batches.push(bytes);
    }
    batches
}

fn log_file(batches: &[Vec<u8>]) -> Vec<u8> {
    let mut file: Vec<u8> = Vec::with_capacity(LOG + (1 << 20));
    for batch in batches {
        let (mut rest, mut first) = (&batch[..], true);
        while !rest.is_empty() {
            let left = wal::log::BLOCK - file.len() % wal::log::BLOCK;
            if left < 7 {
                file.resize(file.len() + left, 0);
                continue;
            }
            let (piece, after) = rest.split_at(rest.len().min(left - 7));
            let kind: u8 = match (first, after.is_empty()) {
                (true, true) => 1,
                (true, false) => 2,
                (false, false) => 3,
                (false, true) => 4,
            };
            let crc = crc32c::crc32c_append(crc32c::crc32c(&[kind]), piece);
            let masked = crc.rotate_right(15).wrapping_add(0xa282_ead8);
            file.extend_from_slice(&masked.to_le_bytes());
            file.extend_from_slice(&(piece.len() as u16).to_le_bytes());
            file.push(kind);
            file.extend_from_slice(piece);
            (rest, first) = (after, false);
        }
    }
    file
}

fn decode(log: &[u8]) -> usize {
    let mut decoder = LogDecoder::new();
    let mut records = 0;
    for chunk in log.chunks(256 << 10) {
        decoder.feed(chunk);
        while let Some(record) = decoder.next().expect("written here") {
            records += usize::from(!record.bytes.is_empty());
        }
    }
    records
}

fn frames(batches: &[Vec<u8>], codec: Codec, mut take: impl FnMut(Vec<u8>)) {
    let start = Position { timeline: TimelineId(1), sequence: Sequence(0) };
    let mut builder = FrameBuilder::new(start, Chain::START, 0, Hlc(0));
    let all = SlotSet::all();
    for batch in batches {
        builder.push(&parse(batch), &all).expect("one after the other");
        if builder.raw_len() > FRAME {
            builder.finish(codec, Chain::START).map(&mut take);
        }
    }
    builder.finish(codec, Chain::START).map(&mut take);
}

fn open(frames: &[Vec<u8>]) -> usize {
    let mut scratch = Vec::new();
    let mut count = 0;
    for frame in frames {
        let (frame, _) = FrameRef::parse(frame).expect("packed here").expect("all of it");
        count += frame.decode(&mut scratch).expect("packed here").batches().count();
    }
    count
}
