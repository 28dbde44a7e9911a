//! Bytes of format 1 that every later version must read. `GODWIT_BLESS=1 cargo test` writes the
//! files that are not there; a file that is there is never written again.

use std::fmt::Write;
use std::path::PathBuf;

use keyspace::{Cf, Hlc};
use rocksdb::WriteBatch;
use wal::batch::{BatchBuilder, BatchRef};
use wal::frame::{Codec, FrameRef};
use wal::log::LogDecoder;
use wal::segment::{Tail, scan};
use wal::{Chain, History, Kind, Position, Sequence, Tag, TimelineId, TimelineStart};

use crate::make::{self, Op};

fn fixture(name: &str, made: impl FnOnce() -> Vec<u8>) -> Vec<u8> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1");
    let path = dir.join(name);
    if !path.exists() && std::env::var_os("GODWIT_BLESS").is_some() {
        std::fs::create_dir_all(dir).unwrap();
        std::fs::write(&path, made()).unwrap();
    }
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn tag() -> Tag {
    Tag {
        kind: Kind::End,
        origin: Tag::origin_of("a"),
        epoch: 7,
        stamp: Hlc::new(1_700_000_000_000, 3),
        marker: 0xfeed,
    }
}

/// A batch with one record of each sort.
fn sample(sequence: u64) -> Vec<u8> {
    let mut batch = BatchBuilder::new(Sequence(sequence));
    batch
        .log_data(&tag().encode())
        .put(Cf::Meta, b"\0\x01meta", b"one")
        .put(Cf::Data, b"\0\x01data", &[b'x'; 130])
        .delete(Cf::Score, b"\0\x01score")
        .delete_range(Cf::Data, b"\0\x02", b"\0\x03")
        .put(Cf::System, b"applied", b"local");
    batch.finish()
}

fn runs() -> Vec<Vec<u8>> {
    let small =
        |n: u8| vec![Op::Put(Cf::Data, vec![0, n, b'k'], vec![n; 40]), Op::Tag(2, n.into())];
    make::run(&[small(1), vec![Op::Tag(3, 9)], small(2)])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// The log of a database that a program with RocksDB's own code wrote.
fn real_log() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let db = crate::rocks::open(dir.path());
    db.write(WriteBatch::from_data(&sample(0))).unwrap();
    let mut tag_only = WriteBatch::default();
    tag_only.put_log_data(tag().encode());
    db.write(tag_only).unwrap();
    let family = |cf: Cf| db.cf_handle(cf.name()).unwrap();
    let mut own = WriteBatch::default();
    own.put_cf(family(Cf::Data), b"\0\x05k", b"v");
    own.delete_cf(family(Cf::Meta), b"\0\x05k");
    own.delete_range_cf(family(Cf::Score), b"\0\x05", b"\0\x06");
    own.put_log_data(tag().encode());
    db.write(own).unwrap();
    drop(db);
    let logs = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let mut logs = logs.filter(|path| path.extension().is_some_and(|e| e == "log"));
    std::fs::read(logs.next().unwrap()).unwrap()
}

#[test]
fn a_tag() {
    let bytes = tag().encode();
    let golden = "475701031f4e961e070000000000000003000068e5cf8b01edfe0000000000000000000000000000";
    assert_eq!(hex(&bytes), golden);
}

#[test]
fn a_batch() {
    let mut batch = BatchBuilder::new(Sequence(0x0102));
    batch.put(Cf::Meta, b"k", b"v").delete(Cf::Data, b"k").delete_range(Cf::Score, b"a", b"b");
    batch.log_data(b"tag");
    let golden = "02010000000000000300000001016b01760401016b0e0201610162\
                  0303746167";
    assert_eq!(hex(&batch.finish()), golden);
}

#[test]
fn a_log_file_of_rocksdb_11_8() {
    let file = fixture("rocksdb-11.8.log", real_log);
    let mut decoder = LogDecoder::new();
    decoder.feed(&file);
    let mut batches = Vec::new();
    while let Some(record) = decoder.next().unwrap() {
        batches.push(record.bytes.to_vec());
    }
    assert_eq!((batches.len(), decoder.pending()), (3, 0));
    assert_eq!(batches[0], sample(1));
    let ends: Vec<_> = batches.iter().map(|b| BatchRef::parse(b).unwrap().end().0).collect();
    assert_eq!(ends, [5, 5, 8]);
    for bytes in &batches {
        let tags: Vec<_> = BatchRef::parse(bytes).unwrap().tags().map(Result::unwrap).collect();
        assert_eq!(tags, [tag()]);
    }
    let mut own = BatchBuilder::new(Sequence(6));
    own.put(Cf::Data, b"\0\x05k", b"v").delete(Cf::Meta, b"\0\x05k");
    own.delete_range(Cf::Score, b"\0\x05", b"\0\x06").log_data(&tag().encode());
    assert_eq!(batches[2], own.finish());
}

#[test]
fn frames_of_each_codec() {
    for (name, codec) in
        [("none.frame", Codec::None), ("lz4.frame", Codec::Lz4), ("zstd.frame", Codec::Zstd)]
    {
        let bytes = fixture(name, || make::frame(&runs(), codec));
        let (frame, len) = FrameRef::parse(&bytes).unwrap().unwrap();
        assert_eq!((len, frame.header().codec), (bytes.len(), codec));
        let mut scratch = Vec::new();
        let body = frame.decode(&mut scratch).unwrap();
        let found: Vec<_> = body.batches().map(|b| b.batch.bytes().to_vec()).collect();
        assert_eq!(found, runs(), "{name}");
        let header = frame.header();
        assert_eq!((header.start, header.end), (make::position(0), make::position(2)));
        assert_eq!((header.epoch, header.stamp), (3, Hlc(9)));
        assert_eq!(header.chain, Chain(0xe3b7_8b01_88d6_6777));
        if codec == Codec::None {
            assert_eq!(make::frame(&runs(), codec), bytes, "what is written is still the same");
        }
    }
}

#[test]
fn a_segment() {
    let made = || make::segment(&[runs()[..1].to_vec(), runs()[1..].to_vec()], Codec::None).0;
    let bytes = fixture("a.segment", made);
    assert_eq!(made(), bytes, "what is written is still the same");
    let found = scan(&bytes).unwrap();
    assert_eq!((found.frames, found.tail.clone(), found.valid), (2, Tail::Clean, bytes.len()));
    assert_eq!((found.header.source.as_str(), found.end()), ("a/0", make::position(2)));
}

#[test]
fn a_history() {
    let mut history = History::default();
    history.push(TimelineStart {
        timeline: TimelineId(0xb),
        first: Sequence(91),
        parents: vec![Position { timeline: TimelineId(0xa), sequence: Sequence(500) }],
        epoch: 2,
    });
    let golden = "[{\"timeline\":\"0000000000000000000000000000000b\",\"first\":91,\
                  \"parents\":[\"0000000000000000000000000000000a@500\"],\"epoch\":2}]";
    assert_eq!(serde_json::to_string(&history).unwrap(), golden);
    assert_eq!(serde_json::from_str::<History>(golden).unwrap(), history);
}
