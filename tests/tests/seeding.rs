//! Seeds that do not go smoothly: the receiving sidecar dies in the middle, and an old primary has
//! deleted everything past the fork, so that no rewind can help.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use anyhow::ensure;
use rand::{RngCore, SeedableRng};
use serde_json::json;
use tests::clouds::Plan;
use tests::clouds::observer::sidecar_counter;
use tests::story::{STUCK, Story};
use tests::wait;

const LINKS: [&str; 2] = ["b-0-stream", "b-1-stream"];
/// Values that no compression makes smaller, and their size.
const VALUES: u64 = 1200;
const VALUE_BYTES: usize = 10_000;

#[test]
fn a_sidecar_that_dies_in_the_middle_of_a_seed_goes_on_where_it_was() {
    let mut story = Story::begin_with(Plan::with_toxics);
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    fill(&story, seed);
    story.clouds.stop_cloud("b").unwrap();
    for shard in &story.clouds.cloud("b").shards {
        std::fs::remove_dir_all(&shard.node.dir).unwrap();
    }
    let sent = "godwit_replicator_seed_bytes_total";
    let before = sidecar_counter(&story.clouds.layout, "a", sent);
    throttle(&story, true);
    for process in story.clouds.cloud_mut("b").processes_mut() {
        process.start().unwrap();
    }

    let dir = story.clouds.cloud("b").shards[0].node.dir.join("seed");
    let all = VALUES * VALUE_BYTES as u64;
    let part = wait::until("a part of the seed", STUCK, || {
        ensure!(bytes(&dir) > all / 4, "{} bytes", bytes(&dir));
        Ok(())
    });
    part.unwrap();
    story.clouds.shard("b/0").sidecar.process.kill9().unwrap();
    let kept = bytes(&dir);
    assert!(kept < all * 2 / 5, "it was not in the middle: {kept} bytes");
    throttle(&story, false);
    story.clouds.shard("b/0").sidecar.process.start().unwrap();
    story.equal("a", "b");

    // What lay in buffers when it died was sent and lost; what it had written is not sent again.
    let both = sidecar_counter(&story.clouds.layout, "a", sent) - before;
    let again = all + all / 2 - kept * 3 / 4;
    assert!(both < again, "{both} bytes were sent for {all}, {kept} were there");
}

#[test]
fn a_stranded_flushall_is_kept_in_the_ledger_and_the_old_side_is_seeded() {
    let mut story = Story::begin_with(Plan::with_toxics);
    story.load();
    let level = story.equal("a", "b");
    link(&story, false);
    let mut client = story.clouds.client("a").unwrap();
    client.call(&["FLUSHALL"]).unwrap();
    client.call(&["SET", "{a}after", "1"]).unwrap();
    client.call(&["SET", "{b}after", "1"]).unwrap();
    for shard in ["a/0", "a/1"] {
        let shard = story.clouds.shard(shard);
        shard.sidecar.process.kill9().unwrap();
        shard.node.process.kill9().unwrap();
    }
    let failover = ["failover", "--to", "b", "--yes", "--drain-wait", "2s", "--accept-loss"];
    story.switch(&[&failover[..], &["--no-wait-reverse"]].concat());
    link(&story, true);
    story.clouds.start_cloud("a").unwrap_or_else(|e| panic!("{e:#}"));
    let found = story.equal("b", "a");
    assert_eq!(found.keys, level.keys, "the new side has what was level before");
    for shard in ["a-0", "a-1"] {
        let ledger = story.clouds.layout.dir.join("data").join(shard).join("spool/ledger");
        let files = std::fs::read_dir(&ledger).unwrap().map(|entry| entry.unwrap().path());
        let whole = files.filter(|path| path.extension().is_some_and(|e| e == "seg"));
        assert!(whole.count() > 0, "what {shard} wrote past the fork is kept");
    }
}

fn fill(story: &Story, seed: u64) {
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let mut client = story.clouds.client("a").unwrap();
    let mut value = vec![0; VALUE_BYTES];
    for number in 0..VALUES {
        random.fill_bytes(&mut value);
        let key = format!("value:{number}");
        client.call(&[b"SET", key.as_bytes(), &value]).unwrap();
    }
}

fn throttle(story: &Story, slow: bool) {
    let toxics = story.clouds.toxics.as_ref().unwrap();
    for name in LINKS {
        if slow {
            toxics.toxic(name, "bandwidth", "upstream", json!({"rate": 1000})).unwrap();
        } else {
            toxics.heal(name, "bandwidth", "upstream").unwrap();
        }
    }
}

fn link(story: &Story, well: bool) {
    let toxics = story.clouds.toxics.as_ref().unwrap();
    LINKS.iter().for_each(|name| toxics.enable(name, well).unwrap());
}

fn bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len()).sum()
}
