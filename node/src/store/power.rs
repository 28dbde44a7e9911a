//! Stories of power cuts: what is on the disk in each durability, and what stamps come after.

use std::path::Path;

use keyspace::{Cf, Hlc};
use rocksdb::WriteBatch;
use tempfile::TempDir;
use wal::batch::BatchRef;
use wal::log::LogDecoder;
use wal::{Kind, Sequence};

use super::{Durability, NodeDir, Store, StoreOptions};

const COMMITS: u32 = 50;

fn open(dir: &NodeDir, durability: Durability) -> Store {
    let options = StoreOptions { memory: 32 << 20, durability, ..StoreOptions::default() };
    Store::open(dir, None, options).unwrap()
}

fn key(number: u32) -> Vec<u8> {
    [&[0, 0][..], &number.to_be_bytes()].concat()
}

fn commit(store: &Store, number: u32) -> Sequence {
    let mut batch = WriteBatch::default();
    batch.put_cf(store.cf(Cf::Meta), key(number), b"value");
    store.commit(batch, Kind::Data).unwrap()
}

/// The directory as a power cut leaves it that keeps nothing but what was synced.
fn cut(dir: &NodeDir, synced: Sequence) -> (TempDir, NodeDir) {
    let temp = tempfile::tempdir().unwrap();
    let db = temp.path().join("db");
    std::fs::create_dir(&db).unwrap();
    for file in std::fs::read_dir(dir.db()).unwrap().map(Result::unwrap) {
        let (from, to) = (file.path(), db.join(file.file_name()));
        if file.file_name() == "LOCK" || file.file_type().unwrap().is_dir() {
            continue;
        }
        std::fs::copy(&from, &to).unwrap();
        if from.extension().is_some_and(|end| end == "log") {
            let kept = bytes_until(&from, synced);
            std::fs::OpenOptions::new().write(true).open(&to).unwrap().set_len(kept).unwrap();
        }
    }
    let dir = NodeDir::lock(temp.path()).unwrap();
    (temp, dir)
}

/// The length of a log up to the end of the batch with this sequence.
fn bytes_until(log: &Path, synced: Sequence) -> u64 {
    let mut decoder = LogDecoder::new();
    decoder.feed(&std::fs::read(log).unwrap());
    let mut kept = 0;
    while let Ok(Some(record)) = decoder.next() {
        let batch = BatchRef::parse(record.bytes).unwrap();
        if batch.sequence().0 + u64::from(batch.count()) > synced.0 + 1 {
            break;
        }
        kept = decoder.end();
    }
    kept
}

/// How many of the keys there are: always the first so many.
fn kept(store: &Store) -> u32 {
    let has = |number| store.db().get_cf(store.cf(Cf::Meta), key(number)).unwrap().is_some();
    let kept = (0..COMMITS).take_while(|number| has(*number)).count() as u32;
    assert!((kept..COMMITS).all(|number| !has(number)), "a hole after {kept}");
    kept
}

#[test]
fn with_always_nothing_that_was_answered_is_lost() {
    let temp = tempfile::tempdir().unwrap();
    let dir = NodeDir::lock(temp.path()).unwrap();
    let store = open(&dir, Durability::Always);
    for number in 0..COMMITS {
        let end = commit(&store, number);
        assert!(store.synced() >= end, "it may be answered now");
    }
    let (_temp, after) = cut(&dir, store.synced());
    assert_eq!(kept(&open(&after, Durability::Always)), COMMITS);
}

#[test]
fn with_everysec_all_is_kept_that_was_written_before_the_last_sync() {
    let temp = tempfile::tempdir().unwrap();
    let dir = NodeDir::lock(temp.path()).unwrap();
    let store = open(&dir, Durability::Everysec);
    for number in 0..COMMITS {
        commit(&store, number);
        if number == 29 {
            // What control does each second.
            store.sync().unwrap();
        }
    }
    let (_temp, after) = cut(&dir, store.synced());
    assert_eq!(kept(&open(&after, Durability::Everysec)), 30);
}

#[test]
fn with_os_a_power_cut_leaves_a_prefix_and_stamps_above_all_that_were_given() {
    let temp = tempfile::tempdir().unwrap();
    let dir = NodeDir::lock(temp.path()).unwrap();
    let store = open(&dir, Durability::Os);
    let mut wall = Hlc::default();
    for number in 0..COMMITS {
        // The clock runs on by a second with each.
        wall = Hlc::new(store.hlc().last().ms() + 1_000, 0);
        store.hlc().observe(wall);
        commit(&store, number);
        if number % 4 == 0 {
            store.keep_clock_ahead().unwrap();
        }
    }
    let last = store.hlc().last();
    assert!(last >= wall);
    let end = store.position().sequence;
    assert!(store.synced() < end, "nobody asked for it");
    let (_temp, after) = cut(&dir, store.synced());
    let recovered = open(&after, Durability::Os);
    let left = kept(&recovered);
    assert!((1..COMMITS).contains(&left), "{left}");
    assert!(recovered.stamp() > last, "a stamp is never given twice");
}
