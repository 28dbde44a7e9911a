//! A standby has a materialised snapshot within moments, and goes on with the log from there.

#![allow(clippy::unwrap_used)] // a helper of a test may stop at the first surprise

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tests::alone::Alone;
use tests::client::Client;
use tests::clouds::Clouds;
use tests::shelf::{Shelf, compact, ok, run, said, snapshotter, write};
use tests::story::Story;
use tests::wait;

const PATIENCE: Duration = Duration::from_secs(30);

/// What a stream has sent so far of files, and in all.
fn sent(story: &Story, from: &str, to: &str) -> (u64, u64) {
    let streams = story.observer.streams(&from[..1]);
    let stream = streams.into_iter().find(|(f, t, _)| f == from && t == to).unwrap().2;
    (stream.seed_bytes, stream.sent_bytes)
}

fn database(clouds: &Clouds, shard: &str) -> String {
    let cloud = clouds.cloud(&shard[..1]);
    let node = &cloud.shards.iter().find(|s| s.name == shard).unwrap().node;
    let status = Client::connect(&node.admin).unwrap().text(&["GODWIT.STATUS"]).unwrap();
    let status: Value = serde_json::from_str(&status).unwrap();
    status["database"].as_str().unwrap().to_owned()
}

#[test]
fn a_standby_that_has_a_snapshot_of_its_primary_is_sent_the_log_and_nothing_else() {
    let story = Story::begin();
    let (clouds, shelf) = (&story.clouds, Shelf::new());
    write(clouds, 0, 5_000);
    shelf.pushed(clouds, "a", &[]);
    let first = shelf.ok("materialise", &[]);
    assert_eq!(first["materialised"].as_array().unwrap().len(), 2, "{first}");
    // By log, which goes on from what is there: nothing is written but the log.
    write(clouds, 1_000, 1_200);
    compact(clouds);
    let pushed = shelf.pushed(clouds, "a", &[]);
    assert_eq!(pushed["shards"][0]["way"], "log", "{pushed}");
    let second = shelf.ok("materialise", &[]);
    for one in second["materialised"].as_array().unwrap() {
        assert_eq!(one["written-bytes"], 0, "{second}");
        assert!(one["batches"].as_u64() > Some(0), "{second}");
    }
    assert_eq!(second["removed"].as_array().unwrap().len(), 2, "{second}");

    // Later than the snapshot: this comes by the log.
    write(clouds, 5_000, 5_200);
    story.equal("a", "b");
    for shard in ["b/0", "b/1"] {
        let source = shard.replace('b', "a");
        let (before, old) = (sent(&story, &source, shard), database(clouds, shard));
        let activated = ok(&shelf.activate(clouds, shard, &[]));
        assert_eq!(activated["snapshot"], pushed["snapshot"], "{activated}");
        assert_eq!(activated["of"], *source, "{activated}");
        assert_eq!(activated["follows"], "log", "{activated}");
        assert_ne!(database(clouds, shard), old);
        let after = sent(&story, &source, shard);
        assert_eq!(after.0, before.0, "files were sent");
        let left = activated["log-bytes"].as_u64().unwrap();
        assert!(
            left > 0 && after.1 < before.1 + 10 * left + 100_000,
            "{activated} {before:?} {after:?}"
        );
    }
    let compared = story.equal("a", "b");
    assert!(compared.keys >= 5_200, "{compared:?}");
    // What was activated is untouched by what the node does with it.
    write(clouds, 0, 2_000);
    story.equal("a", "b");
    let again = ok(&shelf.activate(clouds, "b/0", &[]));
    assert_eq!(again["follows"], "log", "{again}");
    story.equal("a", "b");
}

#[test]
fn what_does_not_fit_or_would_be_lost_is_refused() {
    let story = Story::begin();
    let (clouds, shelf) = (&story.clouds, Shelf::new());
    write(clouds, 0, 300);
    let refused = |shard: &str, more: &[&str], words: &str| {
        let output = shelf.activate(clouds, shard, more);
        assert_eq!(output.status.code(), Some(3), "{}", said(&output));
        assert!(said(&output).contains(words), "{words}: {}", said(&output));
    };
    refused("b/0", &[], "nothing is materialised");
    shelf.pushed(clouds, "a", &[]);
    shelf.ok("materialise", &["--shard", "a/0"]);
    let before = ["a/0", "b/0", "b/1"].map(|shard| database(clouds, shard));
    refused("a/0", &[], "primary");
    refused("b/1", &[], "holds the slots 0-8191");
    let other = clouds.cloud("b").shards[1].node.admin.clone();
    refused("b/0", &["--node-admin", &other], "that of b/1");
    assert_eq!(before, ["a/0", "b/0", "b/1"].map(|shard| database(clouds, shard)));
}

