//! A planned switchover under load loses nothing and shows no client an error; going back moves
//! what was written, not what there is.

#![allow(clippy::unwrap_used)]

use std::process::Command;
use std::time::{Duration, Instant};

use tests::client::Client;
use tests::clouds::binaries;
use tests::clouds::observer::sidecar_counter;
use tests::load::{Traffic, TrafficPlan};
use tests::story::{STUCK, Story};
use tests::wait;

#[test]
fn switch_there_and_back_under_load() {
    let mut story = Story::begin();
    story.load();
    story.equal("a", "b");
    let traffic = story.traffic();
    story.more(&traffic, 500);

    story.switch(&["run", "--to", "b", "--yes"]);
    assert_eq!(story.observer.active().as_deref(), Some("b"));
    story.more(&traffic, 500);

    story.switch(&["failback", "--yes"]);
    assert_eq!(story.observer.active().as_deref(), Some("a"));
    let copied = sidecar_counter(&story.clouds.layout, "b", "godwit_replicator_seed_bytes_total");
    assert_eq!(copied, 0, "going back must not copy checkpoints");
    story.more(&traffic, 500);
    story.equal("a", "b");

    let (ledger, verdict) = story.judge(traffic, "a");
    verdict.assert_good();
    assert_eq!(ledger.client_errors(), 0, "{:?}", ledger.errors);
    assert_eq!((ledger.unknown(), ledger.wrong_reads), (0, 0));
}

#[test]
fn what_was_acknowledged_is_in_the_new_cloud_with_the_old_one_stopped() {
    let mut story = Story::begin();
    let traffic = story.traffic();
    story.more(&traffic, 500);
    story.switch(&["run", "--to", "b", "--yes"]);
    story.more(&traffic, 300);
    let (ledger, verdict) = story.judge(traffic, "b");
    verdict.assert_good();
    assert_eq!((ledger.client_errors(), ledger.unknown()), (0, 0), "{:?}", ledger.errors);
}

/// 32 connections write unique ids through the proxies of both clouds, and never hear of it.
#[test]
fn ten_switches_there_and_back() {
    let mut story = Story::begin();
    let plan = TrafficPlan { writers: 32, ..TrafficPlan::small("ten", story.clouds.proxies()) };
    let traffic = Traffic::start(plan);
    story.more(&traffic, 500);
    let mut pauses = Vec::new();
    for to in ["b", "a"].into_iter().cycle().take(10) {
        let run = story.switch(&["run", "--to", to, "--yes"]);
        pauses.push(run.report["pause_ms"].as_f64().unwrap());
        story.more(&traffic, 200);
    }
    println!("pauses in ms: {pauses:?}");
    pauses.sort_by(f64::total_cmp);
    println!("median {} ms, longest {} ms", pauses[5], pauses[9]);
    story.equal("a", "b");
    let (ledger, verdict) = story.judge(traffic, "a");
    verdict.assert_good();
    assert_eq!((ledger.client_errors(), ledger.unknown()), (0, 0), "{:?}", ledger.errors);
}

/// One shard goes to the other cloud, and comes back when it fails there; the other shard never stops.
#[test]
fn one_shard_moves_under_load() {
    let mut story = Story::begin();
    story.load();
    let traffic = story.traffic();
    story.more(&traffic, 300);
    story.switch(&["run", "--shard", "a/0", "--to", "b", "--yes"]);
    let primaries = |story: &Story| {
        let view = story.observer.view();
        let names = view.record().unwrap().primaries.iter().map(ToString::to_string);
        names.collect::<Vec<_>>()
    };
    assert_eq!(primaries(&story), ["b/0", "a/1"]);
    story.more(&traffic, 300);

    story.clouds.shard("b/0").node.process.kill9().expect("the node runs");
    story.switch(&["failover", "--shard", "b/0", "--to", "a", "--yes"]);
    assert_eq!(primaries(&story), ["a/0", "a/1"]);
    story.more(&traffic, 300);
    story.clouds.shard("b/0").node.process.start().unwrap();
    story.equal("a", "b");
    let (ledger, verdict) = story.judge(traffic, "a");
    verdict.assert_good();
    assert_eq!((ledger.client_errors(), ledger.wrong_reads), (0, 0), "{:?}", ledger.errors);
}

/// A new primary that dies right behind COMMIT holds up its own slots until its process is back, and no
/// longer: nothing waits for the end of a key or a lease of the dead one.
#[test]
fn a_new_primary_that_dies_behind_the_commit_costs_its_restart() {
    let mut story = Story::begin();
    let traffic = story.traffic();
    story.more(&traffic, 300);
    let epoch = story.observer.epoch();
    let layout = &story.clouds.layout;
    let mut tool = Command::new(binaries::path("godwit-switchover").unwrap());
    tool.args(["run", "--to", "b", "--yes", "--registry", &layout.registry]);
    tool.args(["--service", &layout.service, "--journal"]).arg(layout.dir.join("journal"));
    let mut tool = tool.spawn().unwrap();
    wait::until("the commit", STUCK, || {
        anyhow::ensure!(story.observer.epoch() > epoch, "not yet");
        Ok(())
    })
    .unwrap();
    let killed = Instant::now();
    let node = &mut story.clouds.shard("b/0").node;
    node.process.kill9().unwrap();
    node.process.start().unwrap();
    let client = node.client.clone();
    let mut key = (0..).map(|n| format!("back:{n}"));
    let key = key.find(|k| keyspace::Slot::of_key(k.as_bytes()).number() < 8192).unwrap();
    wait::until("the new primary to take writes", STUCK, || {
        Client::connect(&client)?.call(&["SET", &key, "1"]).map(drop)
    })
    .unwrap();
    let took = killed.elapsed();
    let code = tool.wait().unwrap().code();
    println!(
        "a new primary that was killed behind COMMIT takes writes {} ms later",
        took.as_millis()
    );
    assert!(took < Duration::from_secs(3), "a lease is 3 s, a member's key lasts 5: {took:?}");
    assert_eq!(code, Some(0), "the tool saw it through");
    story.more(&traffic, 300);
    let (ledger, verdict) = story.judge(traffic, "b");
    verdict.assert_good();
    assert_eq!(ledger.client_errors(), 0, "{:?}", ledger.errors);
}
