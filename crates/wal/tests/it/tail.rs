//! A log is followed while it is written.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use rocksdb::WriteBatch;

use crate::follow::Follow;
use crate::rocks::{any_batch, open};

#[test]
fn a_growing_log_reads_as_it_is_written() {
    const BATCHES: u128 = 3000;
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    let done = AtomicBool::new(false);
    let mut follow = Follow::new(dir.path());
    let mut wakes = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = StdRng::seed_from_u64(seed);
            for n in 0..BATCHES {
                db.write(WriteBatch::from_data(&any_batch(&mut random, n))).unwrap();
            }
            done.store(true, Ordering::Release);
        });
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let last = done.load(Ordering::Acquire);
            let found = follow.poll();
            wakes += usize::from(found > 0);
            assert_eq!(follow.damage, None, "a record that is being written is no damage");
            assert!(Instant::now() < deadline);
            if last && found == 0 {
                break;
            }
        }
    });
    println!("{} batches in {wakes} looks", follow.batches.len());
    let mut random = StdRng::seed_from_u64(seed);
    assert_eq!(follow.batches.len() as u128, BATCHES);
    for (n, bytes) in follow.batches.iter().enumerate() {
        assert!(bytes[8..] == any_batch(&mut random, n as u128)[8..], "batch {n}");
    }
}