#[test]
fn a_standbys_own_snapshot_is_gone_on_from_by_its_sources_log() {
    let story = Story::begin();
    let (clouds, shelf) = (&story.clouds, Shelf::new());
    write(clouds, 0, 300);
    // The log since this one stays at the source: it is what the next push of a needs.
    shelf.pushed(clouds, "a", &[]);
    write(clouds, 300, 400);
    shelf.pushed(clouds, "b", &[]);
    shelf.ok("materialise", &["--shard", "b/0", "--shard", "b/1"]);
    write(clouds, 400, 500);
    for (shard, more) in [("b/0", &[][..]), ("b/1", &["--copy"])] {
        let source = shard.replace('b', "a");
        let before = sent(&story, &source, shard).0;
        let activated = ok(&shelf.activate(clouds, shard, more));
        let shown = (&activated["of"], &activated["follows"]);
        assert_eq!(shown, (&shard.into(), &"log".into()), "{activated}");
        assert!(activated["log-bytes"].as_u64() > Some(0), "{activated}");
        assert_eq!(sent(&story, &source, shard).0, before, "files were sent");
    }
    story.equal("a", "b");
    // Who asks whether the log is there takes no snapshot, and that is no fault.
    let asked = |log: &str, words: &str| log.lines().any(|line| line.contains(words));
    for shard in &clouds.cloud("a").shards {
        let log = fs::read_to_string(&shard.sidecar.process.log).unwrap();
        assert!(asked(&log, "said whether the log since its snapshot is here"), "{log}");
        assert!(!asked(&log, "an export ended early"), "{log}");
    }

    // No source any more: it is not known who would go on with it.
    story.switch(&["run", "--to", "b", "--yes"]);
    let output = shelf.activate(clouds, "a/0", &[]);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(said(&output).contains("a/0, which is no primary now"), "{}", said(&output));
}

#[test]
fn a_node_that_dies_while_it_activates_has_what_it_had_or_all_of_it() {
    let mut story = Story::begin_with(|plan| {
        plan.with_env("b-0-node", "GODWIT_FAILPOINTS", "activate-half-linked").with_env(
            "b-1-node",
            "GODWIT_FAILPOINTS",
            "seed-after-renames:every=2",
        )
    });
    let shelf = Shelf::new();
    write(&story.clouds, 0, 300);
    shelf.pushed(&story.clouds, "a", &[]);
    shelf.ok("materialise", &[]);
    for (shard, swapped) in [("b/0", false), ("b/1", true)] {
        let old = database(&story.clouds, shard);
        let output = shelf.activate(&story.clouds, shard, &[]);
        assert_eq!(output.status.code(), Some(6), "{}", said(&output));
        let node = &mut story.clouds.shard(shard).node;
        let half = node.dir.join("activate");
        wait::until("the node to be gone", PATIENCE, || {
            anyhow::ensure!(!node.process.alive());
            Ok(())
        })
        .unwrap();
        assert_eq!(half.exists(), !swapped);
        node.process.env.clear();
        node.process.start().unwrap();
        story.clouds.wait_ready("b").unwrap();
        assert!(!half.exists());
        assert_eq!(database(&story.clouds, shard) != old, swapped);
        story.equal("a", "b");
        ok(&shelf.activate(&story.clouds, shard, &[]));
    }
    story.equal("a", "b");
}

