//! Clouds of different shapes: seeded, followed, switched to and back.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use anyhow::ensure;
use keyspace::SlotSet;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use resp::reply::Reply;
use serde_json::json;
use tests::client::Client;
use tests::clouds::Plan;
use tests::story::{STUCK, Story};
use tests::wait;

/// Values that no compression makes smaller, and their size.
const VALUES: u64 = 1200;
const VALUE_BYTES: usize = 10_000;
/// Fields of a hash that is large.
const FIELDS: u32 = 5_000;
const LIBRARY: &str = "#!lua name=shapes\nredis.register_function('f', function() return 1 end)";

/// Cloud a with so many shards, holding data of every type, and b with so many, empty.
fn apart(seed: u64, a: u16, b: u16, change: impl FnOnce(Plan) -> Plan) -> (Story, StdRng) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut story = Story::begin_with(|plan| change(plan.with_shards(a, b)));
    let mut client = story.clouds.client("a").unwrap();
    client.call(&["SET", "before", "the flood"]).unwrap();
    on_each_node(&story, "a", &["FLUSHALL"]);
    on_each_node(&story, "a", &["FUNCTION", "LOAD", LIBRARY]);
    on_each_node(&story, "a", &["ACL", "SETUSER", "shaper", "on", ">s", "+get"]);
    story.load();
    extras(&mut client, &mut random, "first");
    story.clouds.stop_cloud("b").unwrap();
    for shard in &story.clouds.cloud("b").shards {
        std::fs::remove_dir_all(&shard.node.dir).unwrap();
    }
    (story, random)
}

/// What packages lack: what expires soon and late, what was deleted, a large collection.
fn extras(client: &mut Client, random: &mut StdRng, name: &str) {
    for number in 0..200 {
        let (key, life) = (format!("{name}:expires:{number}"), random.random_range(1..9_999_999));
        client.call(&["SET", &key, "x", "PX", &life.to_string()]).unwrap();
    }
    for key in ["kept", "gone"].map(|key| format!("{name}:{key}")) {
        for field in 0..FIELDS {
            client.push(&["HSET", &key, &field.to_string(), &random.random::<u64>().to_string()]);
        }
        client.flush().unwrap();
        (0..FIELDS).for_each(|_| drop(client.answer().unwrap()));
    }
    client.call(&["DEL", &format!("{name}:gone")]).unwrap();
    client.call(&["HSET", &format!("{name}:gone"), "again", "1"]).unwrap();
}

fn on_each_node(story: &Story, cloud: &str, command: &[&str]) {
    for shard in &story.clouds.cloud(cloud).shards {
        Client::connect(&shard.node.client).unwrap().call(command).unwrap();
    }
}

/// No node of a cloud has a key of a slot that is not its own, and each has the library and the user.
fn each_has_its_own(story: &Story, cloud: &str) {
    for shard in &story.clouds.cloud(cloud).shards {
        let others = SlotSet::all().difference(&shard.slots.parse().unwrap()).to_string();
        let mut admin = Client::connect(&shard.node.admin).unwrap();
        let exported = admin.call(&["GODWIT.SLOTS", "EXPORT", &others, ""]).unwrap();
        let [_, next, batch] = exported.as_array().unwrap() else { panic!("{exported:?}") };
        assert!(matches!(next, Reply::Null), "{} has keys of {others}", shard.name);
        assert_eq!(batch.as_bytes().unwrap().len(), 12, "{} has keys of {others}", shard.name);
        let mut client = Client::connect(&shard.node.client).unwrap();
        let libraries = client.call(&["FUNCTION", "LIST"]).unwrap();
        assert!(says(&libraries, "shapes"), "{}: {libraries:?}", shard.name);
        let users = client.call(&["ACL", "USERS"]).unwrap();
        assert!(says(&users, "shaper"), "{}: {users:?}", shard.name);
    }
}

/// Whether a text is anywhere in an answer.
fn says(reply: &Reply, text: &str) -> bool {
    match reply.as_array() {
        Some(parts) => parts.iter().any(|part| says(part, text)),
        None => reply.as_text() == Some(text),
    }
}

fn start(story: &mut Story, cloud: &str) {
    story.clouds.cloud_mut(cloud).processes_mut().for_each(|process| process.start().unwrap());
}

