//! Options that a node refuses, seen in the log that they make.

use std::path::Path;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rocksdb::WriteBatch;
use wal::log::{Cause, LogDecoder};

use crate::rocks::{any_batch, open_with};

/// The first type of a database's newest log file, whether it has records, and what ends them.
fn read_newest(dir: &Path) -> (u8, bool, Option<Cause>) {
    let mut logs: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    logs.retain(|path| path.extension().is_some_and(|e| e == "log"));
    logs.sort();
    let mut decoder = LogDecoder::new();
    let file = std::fs::read(logs.last().unwrap()).unwrap();
    decoder.feed(&file);
    let mut records = false;
    loop {
        match decoder.next() {
            Ok(Some(_)) => records = true,
            Ok(None) => return (file[6], records, None),
            Err(damage) => return (file[6], records, Some(damage.cause)),
        }
    }
}

#[test]
fn logs_of_forbidden_options_are_refused_in_words_and_a_note_is_skipped() {
    let check = |more: &str, expected: &[(u8, bool, Option<Cause>)]| {
        let dir = tempfile::tempdir().unwrap();
        let mut random = StdRng::seed_from_u64(1);
        let db = open_with(dir.path(), more);
        // Enough to roll: only then RocksDB recycles, and notes which log came before.
        for n in 0..400 {
            db.write(WriteBatch::from_data(&any_batch(&mut random, n))).unwrap();
        }
        drop(db);
        let found = read_newest(dir.path());
        assert!(expected.contains(&found), "{more}: {found:?} is none of {expected:?}");
    };
    check("wal_compression=kZSTD", &[(9, false, Some(Cause::Compressed))]);
    // A whole record or the first part of one: which batch opens the newest file depends on when RocksDB flushed.
    check(
        "recycle_log_file_num=2;WAL_ttl_seconds=0",
        &[(5, false, Some(Cause::Recycled(5))), (6, false, Some(Cause::Recycled(6)))],
    );
    check("track_and_verify_wals=true", &[(130, true, None)]);
}