#[test]
fn an_empty_node_begins_with_a_snapshot_with_a_service_or_alone() {
    let mut story = Story::begin();
    let shelf = Shelf::new();
    write(&story.clouds, 0, 1_000);
    shelf.pushed(&story.clouds, "a", &[]);
    shelf.ok("materialise", &[]);
    write(&story.clouds, 1_000, 1_100);

    // A new machine: before its sidecar runs, so that no seed comes first.
    let shard = story.clouds.shard("b/0");
    shard.sidecar.process.end();
    shard.node.process.end();
    fs::remove_dir_all(&shard.node.dir).unwrap();
    fs::create_dir_all(&shard.node.dir).unwrap();
    shard.node.process.start().unwrap();
    let before = sent(&story, "a/0", "b/0").0;
    wait::until("the node to take it", PATIENCE, || {
        let activated = shelf.activate(&story.clouds, "b/0", &["--wait", "0s"]);
        anyhow::ensure!(activated.status.success(), "{}", said(&activated));
        Ok(())
    })
    .unwrap();
    story.clouds.shard("b/0").sidecar.process.start().unwrap();
    story.equal("a", "b");
    assert_eq!(sent(&story, "a/0", "b/0").0, before, "files were sent");

    let mut alone = Alone::on(Path::new(&shelf.path("alone")));
    let key = (0..1_000).map(|n| format!("key:{n}")).find(|key| {
        let slots: keyspace::SlotSet = "0-8191".parse().unwrap();
        slots.contains(keyspace::Slot::of_key(key.as_bytes()))
    });
    let key = key.unwrap();
    // What was not there is not remembered as such.
    assert_eq!(alone.client.call(&["GET", &key]).unwrap().as_text(), None);
    let (from, admin) = (shelf.materialised(), alone.admin.clone());
    let args = ["activate", "--materialised", &from, "--shard", "a/0", "--node-admin", &admin];
    let args = [&args[..], &["--output", "json"]].concat();
    ok(&run(&mut snapshotter(&args)));
    assert!(alone.client.text(&["GET", &key]).unwrap().starts_with("value "));
    assert_eq!(alone.client.text(&["SET", "new", "1"]).unwrap(), "OK");
    let again = run(&mut snapshotter(&args));
    assert_eq!(again.status.code(), Some(3), "{}", said(&again));
    assert!(said(&again).contains("holds data"), "{}", said(&again));
    assert_eq!(alone.client.text(&["GET", "new"]).unwrap(), "1");
}

#[test]
fn an_activation_wins_over_a_seed_that_is_under_way() {
    let mut story = Story::begin_with(tests::clouds::Plan::with_toxics);
    let shelf = Shelf::new();
    // Random bytes: they are as long when they are sent.
    let mut client = story.clouds.client("a").unwrap();
    for n in 0..1_500 {
        let value: String = (0..500).map(|_| format!("{:08x}", rand::random::<u32>())).collect();
        client.push(&["SET", &format!("noise:{n}"), &value]);
    }
    client.flush().unwrap();
    for _ in 0..1_500 {
        assert_eq!(client.answer().unwrap().as_text(), Some("OK"));
    }
    shelf.pushed(&story.clouds, "a", &[]);
    shelf.ok("materialise", &["--shard", "a/0"]);
    story.equal("a", "b");

    // A new machine whose sidecar runs: half of its seed is there, and the rest comes slowly.
    let shard = story.clouds.shard("b/0");
    shard.sidecar.process.end();
    shard.node.process.end();
    fs::remove_dir_all(&shard.node.dir).unwrap();
    fs::create_dir_all(&shard.node.dir).unwrap();
    shard.node.process.start().unwrap();
    let seed = shard.node.dir.join("seed");
    let slow = |story: &Story, slow: bool| {
        let toxics = story.clouds.toxics.as_ref().unwrap();
        match slow {
            true => toxics.toxic("b-0-stream", "bandwidth", "upstream", json!({"rate": 300})),
            false => toxics.heal("b-0-stream", "bandwidth", "upstream"),
        }
        .unwrap();
    };
    slow(&story, true);
    story.clouds.shard("b/0").sidecar.process.start().unwrap();
    let sent = || -> u64 {
        let files = fs::read_dir(&seed).into_iter().flatten().flatten();
        files.filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).sum()
    };
    wait::until("the seed to be under way", PATIENCE, || {
        anyhow::ensure!(sent() > 200 << 10, "{} bytes", sent());
        Ok(())
    })
    .unwrap();
    let empty = database(&story.clouds, "b/0");
    let activated = ok(&shelf.activate(&story.clouds, "b/0", &["--wait", "0s"]));
    assert!(activated["bytes"].as_u64() > Some(2 << 20), "{activated}");
    let activated = database(&story.clouds, "b/0");
    assert_ne!(activated, empty);
    assert!(sent() < 2 << 20, "the seed was over: {} bytes", sent());
    slow(&story, false);
    write(&story.clouds, 0, 100);
    story.equal("a", "b");
    assert_eq!(database(&story.clouds, "b/0"), activated, "a seed has replaced it");
}