/// Seeds b under writes, compares, switches there, and back.
fn seeded_and_switched(seed: u64, a: u16, b: u16) {
    let (mut story, mut random) = apart(seed, a, b, |plan| plan);
    let traffic = story.traffic();
    start(&mut story, "b");
    story.equal("a", "b");
    each_has_its_own(&story, "b");
    // The streams bring range deletes, clipped, and what comes after.
    on_each_node(&story, "a", &["FUNCTION", "LOAD", "REPLACE", LIBRARY]);
    let mut client = story.clouds.client("a").unwrap();
    extras(&mut client, &mut random, "second");
    story.more(&traffic, 200);
    story.equal("a", "b");
    story.switch(&["run", "--to", "b", "--yes"]);
    story.more(&traffic, 200);
    story.equal("b", "a");
    each_has_its_own(&story, "a");
    story.switch(&["run", "--to", "a", "--yes"]);
    story.more(&traffic, 200);
    story.equal("a", "b");
    each_has_its_own(&story, "b");
    let (ledger, verdict) = story.judge(traffic, "a");
    verdict.assert_good();
    assert!(ledger.acknowledged() > 0);
}

#[test]
fn two_shards_are_followed_by_three() {
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    seeded_and_switched(seed, 2, 3);
}

#[test]
fn three_shards_are_followed_by_two() {
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    seeded_and_switched(seed, 3, 2);
}

#[test]
fn four_shards_are_followed_by_eight_and_a_flush_reaches_all_of_them() {
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let (mut story, mut random) = apart(seed, 4, 8, |plan| plan);
    start(&mut story, "b");
    story.equal("a", "b");
    each_has_its_own(&story, "b");
    on_each_node(&story, "a", &["FLUSHALL"]);
    extras(&mut story.clouds.client("a").unwrap(), &mut random, "after");
    let after = story.equal("a", "b");
    assert!(after.keys <= 202, "{after:?}");
}

#[test]
fn a_seed_of_another_shape_goes_on_whoever_is_killed() {
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let (mut story, mut random) = apart(seed, 2, 3, Plan::with_toxics);
    let mut client = story.clouds.client("a").unwrap();
    let mut value = vec![0; VALUE_BYTES];
    for number in 0..VALUES {
        random.fill_bytes(&mut value);
        client.call(&[b"SET", format!("value:{number}").as_bytes(), &value]).unwrap();
    }
    throttle(&story, true);
    start(&mut story, "b");
    // The third that both shards of a have something of.
    let dirs = ["a-0", "a-1"].map(|source| received(&story, "b/1", source));
    let all = VALUES * VALUE_BYTES as u64 / 6;
    let came = |dir: &Path, more: u64| {
        let part = wait::until("a part of the seed", STUCK, || {
            ensure!(bytes(dir) >= more, "{} of {more} bytes", bytes(dir));
            Ok(())
        });
        part.unwrap();
    };
    dirs.iter().for_each(|dir| came(dir, all / 6));
    story.clouds.shard("b/1").sidecar.process.kill9().unwrap();
    let kept = bytes(&dirs[0]);
    assert!(kept < all * 3 / 4, "it was not in the middle: {kept} of {all}");
    story.clouds.shard("b/1").sidecar.process.start().unwrap();
    came(&dirs[0], kept + all / 10);
    story.clouds.shard("b/1").node.process.kill9().unwrap();
    story.clouds.shard("b/1").node.process.start().unwrap();
    // It begins with another checkpoint.
    story.clouds.shard("a/1").sidecar.process.kill9().unwrap();
    story.clouds.shard("a/1").sidecar.process.start().unwrap();
    throttle(&story, false);
    story.equal("a", "b");
    each_has_its_own(&story, "b");
    for shard in ["b/0", "b/1", "b/2"] {
        let left = bytes(&story.clouds.shard(shard).node.dir.join("loads/received"));
        assert_eq!(left, 0, "{shard} keeps files");
    }
    for shard in ["a/0", "a/1"] {
        let dir = story.clouds.shard(shard).node.dir.clone();
        let cleared = wait::until("the source's files to go", STUCK, || {
            let left = bytes(&dir.join("spool/slices")) + bytes(&dir.join("checkpoints"));
            ensure!(left == 0, "{left} bytes");
            Ok(())
        });
        cleared.unwrap();
    }
}

