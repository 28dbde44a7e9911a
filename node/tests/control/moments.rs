//! What reads one moment of a node sees no half of a transaction, though clients write on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use keyspace::meta::{self, Body, Meta};
use rocksdb::{DB, IteratorMode, Options};

use crate::cloud::{Cloud, Node, command};
use crate::ship::{compare, pair};

const ACCOUNTS: u64 = 6;

/// Moves money between accounts of several slots, in transactions, until told to stop; how often.
fn move_money(node: &Node, ends: &Arc<AtomicBool>, seed: u64) -> std::thread::JoinHandle<u64> {
    let (mut client, ends) = (node.connection(), ends.clone());
    std::thread::spawn(move || {
        let (mut state, mut moved) = (seed, 0);
        while !ends.load(Ordering::Relaxed) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (from, to) = (state >> 33 & 7, state >> 50 & 7);
            let amount = state >> 40 & 31;
            let mut transaction = redis::pipe();
            transaction.atomic();
            // One slot for all of them: a shard's transactions are of one node, and of any slots of it.
            for (account, amount) in [(from, -(amount as i64)), (to, amount as i64)] {
                let key = format!("{{bank}}:{}", account % ACCOUNTS);
                transaction.add_command(command(&format!("INCRBY {key} {amount}"))).ignore();
                transaction.add_command(command(&format!("HSET {key}:log last {amount}"))).ignore();
            }
            let () = transaction.query(&mut client).unwrap();
            moved += 1;
        }
        moved
    })
}

/// The sum of all accounts in a checkpoint, and how many there are.
fn sum_of(checkpoint: &std::path::Path) -> (i64, usize) {
    let names = keyspace::Cf::ALL.map(keyspace::Cf::name);
    let mut options = Options::default();
    // As the node has it: without it RocksDB may crash here (`DBImpl::Recover`).
    options.set_track_and_verify_wals_in_manifest(true);
    let db = DB::open_cf_for_read_only(&options, checkpoint, names, false).unwrap();
    let accounts: Vec<i64> = db
        .iterator_cf(db.cf_handle("default").unwrap(), IteratorMode::Start)
        .map(Result::unwrap)
        .filter_map(|(key, value)| {
            let (_, name) = meta::decode_key(&key).ok()?;
            let Body::String(text) = Meta::decode(&value).ok()?.body else { return None };
            let is_account = name.starts_with(b"{bank}:");
            is_account.then(|| std::str::from_utf8(text).unwrap().parse().unwrap())
        })
        .collect();
    (accounts.iter().sum(), accounts.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn digests_and_checkpoints_are_of_one_moment_each() {
    let (_cloud, a, b): (Cloud, _, _) = pair("").await;
    let seed: u64 = rand::random();
    eprintln!("seed {seed}");
    let ends = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..3).map(|n| move_money(&a, &ends, seed ^ (n << 55))).collect();
    let mut moments = std::collections::BTreeSet::new();
    for round in 0..6 {
        let (left, right) = compare(&a, &b).await;
        assert_eq!(left, right, "round {round}");
        moments.insert(left.position.sequence);
        let checkpoint = a.admin.checkpoint("moment").await.unwrap();
        moments.insert(checkpoint.position.sequence);
        let (sum, count) = sum_of(&checkpoint.path);
        assert_eq!(sum, 0, "round {round}: {count} accounts");
        a.admin.drop_checkpoint("moment").await.unwrap();
    }
    ends.store(true, Ordering::Relaxed);
    let moved: u64 = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
    assert!(moved > 50 && moments.len() > 6, "{moved} transfers, {} moments", moments.len());
    assert!(sum_of(&a.admin.checkpoint("end").await.unwrap().path).1 > 1);
}
