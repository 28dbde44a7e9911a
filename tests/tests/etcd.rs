//! Two clouds whose registry is etcd: they switch and fail over as on a directory, and etcd may die,
//! hang, lose a member, forget its history and be set back without two ever accepting writes.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::json;
use tests::client::Client;
use tests::etcd::Etcd;
use tests::load::Traffic;
use tests::story::{STUCK, Story};
use tests::toxi::Toxiproxy;
use tests::wait;

const LEASE: Duration = Duration::from_millis(1500);
/// No write may be acknowledged so long after the registry went silent; what is on its way then still
/// arrives.
const CLOSED_AFTER: Duration = Duration::from_millis(2500);
/// How long it is watched that none is.
const WATCHED: Duration = Duration::from_millis(1000);

fn story_on(etcd: &Etcd) -> Story {
    Story::begin_with(|plan| tests::clouds::Plan { lease: LEASE, ..plan.on(etcd.address()) })
}

/// Whose nodes promise each other nothing: a silent registry closes it.
fn closing(plan: tests::clouds::Plan) -> tests::clouds::Plan {
    let mut plan = tests::clouds::Plan { lease: LEASE, ..plan };
    let off = ["--peer-promises".to_owned(), "false".to_owned()];
    plan.args.push(("godwit-node".to_owned(), off.into()));
    plan
}

/// Writes stop once the leases have ended, on both clouds, and reads go on.
fn closed(story: &mut Story, traffic: &Traffic, since: Instant) {
    wait::pause(CLOSED_AFTER.saturating_sub(since.elapsed()));
    let before = traffic.acknowledged();
    for shard in ["a/0", "a/1", "b/0", "b/1"] {
        let address = story.clouds.shard(shard).node.client.clone();
        let mut node = Client::connect(&address).unwrap();
        for key in ["{a}probe", "{b}probe"] {
            let written = node.call(&["SET", key, "x"]);
            assert!(written.is_err(), "{shard} accepts a write of {key} without a registry");
        }
        assert!(node.call(&["PING"]).is_ok());
    }
    wait::pause(WATCHED);
    assert_eq!(traffic.acknowledged(), before, "a write was acknowledged without a lease");
}

#[test]
fn there_and_back_and_a_crash_while_members_come_and_go() {
    let mut etcd = Etcd::cluster(3, None);
    let mut story = story_on(&etcd);
    story.load();
    let traffic = story.traffic();
    story.more(&traffic, 500);

    let run = story.switch(&["run", "--to", "b", "--yes"]);
    println!("pause with three members: {} ms", run.report["pause_ms"]);
    etcd.compact();
    etcd.kill(0);
    story.more(&traffic, 300);
    let run = story.switch(&["failback", "--yes"]);
    println!("pause with one of three lost: {} ms", run.report["pause_ms"]);
    etcd.start_again(0);
    // The next one hangs instead: whoever talks to it goes on with another.
    etcd.freeze(1);
    story.more(&traffic, 300);
    story.clouds.shard("a/0").node.process.kill9().unwrap();
    let run = story.switch(&["failover", "--to", "b", "--yes"]);
    println!("failover with one of three hung: {} ms", run.report["failover_ms"]);
    etcd.thaw(1);
    assert_eq!(story.observer.active().as_deref(), Some("b"));
    story.more(&traffic, 300);

    let (ledger, verdict) = story.judge(traffic, "b");
    verdict.assert_good();
    assert_eq!((ledger.client_errors(), ledger.wrong_reads), (0, 0), "{:?}", ledger.errors);
}

/// Whoever starts while the registry is silent waits for it, and says so; a person is not kept waiting.
#[test]
fn who_starts_while_it_is_silent_waits() {
    let mut etcd = Etcd::start();
    let mut story = story_on(&etcd);
    story.clouds.stop_cloud("b").unwrap();
    etcd.kill(0);
    let mut pages = Vec::new();
    for shard in &mut story.clouds.cloud_mut("b").shards {
        shard.node.process.start().unwrap();
        shard.sidecar.process.start().unwrap();
        pages.extend([shard.node.metrics.clone(), shard.sidecar.metrics.clone()]);
    }
    for proxy in &mut story.clouds.cloud_mut("b").proxies {
        proxy.process.start().unwrap();
        pages.push(proxy.metrics.clone());
    }
    for process in story.clouds.cloud_mut("b").processes_mut() {
        let waits = wait::until(&format!("{} to say that it waits", process.name), STUCK, || {
            let said = process.tail(20);
            ensure!(said.contains("waiting for the registry"), "{said}");
            Ok(())
        });
        waits.unwrap();
    }
    for page in &pages {
        let well = wait::until(&format!("{page} to be served"), STUCK, || {
            tests::clouds::http_get(&format!("http://{page}/metrics"))
        });
        well.unwrap();
        let ready = tests::clouds::http_get(&format!("http://{page}/readyz"));
        assert!(ready.is_err(), "{page} says that it is ready: {ready:?}");
    }
    let asked = Instant::now();
    let tool = story.switchover(&["status"]);
    assert_eq!(tool.code, 1, "{}", tool.said);
    assert!(tool.said.contains("did not answer"), "{}", tool.said);
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    assert!(story.clouds.cloud_mut("b").processes_mut().all(|process| process.alive()));
    etcd.start_again(0);
    story.clouds.wait_ready("b").unwrap();
    story.followed("a", "b");
}