#[test]
fn a_node_that_dies_while_it_takes_slots_in_has_them_or_gets_them_again() {
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let (mut story, _) = apart(seed, 2, 3, |plan| plan);
    for (shard, point) in [
        ("b/0", "load-after-intent"),
        ("b/1", "load-before-done,slice-before-intent:every=2"),
        ("b/2", "load-after-family"),
    ] {
        let env = ("GODWIT_FAILPOINTS".to_owned(), point.to_owned());
        story.clouds.shard(shard).node.process.env.push(env);
    }
    start(&mut story, "b");
    for shard in ["b/0", "b/1", "b/2"] {
        let died = wait::until("the node to die", STUCK, || {
            ensure!(!story.clouds.shard(shard).node.process.alive(), "it lives");
            Ok(())
        });
        died.unwrap();
        let node = &mut story.clouds.shard(shard).node.process;
        if shard != "b/1" {
            node.env.clear();
        }
        node.start().unwrap();
    }
    // Once for each source.
    let again = wait::until("the node with two sources to die again", STUCK, || {
        ensure!(!story.clouds.shard("b/1").node.process.alive(), "it lives");
        Ok(())
    });
    again.unwrap();
    let node = &mut story.clouds.shard("b/1").node.process;
    node.env.clear();
    node.start().unwrap();
    story.equal("a", "b");
    each_has_its_own(&story, "b");
}

#[test]
fn what_was_stranded_on_another_shape_is_in_its_ledger_and_taken_back() {
    let mut story = Story::begin_with(|plan| plan.with_toxics().with_shards(2, 3));
    on_each_node(&story, "a", &["FUNCTION", "LOAD", LIBRARY]);
    on_each_node(&story, "a", &["ACL", "SETUSER", "shaper", "on", ">s", "+get"]);
    story.load();
    story.equal("a", "b");
    // Of the first shard of a and each of the two of b that have some of its slots.
    let slots = |key: &str| keyspace::Slot::of_key(key.as_bytes()).number();
    let keys = (0..).map(|n| format!("stranded:{n}"));
    let of =
        |range: std::ops::Range<u16>| keys.clone().find(|key| range.contains(&slots(key))).unwrap();
    let keys = [of(0..5461), of(5461..8192)];
    story.strand(|story| {
        let mut client = story.clouds.client("a").unwrap();
        keys.iter().for_each(|key| drop(client.call(&["SET", key, "x"]).unwrap()));
    });
    story.link("b", true);
    story.clouds.start_cloud("a").unwrap();
    story.equal("b", "a");
    each_has_its_own(&story, "a");
    let dir = story.clouds.shard("a/0").node.dir.display().to_string();
    let listed = story.replicator(&["ledger", "list", "--node-dir", &dir]);
    let names = listed.report["ledgers"].as_array().unwrap().clone();
    let shown = names.iter().map(|ledger| {
        let name = ledger["name"].as_str().unwrap();
        story.replicator(&["ledger", "show", name, "--node-dir", &dir]).said
    });
    let shown: String = shown.collect();
    assert!(keys.iter().all(|key| shown.contains(key.as_str())), "{shown}");
    let mut client = story.clouds.client("b").unwrap();
    for key in &keys {
        assert!(matches!(client.call(&["GET", key]).unwrap(), Reply::Null), "{key} is there");
    }
}

/// Where a shard of b receives what a source has.
fn received(story: &Story, shard: &str, source: &str) -> PathBuf {
    let shards = &story.clouds.cloud("b").shards;
    let shard = shards.iter().find(|found| found.name == shard).unwrap();
    shard.node.dir.join(format!("loads/received/slice-{source}"))
}

fn throttle(story: &Story, slow: bool) {
    let toxics = story.clouds.toxics.as_ref().unwrap();
    for name in ["b-0-stream", "b-1-stream", "b-2-stream"] {
        match slow {
            true => toxics.toxic(name, "bandwidth", "upstream", json!({"rate": 500})).unwrap(),
            false => toxics.heal(name, "bandwidth", "upstream").unwrap(),
        }
    }
}

/// Of all files below a directory.
fn bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => bytes(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.map(of).sum()
}
