//! What survives a process that dies, and clocks that step.

use std::path::Path;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use wal::Tag;
use wal::batch::{BatchRef, Record};
use wal::log::LogDecoder;

use crate::node::{Client, Node};

/// Kills of one node; more of them by GODWIT_KILLS, for as long as one likes.
const KILLS: usize = 3;
const WRITERS: usize = 3;
/// Commands that a writer has on their way.
const DEPTH: u64 = 8;

/// Writes until the node is gone; how many of its writes were answered, and how many were sent.
fn write_until_killed(mut client: Client, writer: usize, from: u64) -> (u64, u64) {
    let (mut answered, mut sent) = (from, from);
    loop {
        while sent < answered + DEPTH {
            let number = (sent + 1).to_string();
            let hash = format!("hash:{writer}");
            let mut bytes = Vec::new();
            resp::command::write(&mut bytes, &[b"HSET", hash.as_bytes(), number.as_bytes(), b"v"]);
            if !client.try_send(&bytes) {
                return (answered, sent);
            }
            sent += 1;
        }
        match client.try_read() {
            Some(_) => answered += 1,
            None => return (answered, sent),
        }
    }
}

#[test]
fn a_node_that_is_killed_at_any_moment_loses_nothing_that_it_answered() {
    let kills = std::env::var("GODWIT_KILLS").ok().and_then(|text| text.parse().ok());
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    for mode in ["always", "everysec", "os"] {
        let scratch = tempfile::tempdir().unwrap();
        let mut node = Node::open_with(scratch.path(), &[("GODWIT_DURABILITY", mode)]);
        let mut from = [0; WRITERS];
        for kill in 0..kills.unwrap_or(KILLS) {
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    let (client, from) = (node.client(), from[writer]);
                    std::thread::spawn(move || write_until_killed(client, writer, from))
                })
                .collect();
            let after = Duration::from_millis(random.random_range(5..150));
            let begun = Instant::now();
            while begun.elapsed() < after {
                std::thread::yield_now();
            }
            node.crash();
            let mut client = node.client();
            for (writer, thread) in writers.into_iter().enumerate() {
                let (answered, sent) = thread.join().unwrap();
                let story = format!("seed {seed}, {mode}, kill {kill}, writer {writer}");
                let stored: u64 = client.ask(&format!("HLEN hash:{writer}")).parse().unwrap();
                assert!((answered..=sent).contains(&stored), "{story}: {answered} {stored} {sent}");
                // The first so many, and no others.
                for number in
                    [1, stored / 2, stored].into_iter().filter(|n| (1..=stored).contains(n))
                {
                    let has = client.ask(&format!("HEXISTS hash:{writer} {number}"));
                    assert_eq!(has, "1", "{story}: {number} of {stored}");
                }
                from[writer] = stored;
            }
        }
    }
}

fn persistence(client: &mut Client, field: &str) -> String {
    let info = client.ask("INFO persistence");
    let line = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap().trim().to_owned()
}

#[test]
fn everysec_syncs_without_being_asked() {
    let node = Node::new();
    let mut client = node.client();
    assert_eq!(client.ask("SET key value"), "OK");
    let position = persistence(&mut client, "godwit_position");
    let end: u64 = position.split('@').nth(1).unwrap().parse().unwrap();
    let begun = Instant::now();
    let synced = |client: &mut Client| persistence(client, "godwit_synced_sequence");
    while synced(&mut client).parse::<u64>().unwrap() < end {
        assert!(begun.elapsed() < Duration::from_secs(20), "nobody syncs");
        std::thread::yield_now();
    }
}

/// The stamps of all batches in the logs, in the order of their sequences.
fn stamps(db: &Path) -> Vec<u64> {
    let mut all = Vec::new();
    for folder in [db.to_owned(), db.join("archive")] {
        for file in std::fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
            if file.path().extension().is_none_or(|end| end != "log") {
                continue;
            }
            let mut decoder = LogDecoder::new();
            decoder.feed(&std::fs::read(file.path()).unwrap());
            while let Ok(Some(record)) = decoder.next() {
                let batch = BatchRef::parse(record.bytes).unwrap();
                for record in batch.records() {
                    if let Record::LogData(bytes) = record {
                        all.push((batch.sequence(), Tag::decode(bytes).unwrap().stamp.0));
                    }
                }
            }
        }
    }
    all.sort_by_key(|(sequence, _)| *sequence);
    all.into_iter().map(|(_, stamp)| stamp).collect()
}

#[test]
fn stamps_rise_through_a_restart_with_a_clock_that_was_set_back() {
    let scratch = tempfile::tempdir().unwrap();
    let mut node = Node::open(scratch.path());
    let mut client = node.client();
    client.story("HSET hash old 1 => 1\nDEL hash => 1");
    node.kill();
    // An hour behind.
    let mut node = Node::open_with(scratch.path(), &[("GODWIT_FAILPOINTS", "clock-behind")]);
    let mut client = node.client();
    client.story("HSET hash new 1 => 1\nHGETALL hash => [new 1]\nSET key value => OK");
    node.kill();
    let stamps = stamps(&scratch.path().join("db"));
    assert!(stamps.len() > 4, "{stamps:?}");
    assert!(stamps.windows(2).all(|pair| pair[0] < pair[1]), "{stamps:?}");
}

#[test]
fn a_clock_that_jumps_ahead_expires_nothing_and_moves_no_stamp() {
    // An hour ahead, from when it was opened.
    let mut node = Node::failing("clock-ahead");
    let mut client = node.client();
    client.story("SET key value PX 600000 => OK\nGET key => value");
    let ahead: u64 = persistence(&mut client, "godwit_clock_ahead_ms").parse().unwrap();
    assert!((3_500_000..=3_700_000).contains(&ahead), "{ahead}");
    let left: u64 = client.ask("PTTL key").parse().unwrap();
    assert!((1..=600_000).contains(&left), "{left}");
    node.kill();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let highest = *stamps(&node.dir().join("db")).last().unwrap() >> 16;
    assert!(u128::from(highest) < now.as_millis() + 60_000, "{highest}");
}