#[test]
fn without_its_registry_and_without_promises_nobody_writes_and_afterwards_all_goes_on() {
    let mut etcd = Etcd::start();
    let mut story = Story::begin_with(|plan| closing(plan.on(etcd.address())));
    let traffic = story.traffic();
    story.more(&traffic, 300);

    etcd.kill(0);
    closed(&mut story, &traffic, Instant::now());
    let status = story.switchover(&["status"]);
    assert!(status.code != 0 && status.said.contains("did not answer"), "{}", status.said);
    etcd.start_again(0);
    story.more(&traffic, 300);

    etcd.freeze(0);
    closed(&mut story, &traffic, Instant::now());
    etcd.thaw(0);
    story.more(&traffic, 300);
    assert_eq!(story.observer.epoch(), 1, "nothing was decided meanwhile");
    wait::until("everybody to be heard of again", STUCK, || {
        let plan = story.switchover(&["plan", "--to", "b"]);
        ensure!(plan.code == 0, "{}", plan.said);
        Ok(())
    })
    .unwrap();

    story.switch(&["run", "--to", "b", "--yes"]);
    story.more(&traffic, 300);
    let (ledger, verdict) = story.judge(traffic, "b");
    verdict.assert_good();
    assert_eq!(ledger.wrong_reads, 0);
}

#[test]
fn a_registry_set_back_to_an_old_backup_is_followed_by_nobody_until_it_is_repaired() {
    let mut etcd = Etcd::start();
    let mut story = story_on(&etcd);
    let traffic = story.traffic();
    story.more(&traffic, 300);
    let backup = etcd.backup("while-a-was-active");
    story.switch(&["run", "--to", "b", "--yes"]);
    story.more(&traffic, 300);

    etcd.restore(&backup);
    closed(&mut story, &traffic, Instant::now());
    // A proxy that starts now believes what it reads: the nodes know better.
    let proxy = &mut story.clouds.cloud_mut("a").proxies[0];
    proxy.process.kill9().unwrap();
    proxy.process.start().unwrap();
    wait::until("the check to see the nodes", STUCK, || {
        let check = story.switchover(&["registry", "check"]);
        ensure!(check.code == 1 && check.said.contains("set back"), "{}", check.said);
        ensure!(check.said.contains("`registry repair` writes epoch 3"), "{}", check.said);
        Ok(())
    })
    .unwrap();
    let plan = story.switchover(&["plan", "--to", "b"]);
    assert_eq!(plan.code, 3, "{}", plan.said);
    closed(&mut story, &traffic, Instant::now());

    story.switch(&["registry", "repair", "--yes"]);
    wait::until("b to be active again", STUCK, || {
        ensure!(story.observer.epoch() == 3, "epoch {}", story.observer.epoch());
        Ok(())
    })
    .unwrap();
    assert_eq!(story.observer.active().as_deref(), Some("b"));
    story.more(&traffic, 300);
    assert_eq!(story.switchover(&["registry", "check"]).code, 0);
    let (ledger, verdict) = story.judge(traffic, "b");
    verdict.assert_good();
    assert_eq!(ledger.wrong_reads, 0);
}

#[test]
fn an_etcd_that_is_far_away_makes_a_switch_slow_and_one_that_is_cut_off_closes() {
    let etcd = Etcd::start();
    let toxics = Toxiproxy::open().unwrap();
    let direct = format!("127.0.0.1:{}", etcd.ports()[0]);
    let far = toxics.proxy("etcd", "127.0.0.1:0", &direct).unwrap();
    let mut story = Story::begin_with(|plan| closing(plan.on(format!("etcd://{far}"))));
    let traffic = story.traffic();
    story.more(&traffic, 300);
    for stream in ["upstream", "downstream"] {
        toxics.toxic("etcd", "latency", stream, json!({"latency": 50, "jitter": 20})).unwrap();
    }
    let run = story.switch(&["run", "--to", "b", "--yes"]);
    println!("pause with etcd 100 ms away: {} ms", run.report["pause_ms"]);
    story.more(&traffic, 300);

    toxics.enable("etcd", false).unwrap();
    closed(&mut story, &traffic, Instant::now());
    toxics.enable("etcd", true).unwrap();
    story.more(&traffic, 300);
    // Open, and nothing comes through: the same.
    toxics.toxic("etcd", "timeout", "downstream", json!({"timeout": 0})).unwrap();
    closed(&mut story, &traffic, Instant::now());
    toxics.heal("etcd", "timeout", "downstream").unwrap();
    story.more(&traffic, 300);

    story.switch(&["failback", "--yes"]);
    story.more(&traffic, 300);
    let (ledger, verdict) = story.judge(traffic, "a");
    verdict.assert_good();
    assert_eq!(ledger.wrong_reads, 0);
}
