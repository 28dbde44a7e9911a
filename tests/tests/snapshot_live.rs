//! Snapshots of what does not stand still: of nodes that are written, into stores that go away.

#![allow(clippy::unwrap_used)] // a helper of a test may stop at the first surprise

#[path = "../../crates/store/tests/moto/mod.rs"]
mod moto;

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moto::Moto;
use tests::alone::Alone;
use tests::client::Client;
use tests::shelf::{self, PATIENCE, Shelf, at_last, checkpoints, ok, one_cloud, said, snapshotter};
use tests::toxi::Toxiproxy;
use tests::wait;

/// Who writes, each to keys of its own, in order.
const WRITERS: usize = 4;
/// Records a second of all writers together; a transaction writes four.
const RATE: u64 = 5_000;

/// What a writer was told, in numbers of its transactions.
#[derive(Default)]
struct Journal {
    issued: AtomicU64,
    acknowledged: AtomicU64,
}

/// Writes one number into a string, a list, a hash and a sorted set, whole or not at all, again and
/// again.
fn write(client: &mut Client, writer: usize, journal: &Journal, stop: &AtomicBool) {
    let every = Duration::from_micros(1_000_000 * 4 * WRITERS as u64 / RATE);
    let (begun, mut n) = (Instant::now(), 0_u64);
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        journal.issued.store(n, Ordering::Release);
        let number = n.to_string();
        let key = |kind: &str| format!("{{w{writer}}}{kind}");
        client.push(&["MULTI"]);
        client.push(&["SET", &key("string"), &number]);
        client.push(&["RPUSH", &key("list"), &number]);
        client.push(&["HSET", &key("hash"), &number, &number]);
        client.push(&["ZADD", &key("zset"), &number, &number]);
        client.push(&["EXEC"]);
        client.flush().unwrap();
        for _ in 0..6 {
            client.answer().unwrap();
        }
        journal.acknowledged.store(n, Ordering::Release);
        let due = begun + every * u32::try_from(n).unwrap();
        // The rate of the traffic, and no waiting for anything.
        #[allow(clippy::disallowed_methods)]
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

#[test]
fn a_snapshot_under_load_is_what_the_writers_journal_says_and_tears_no_transaction() {
    let clouds = one_cloud();
    let shelf = Shelf::new();
    let restored = shelf.path("restored");
    let journals: [Journal; WRITERS] = Default::default();
    let stop = AtomicBool::new(false);
    let shards = &clouds.cloud("a").shards;
    let shard_of = |writer: usize| {
        let slot = keyspace::Slot::of_key(format!("{{w{writer}}}").as_bytes());
        usize::from(slot.number() >= 8192)
    };
    let (mut before, mut after) = ([0; WRITERS], [0; WRITERS]);
    std::thread::scope(|scope| {
        for (writer, journal) in journals.iter().enumerate() {
            let mut client = Client::connect(&shards[shard_of(writer)].node.client).unwrap();
            let stop = &stop;
            scope.spawn(move || write(&mut client, writer, journal, stop));
        }
        let begun = Instant::now();
        // By files, and then by the log that has come since.
        for least in [200, 600] {
            let enough = || {
                let least = journals.iter().all(|j| j.acknowledged.load(Ordering::Acquire) > least);
                anyhow::ensure!(least);
                Ok(())
            };
            wait::until("the writers to get on", PATIENCE, enough).unwrap();
            before = std::array::from_fn(|w| journals[w].acknowledged.load(Ordering::Acquire));
            ok(&shelf::run(&mut shelf.push(&clouds, "a")));
            after = std::array::from_fn(|w| journals[w].issued.load(Ordering::Acquire));
        }
        stop.store(true, Ordering::Relaxed);
        let written: u64 = after.iter().sum::<u64>() * 4;
        println!("{:.0} records a second", written as f64 / begun.elapsed().as_secs_f64());
    });
    shelf.ok("restore", &["--to", &restored]);
    for shard in 0..shards.len() {
        let mut node = Alone::on(&Path::new(&restored).join(shard.to_string()));
        let client = &mut node.client;
        for writer in (0..WRITERS).filter(|writer| shard_of(*writer) == shard) {
            let key = |kind: &str| format!("{{w{writer}}}{kind}");
            let last: u64 = client.text(&["GET", &key("string")]).unwrap().parse().unwrap();
            // All that was acknowledged before the push began, and nothing that came after it had ended.
            let (least, most) = (before[writer], after[writer]);
            assert!((least..=most).contains(&last), "writer {writer}: {least} {last} {most}");
            let list = client.call(&["LRANGE", &key("list"), "0", "-1"]).unwrap();
            let list: Vec<u64> = list
                .as_array()
                .unwrap()
                .iter()
                .map(|number| number.as_text().unwrap().parse().unwrap())
                .collect();
            assert!(list.iter().copied().eq(1..=last), "writer {writer}: a gap or a repeat");
            for count in [["HLEN", &key("hash")], ["ZCARD", &key("zset")]] {
                let held = client.call(&count).unwrap().as_integer();
                assert_eq!(held, i64::try_from(last).ok(), "writer {writer}, {}", count[0]);
            }
        }
    }
}

#[test]
fn a_bucket_that_goes_in_the_middle_of_a_push_leaves_nothing_half_done() {
    let Some(moto) = Moto::start() else { return };
    let toxics = Toxiproxy::ours().unwrap();
    let bucket = toxics.proxy("bucket", "127.0.0.1:0", moto.url.trim_start_matches("http://"));
    let endpoint = format!("http://{}", bucket.unwrap());
    let clouds = one_cloud();
    let mut client = clouds.client("a").unwrap();
    for n in 0..2_000 {
        // Random bytes: they are as long when they are sent.
        let value: String = (0..500).map(|_| format!("{:08x}", rand::random::<u32>())).collect();
        client.call(&["SET", &format!("key:{n}"), &value]).unwrap();
    }
    let aws = |command: &mut Command| {
        command.env("AWS_ACCESS_KEY_ID", "key").env("AWS_SECRET_ACCESS_KEY", "secret");
        command.env("GODWIT_ENDPOINT", &endpoint).env("GODWIT_REGION", "us-east-1");
    };
    let push = |slowly: bool| {
        let mut command = shelf::push(&clouds, "a", "s3://loads/snapshots");
        aws(&mut command);
        if slowly {
            command.args(["--bandwidth", "2MiB"]);
        }
        command
    };
    let from = |verb: &str| {
        let mut command =
            snapshotter(&[verb, "--from", "s3://loads/snapshots", "--output", "json"]);
        aws(&mut command);
        shelf::run(&mut command)
    };
    let running = shelf::start(&mut push(true));
    let begun = wait::until("the push to be in its middle", PATIENCE, || {
        anyhow::ensure!(!checkpoints(&clouds).is_empty(), "no checkpoint yet");
        Ok(())
    });
    begun.unwrap();
    // Connections break, and no new one is taken.
    toxics.enable("bucket", false).unwrap();
    let ended = running.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(1), "{}", said(&ended));
    assert!(said(&ended).contains("nothing was sealed"), "{}", said(&ended));
    // No sidecar has left anything of an export with its node.
    let cleaned = wait::until("the checkpoints to be cleaned up", PATIENCE, || {
        let left = checkpoints(&clouds);
        anyhow::ensure!(left.is_empty(), "{left:?} are left");
        Ok(())
    });
    cleaned.unwrap();
    toxics.enable("bucket", true).unwrap();
    let listed = from("list");
    if listed.status.success() {
        // It was far enough to make the repository.
        assert_eq!(ok(&listed)["snapshots"].as_array().unwrap().len(), 0);
    }
    at_last("the next push to be whole", || push(false));
    assert_eq!(ok(&from("verify"))["verified"], true);
}
