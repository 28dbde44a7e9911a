//! The file of a ledger: what was written reads back, the bytes of this version are kept, and damage
//! is found.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use godwit_replicator::ledger::{
    Entry, Head, LedgerError, Reader, Touched, Value, What, Writer, values_of,
};
use keyspace::meta::{self, Body, Meta, Type};
use keyspace::{Cf, Hlc, Slot};
use wal::batch::BatchBuilder;
use wal::{Position, Sequence, TimelineId};

/// The golden file; written anew with GODWIT_FIXTURES=write.
const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/ledger-1.keys");
/// The same with the kinds of entries that came later.
const RECORDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/ledger-1-records.keys");

fn head() -> Head {
    Head {
        service: wal::segment::SegmentHeader::service_of("demo"),
        source: "a/0".to_owned(),
        fork: Position { timeline: TimelineId(0xbeef), sequence: Sequence(40) },
        end: Sequence(99),
        stamp: Hlc::new(1_700_000_000_000, 7),
    }
}

fn string(key: &[u8], value: &[u8]) -> Vec<u8> {
    let (mut raw, mut record, mut batch) = (Vec::new(), Vec::new(), BatchBuilder::default());
    meta::encode_key(Slot::of_key(key), key, &mut raw);
    let stamp = Hlc::new(1_700_000_000_500, 0);
    Meta { stamp, expire_ms: 0, body: Body::String(value) }.encode(&mut record);
    batch.put(Cf::Meta, &raw, &record);
    batch.finish()
}

fn entries() -> Vec<Entry> {
    let touched = Touched { stamp: Hlc::new(1_700_000_000_500, 1), end: Sequence(50) };
    let key = |key: &[u8], value| What::Key { key: key.to_vec(), value };
    let kept = Value::Kept { kind: Type::String, records: string(b"kept", b"value") };
    let digest = Value::Digest { kind: Type::Hash, bytes: 1 << 40, blake3: [7; 32] };
    let all = [
        key(b"kept", kept),
        key(b"\x00gone\xff", Value::Deleted),
        key(b"great", digest),
        key(b"unread", Value::Unknown("its rewind had begun".to_owned())),
        What::Flushed("0-8191".parse().unwrap()),
        What::Load { id: 0xfeed, slots: "5,7-9".parse().unwrap() },
        What::Other("it changed a library of functions".to_owned()),
    ];
    all.map(|what| Entry { touched, what }).into()
}

/// Of records of no slot.
fn records() -> Vec<Entry> {
    let touched = Touched { stamp: Hlc::new(1_700_000_000_600, 2), end: Sequence(51) };
    let put = What::Record { key: b"\xff\xffUalice".to_vec(), value: Some(b"\x01user".to_vec()) };
    let deleted = What::Record { key: b"\xff\xffFlib".to_vec(), value: None };
    [put, deleted].map(|what| Entry { touched, what }).into()
}

fn write(path: &Path, entries: &[Entry]) {
    let mut writer = Writer::create(path, &head()).unwrap();
    entries.iter().for_each(|entry| writer.add(entry).unwrap());
    assert_eq!(writer.finish().unwrap(), entries.len() as u64);
}

fn read(path: &Path) -> Result<Vec<Entry>, LedgerError> {
    let mut reader = Reader::open(path)?;
    assert_eq!(*reader.head(), head());
    let mut all = Vec::new();
    while let Some(entry) = reader.read()? {
        all.push(entry);
    }
    Ok(all)
}

#[test]
fn the_golden_files_read_and_are_what_is_written() {
    let dir = tempfile::tempdir().unwrap();
    for (fixture, entries) in [(FIXTURE, entries()), (RECORDS, records())] {
        let path = dir.path().join("new.keys");
        write(&path, &entries);
        if std::env::var("GODWIT_FIXTURES").as_deref() == Ok("write") {
            std::fs::copy(&path, fixture).unwrap();
        }
        assert_eq!(read(&PathBuf::from(fixture)).unwrap(), entries);
        assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(fixture).unwrap());
    }
}

#[test]
fn no_damage_goes_unnoticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.keys");
    let good = std::fs::read(FIXTURE).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        std::fs::write(&path, &bad).unwrap();
        let opened = Reader::open(&path);
        let read = opened.and_then(|mut reader| {
            while reader.read()?.is_some() {}
            Ok(())
        });
        assert!(matches!(read, Err(LedgerError::Damaged { .. })), "byte {at}: {read:?}");
        std::fs::write(&path, &good[..at]).unwrap();
        let cut = Reader::open(&path).and_then(|mut reader| {
            while reader.read()?.is_some() {}
            Ok(())
        });
        assert!(cut.is_err(), "cut at {at}");
    }
}

#[test]
fn values_are_told_from_an_export_and_what_is_not_in_it_was_deleted() {
    let values = values_of(&string(b"k", b"v")).unwrap();
    let kept = Value::Kept { kind: Type::String, records: string(b"k", b"v") };
    assert_eq!(values.into_iter().collect::<Vec<_>>(), [(b"k".to_vec(), kept)]);
    let mut delete = BatchBuilder::default();
    delete.delete(Cf::Meta, b"xx");
    assert!(values_of(&delete.finish()).is_err());
    assert!(values_of(b"short").is_err());
}
