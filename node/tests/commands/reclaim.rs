//! The space of what was deleted comes back, by a compaction that is asked for and by itself.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::node::{Client, Node};

const FIELDS: usize = 30_000;

fn fill(client: &mut Client, key: &str) {
    let value = "v".repeat(100);
    for chunk in (0..FIELDS).collect::<Vec<_>>().chunks(500) {
        let fields: Vec<_> = chunk.iter().map(|field| format!("f{field} {value}")).collect();
        assert_eq!(client.ask(&format!("HSET {key} {}", fields.join(" "))), "500");
    }
}

fn compact(node: &Node) {
    let admin = format!("unix:{}/admin.sock", node.dir().display());
    let mut compact = Command::new(env!("CARGO_BIN_EXE_godwit-node"));
    assert!(compact.args(["compact", "--admin", &admin]).status().unwrap().success());
}

fn reclaimed(client: &mut Client) -> usize {
    let info = client.ask("INFO persistence");
    let line = info.lines().find_map(|line| line.strip_prefix("godwit_reclaimed_records:"));
    line.unwrap().trim().parse().unwrap()
}

/// Bytes of all table files.
fn tables(node: &Node) -> u64 {
    let files = std::fs::read_dir(node.dir().join("db")).unwrap().map(Result::unwrap);
    let tables = files.filter(|file| file.path().extension().is_some_and(|end| end == "sst"));
    // One may go while it is looked at.
    tables.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
}

#[test]
fn the_space_of_a_deleted_hash_comes_back_by_compaction() {
    let node = Node::new();
    let mut client = node.client();
    fill(&mut client, "kept");
    compact(&node);
    let one = tables(&node);
    fill(&mut client, "gone");
    compact(&node);
    let two = tables(&node);
    assert!(two > one + one / 2, "{one} {two}");
    client.story("DEL gone => 1\nEXISTS gone => 0");
    compact(&node);
    assert_eq!(reclaimed(&mut client), FIELDS);
    let left = tables(&node);
    assert!(left < one + one / 4, "{one} {two} {left}");
    assert_eq!(client.ask("HLEN kept"), FIELDS.to_string());
    assert_eq!(client.ask("HSTRLEN kept f777"), "100");
    // What has expired goes the same way, and what is written over.
    fill(&mut client, "string");
    client.story("SET string now => OK");
    fill(&mut client, "expired");
    client.story("PEXPIRE expired 1 => 1");
    let deadline = Instant::now() + Duration::from_secs(20);
    while client.ask("EXISTS expired") == "1" {
        assert!(Instant::now() < deadline);
    }
    // The worker deletes it when it comes by.
    while reclaimed(&mut client) < 3 * FIELDS {
        assert!(Instant::now() < deadline, "{}", reclaimed(&mut client));
        compact(&node);
    }
    assert!(tables(&node) < one + one / 4);
    assert_eq!(client.ask("GET string"), "now");
}

#[test]
fn files_that_are_mostly_garbage_are_compacted_without_being_asked() {
    let scratch = tempfile::tempdir().unwrap();
    let node = Node::open_with(scratch.path(), &[("GODWIT_RECLAIM_EVERY", "100ms")]);
    let mut client = node.client();
    // Two thirds of each file will be garbage: half would be the edge, and decided by rounding.
    for key in ["kept", "gone", "away"] {
        fill(&mut client, key);
    }
    // So that it is in files; nothing is garbage yet.
    compact(&node);
    assert_eq!(reclaimed(&mut client), 0);
    client.story("DEL gone away => 2");
    let deadline = Instant::now() + Duration::from_secs(30);
    while reclaimed(&mut client) < 2 * FIELDS {
        assert!(Instant::now() < deadline, "{}", reclaimed(&mut client));
        std::thread::yield_now();
    }
    assert_eq!(client.ask("HLEN kept"), FIELDS.to_string());
}
