//! A writer that is killed loses nothing that it had acknowledged.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use rand::SeedableRng;
use rand::rngs::StdRng;
use rocksdb::WriteBatch;
use wal::Sequence;
use wal::batch::BatchRef;

use crate::follow::read_all;
use crate::rocks::{any_batch, open};

/// The directory that the writer writes to: it is this test binary, run again.
const DIR: &str = "GODWIT_TEST_KILLED_DIR";

#[test]
fn the_writer() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let db = open(dir.as_ref());
    let mut random = StdRng::seed_from_u64(1);
    let mut out = std::io::stdout().lock();
    for n in 0.. {
        db.write(WriteBatch::from_data(&any_batch(&mut random, n))).unwrap();
        writeln!(out, "acknowledged {n}").unwrap();
    }
}

#[test]
fn the_log_of_a_killed_writer_has_every_acknowledged_batch() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killed::the_writer", "--nocapture"])
        .env(DIR, dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged = 0_u128;
    for line in lines {
        let line = line.unwrap();
        let Some((_, n)) = line.split_once("acknowledged ") else { continue };
        // The last line may be cut off.
        let Ok(n) = n.parse::<u128>() else { break };
        acknowledged = acknowledged.max(n + 1);
        if n == 1500 {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(acknowledged > 1500, "the writer was killed while it wrote: {acknowledged}");

    let read = read_all(dir.path());
    assert!(read.len() as u128 >= acknowledged, "{} of {acknowledged}", read.len());
    let mut random = StdRng::seed_from_u64(1);
    for (n, bytes) in read.iter().enumerate() {
        assert!(bytes[8..] == any_batch(&mut random, n as u128)[8..], "batch {n}");
    }
    let end = BatchRef::parse(read.last().unwrap()).unwrap().end();
    let db = open(dir.path());
    assert_eq!(Sequence(db.latest_sequence_number()), end, "RocksDB recovers what we read");
    db.write(WriteBatch::from_data(&any_batch(&mut random, 0))).unwrap();
    assert!(read_all(dir.path()).len() > read.len(), "and the log goes on");
}
