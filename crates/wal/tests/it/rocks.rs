//! What a real RocksDB writes is what we read.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use keyspace::{Cf, Hlc, Slot, SlotSet};
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use rocksdb::{DB, IteratorMode, Options, WriteBatch, WriteOptions};
use wal::batch::{BatchBuilder, BatchRef};
use wal::frame::{Codec, FrameBuilder, FrameRef};
use wal::{Chain, Kind, Sequence, Tag};

use crate::follow::read_all;
use crate::make::position;

/// A database as a node opens it, with log files that roll often and are all kept.
pub(crate) fn open(dir: &Path) -> DB {
    open_with(dir, "")
}

/// The same, with options that a node refuses.
pub(crate) fn open_with(dir: &Path, more: &str) -> DB {
    let mut options = Options::default();
    options.set_recycle_log_file_num(0);
    options.set_wal_ttl_seconds(3600);
    options = options.get_options_from_string(more).unwrap();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_write_buffer_size(64 << 10);
    options.set_max_total_wal_size(128 << 10);
    let families = Cf::ALL.map(Cf::name);
    DB::open_cf(&options, dir, families).unwrap()
}

pub(crate) fn marked(marker: u128) -> Tag {
    Tag { kind: Kind::Data, origin: Tag::origin_of("a"), epoch: 1, stamp: Hlc(1), marker }
}

/// Any batch that a node may write, and some that it does not: empty ones, tags alone.
pub(crate) fn any_batch(random: &mut StdRng, marker: u128) -> Vec<u8> {
    let mut batch = BatchBuilder::default();
    let key = |random: &mut StdRng| {
        let slot: u16 = random.random_range(0..keyspace::SLOTS);
        [&slot.to_be_bytes()[..], &[b'k'; 9][..random.random_range(0..9)]].concat()
    };
    batch.log_data(&marked(marker).encode());
    for _ in 0..random.random_range(0..6) {
        let cf = Cf::ALL[random.random_range(0..Cf::ALL.len())];
        match random.random_range(0..10) {
            0..6 => {
                let len = if random.random_ratio(1, 30) { 70_000 } else { 200 };
                let mut value = vec![0; random.random_range(0..len)];
                random.fill_bytes(&mut value);
                batch.put(cf, &key(random), &value);
            }
            6..9 => {
                batch.delete(cf, &key(random));
            }
            _ => {
                let (a, b) = (key(random), key(random));
                batch.delete_range(cf, &a.clone().min(b.clone()), &a.max(b));
            }
        }
    }
    batch.finish()
}

/// The entries of every column family.
fn contents(db: &DB) -> Vec<(Cf, Vec<u8>, Vec<u8>)> {
    let mut all = Vec::new();
    for cf in Cf::ALL {
        let handle = db.cf_handle(cf.name()).unwrap();
        for entry in db.iterator_cf(handle, IteratorMode::Start) {
            let (key, value) = entry.unwrap();
            all.push((cf, key.to_vec(), value.to_vec()));
        }
    }
    all
}

#[test]
fn one_writer_rolls_and_reopens_and_every_batch_reads_back() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    let mut written = Vec::new();
    for _ in 0..3 {
        let db = open(dir.path());
        for _ in 0..400 {
            let bytes = any_batch(&mut random, written.len() as u128);
            db.write(WriteBatch::from_data(&bytes)).unwrap();
            written.push(bytes);
        }
        db.write(WriteBatch::default()).unwrap();
        written.push(BatchBuilder::default().finish());
    }
    let last = open(dir.path()).latest_sequence_number();

    let read = read_all(dir.path());
    assert_eq!(read.len(), written.len());
    let sequence = |bytes: &[u8]| BatchRef::parse(bytes).unwrap().end();
    for (read, written) in read.iter().zip(&written) {
        assert!(read[8..] == written[8..], "at {}", sequence(read));
    }
    assert_eq!(sequence(read.last().unwrap()), Sequence(last));
    let logs = std::fs::read_dir(dir.path().join("archive")).unwrap().count();
    assert!(logs > 5, "{logs} log files: the test is meant to roll");
}

