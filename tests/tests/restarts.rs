//! Single processes die or restart under load while the active cloud stays the active one.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use tests::clouds::Process;
use tests::story::Story;

/// Breaks something under load, then expects nothing lost and both clouds equal.
fn under_load(break_it: impl FnOnce(&mut Story)) -> tests::load::Ledger {
    let mut story = Story::begin();
    let traffic = story.traffic();
    story.more(&traffic, 300);
    break_it(&mut story);
    story.more(&traffic, 500);
    story.equal("a", "b");
    let (ledger, verdict) = story.judge(traffic, "a");
    verdict.assert_good();
    assert_eq!(ledger.wrong_reads, 0, "{:?}", ledger.errors);
    ledger
}

fn kill_and_start(process: &mut Process) {
    process.kill9().and_then(|()| process.start()).unwrap_or_else(|e| panic!("{e:#}"));
}

#[test]
fn a_standby_node_that_is_killed_goes_on_where_it_was() {
    let ledger = under_load(|story| kill_and_start(&mut story.clouds.shard("b/0").node.process));
    assert_eq!((ledger.client_errors(), ledger.unknown()), (0, 0), "{:?}", ledger.errors);
}

#[test]
fn a_sidecar_that_is_killed_is_never_missed_by_clients() {
    let ledger = under_load(|story| kill_and_start(&mut story.clouds.shard("a/0").sidecar.process));
    assert_eq!((ledger.client_errors(), ledger.unknown()), (0, 0), "{:?}", ledger.errors);
}

#[test]
fn a_standbys_sidecar_that_is_killed_applies_nothing_twice() {
    let ledger = under_load(|story| kill_and_start(&mut story.clouds.shard("b/1").sidecar.process));
    assert_eq!((ledger.client_errors(), ledger.unknown()), (0, 0), "{:?}", ledger.errors);
}

#[test]
fn an_active_node_that_is_killed_and_started_has_all_it_acknowledged() {
    under_load(|story| kill_and_start(&mut story.clouds.shard("a/1").node.process));
}

#[test]
fn an_active_node_that_is_restarted_has_all_it_acknowledged() {
    under_load(|story| {
        let process = &mut story.clouds.shard("a/0").node.process;
        process.term().and_then(|()| process.start()).unwrap_or_else(|e| panic!("{e:#}"));
    });
}

#[test]
fn a_sidecar_that_hangs_is_a_nuisance_to_nobody() {
    let ledger = under_load(|story| {
        let process = &story.clouds.shard("a/0").sidecar.process;
        process.freeze().unwrap_or_else(|e| panic!("{e:#}"));
        tests::wait::pause(Duration::from_secs(2));
        process.thaw().unwrap_or_else(|e| panic!("{e:#}"));
    });
    assert_eq!((ledger.client_errors(), ledger.unknown()), (0, 0), "{:?}", ledger.errors);
}

#[test]
fn clients_of_a_proxy_that_is_killed_connect_again_and_miss_nothing() {
    let ledger = under_load(|story| {
        for proxy in &mut story.clouds.cloud_mut("a").proxies {
            kill_and_start(&mut proxy.process);
        }
    });
    assert!(ledger.disconnects > 0, "some connections went through it");
    let refused = ledger.client_errors() - ledger.disconnects;
    assert_eq!(refused, 0, "no command was answered with an error: {:?}", ledger.errors);
}

/// How long after a primary's restart, counted from its first write, a standby may be behind.
const LEVEL_WITHIN: Duration = Duration::from_secs(5);

#[test]
fn a_standby_is_level_soon_after_its_primary_came_back() {
    let mut story = Story::begin();
    let traffic = story.traffic();
    story.more(&traffic, 300);
    kill_and_start(&mut story.clouds.shard("a/0").node.process);
    let address = |cloud: &str| story.clouds.cloud(cloud).shards[0].node.client.clone();
    let (a, b) = (address("a"), address("b"));
    let written = tests::wait::until("the primary to accept writes", tests::story::STUCK, || {
        let mut client = tests::client::Client::connect(&a)?;
        client.call(&["SET", "{b}back", "yes"])?;
        Ok(std::time::Instant::now())
    });
    let written = written.unwrap_or_else(|e| panic!("{e:#}"));
    let seen = tests::wait::until("the standby to have it", tests::story::STUCK, || {
        let mut client = tests::client::Client::connect(&b)?;
        client.call(&["READONLY"])?;
        let value = client.call(&["GET", "{b}back"])?;
        anyhow::ensure!(value.as_text() == Some("yes"), "not yet");
        Ok(written.elapsed())
    });
    let took = seen.unwrap_or_else(|e| panic!("{e:#}"));
    assert!(took < LEVEL_WITHIN, "the standby was level {took:?} after the first write");
    story.more(&traffic, 100);
    story.equal("a", "b");
    let (_, verdict) = story.judge(traffic, "a");
    verdict.assert_good();
}
