//! A seed that does not go smoothly: the receiving sidecar dies in the middle.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use anyhow::ensure;
use rand::{Rng, RngCore, SeedableRng};
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
fn a_connection_that_is_cut_again_and_again_sends_a_window_again_each_time() {
    const CUTS: u64 = 4;
    const WINDOW: u64 = 2 << 20;
    let mut story = Story::begin_with(|plan| {
        let mut plan = plan.with_toxics();
        let window = ["--seed-window", "2MiB"].map(str::to_owned).to_vec();
        plan.args.push(("godwit-replicator".to_owned(), window));
        plan
    });
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    fill_with(&story, seed, 3 * VALUES);
    story.clouds.stop_cloud("b").unwrap();
    for shard in &story.clouds.cloud("b").shards {
        std::fs::remove_dir_all(&shard.node.dir).unwrap();
    }
    let sent = "godwit_replicator_seed_bytes_total";
    let before = sidecar_counter(&story.clouds.layout, "a", sent);
    // Each connection ends at a random place, and nothing slows it down before: what was under way is lost.
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let cut = |story: &Story, bytes: u64| {
        let toxics = story.clouds.toxics.as_ref().unwrap();
        let _ = toxics.heal("b-0-stream", "limit_data", "upstream");
        toxics.toxic("b-0-stream", "limit_data", "upstream", json!({"bytes": bytes})).unwrap();
    };
    cut(&story, 3_000_000);
    for process in story.clouds.cloud_mut("b").processes_mut() {
        process.start().unwrap();
    }
    let dir = story.clouds.cloud("b").shards[0].node.dir.join("seed");
    let ended = |story: &Story| {
        sidecar_counter(&story.clouds.layout, "a", "godwit_replicator_stream_resets_total")
    };
    let begun = wait::until("a piece of the seed", STUCK, || {
        ensure!(bytes(&dir) > 0, "there is none");
        Ok(ended(&story))
    });
    let begun = begun.unwrap();
    for n in 1..=CUTS {
        let cut_off = wait::until("a connection to be cut", STUCK, || {
            ensure!(ended(&story) >= begun + n, "{} were", ended(&story) - begun);
            Ok(())
        });
        cut_off.unwrap();
        cut(&story, random.random_range(500_000..3_000_000));
    }
    story.clouds.toxics.as_ref().unwrap().heal("b-0-stream", "limit_data", "upstream").unwrap();
    story.equal("a", "b");
    let all = 3 * VALUES * VALUE_BYTES as u64;
    let sent = sidecar_counter(&story.clouds.layout, "a", sent) - before;
    // What a cut connection had under way was sent and lost: no more than a window.
    let cuts = ended(&story) - begun + 1;
    let most = all + all / 20 + cuts * WINDOW;
    println!("{sent} bytes were sent for {all}, with {cuts} cuts");
    assert!(sent >= all && sent <= most, "{sent} bytes were sent for {all}, with {cuts} cuts");
}

fn fill(story: &Story, seed: u64) {
    fill_with(story, seed, VALUES);
}

fn fill_with(story: &Story, seed: u64, values: u64) {
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let mut client = story.clouds.client("a").unwrap();
    let mut value = vec![0; VALUE_BYTES];
    for number in 0..values {
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

fn bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len()).sum()
}