#[test]
fn merged_writers_keep_every_tag_and_the_log_makes_the_same_database_elsewhere() {
    const WRITERS: u64 = 8;
    const EACH: u64 = 100;
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    let acknowledged = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (db, acknowledged) = (&db, &acknowledged);
            scope.spawn(move || {
                let mut random = StdRng::seed_from_u64(seed ^ writer);
                let mut sync = WriteOptions::default();
                sync.set_sync(true);
                for n in 0..EACH {
                    let bytes = any_batch(&mut random, u128::from(writer << 32 | n));
                    db.write_opt(WriteBatch::from_data(&bytes), &sync).unwrap();
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let read = read_all(dir.path());
    let mut next = [0; WRITERS as usize];
    let mut merged = 0;
    for bytes in &read {
        let tags: Vec<_> = BatchRef::parse(bytes).unwrap().tags().map(Result::unwrap).collect();
        merged += usize::from(tags.len() > 1);
        for tag in tags {
            let (writer, n) = ((tag.marker >> 32) as usize, tag.marker as u32);
            assert_eq!(n, next[writer], "writer {writer} in its order");
            next[writer] += 1;
        }
    }
    assert_eq!(next, [EACH as u32; WRITERS as usize]);
    assert_eq!(acknowledged.into_inner(), WRITERS * EACH);
    assert!(merged > 0, "the test is meant to merge writers");

    let elsewhere = tempfile::tempdir().unwrap();
    let copy = open(elsewhere.path());
    for bytes in &read {
        copy.write(WriteBatch::from_data(bytes)).unwrap();
    }
    assert_eq!(copy.latest_sequence_number(), db.latest_sequence_number());
    assert!(contents(&copy) == contents(&db), "the same batches, another database");
}

#[test]
fn a_damaged_log_reads_as_far_as_rocksdb_recovers_it_and_goes_on_in_the_next_file() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    for round in 0..12 {
        let dir = tempfile::tempdir().unwrap();
        let db = open(dir.path());
        let small = |n: u32| {
            let mut batch = BatchBuilder::default();
            batch.put(Cf::Meta, &n.to_be_bytes(), &vec![7; 9 * n as usize % 4000]);
            WriteBatch::from_data(&batch.finish())
        };
        for n in 0..24 {
            db.write(small(n)).unwrap();
        }
        // Closing does not flush, so all of it is in one log file.
        drop(db);
        let is_log = |path: &std::path::PathBuf| path.extension().is_some_and(|e| e == "log");
        let mut paths = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path());
        let path = paths.find(is_log).unwrap();
        let mut file = std::fs::read(&path).unwrap();
        let at = random.random_range(0..file.len());
        match round % 3 {
            0 => file[at] ^= 1 << random.random_range(0..8),
            1 => file.truncate(at),
            _ => file[at..].fill(0),
        }
        std::fs::write(&path, &file).unwrap();

        let end = read_all(dir.path())
            .last()
            .map_or(Sequence(0), |bytes| BatchRef::parse(bytes).unwrap().end());
        let db = open(dir.path());
        assert_eq!(db.latest_sequence_number(), end.0, "round {round}, byte {at}");
        db.write(small(99)).unwrap();
        let read = read_all(dir.path());
        assert_eq!(BatchRef::parse(read.last().unwrap()).unwrap().end(), end.next());
    }
}

#[test]
fn frames_make_of_two_targets_what_the_source_has_of_their_slots() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    let source = open(dir.path());
    for n in 0..600 {
        source.write(WriteBatch::from_data(&any_batch(&mut random, n))).unwrap();
    }
    let read = read_all(dir.path());
    let expected = contents(&source);
    for (slots, codec) in
        [("0-8191", Codec::Lz4), ("8192-9000,9002-16383", Codec::Zstd), ("9001", Codec::None)]
    {
        let keep: SlotSet = slots.parse().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let target = open(elsewhere.path());
        let mut builder = FrameBuilder::new(position(0), Chain::START, 0, Hlc(0));
        let (mut scratch, mut applied) = (Vec::new(), position(0));
        for batches in read.chunks(50) {
            for bytes in batches {
                builder.push(&BatchRef::parse(bytes).unwrap(), &keep).unwrap();
            }
            let bytes = builder.finish(codec, Chain::START).unwrap();
            let (frame, _) = FrameRef::parse(&bytes).unwrap().unwrap();
            assert_eq!(frame.header().start, applied);
            for part in frame.decode(&mut scratch).unwrap().batches() {
                target.write(WriteBatch::from_data(part.batch.bytes())).unwrap();
            }
            applied = frame.header().end;
        }
        assert_eq!(applied.sequence.0, source.latest_sequence_number());
        let kept = expected.iter().filter(|(cf, key, _)| {
            cf.is_shipped() && Slot::of_encoded(key).is_some_and(|slot| keep.contains(slot))
        });
        assert!(contents(&target).iter().eq(kept), "slots {slots}");
    }
}
