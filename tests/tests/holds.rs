//! A standby that is behind on purpose, and one that does not follow its primary into ruin.

#![allow(clippy::unwrap_used)]

use anyhow::{Result, ensure};
use tests::client::Client;
use tests::clouds::Plan;
use tests::clouds::control::{Run, replicator};
use tests::clouds::observer::sidecar_counter;
use tests::story::{STUCK, Story};
use tests::wait;

/// Two clouds whose sidecars have these settings.
fn begin(settings: &[&str]) -> Story {
    let settings: Vec<String> = settings.iter().map(|s| (*s).to_owned()).collect();
    Story::begin_with(|mut plan: Plan| {
        plan.args.push(("godwit-replicator".to_owned(), settings));
        plan
    })
}

/// A reading client at the node of this shard.
fn reader(story: &Story, cloud: &str, shard: usize) -> Client {
    let address = &story.clouds.cloud(cloud).shards[shard].node.client;
    let mut client = Client::connect(address).unwrap();
    client.call(&["READONLY"]).unwrap();
    client
}

/// What a key of shard 0 and one of shard 1 hold on the nodes of a cloud.
fn held(story: &Story, cloud: &str) -> [String; 2] {
    let get = |shard, key: &str| {
        let reply = reader(story, cloud, shard).call(&["GET", key]).unwrap();
        reply.as_text().unwrap_or("(nil)").to_owned()
    };
    [get(0, KEYS[0]), get(1, KEYS[1])]
}

/// A key of each shard.
const KEYS: [&str; 2] = ["{b}key", "{a}key"];

fn set(story: &Story, value: &str) {
    let mut client = story.clouds.client("a").unwrap();
    KEYS.iter().for_each(|key| drop(client.call(&["SET", key, value]).unwrap()));
}

fn both(value: &str) -> [String; 2] {
    [value.to_owned(), value.to_owned()]
}

/// Runs a verb beside each node of b.
fn order(story: &Story, args: &[&str]) -> Vec<Run> {
    let shards = &story.clouds.cloud("b").shards;
    let dirs = shards.iter().map(|shard| shard.node.dir.display().to_string());
    dirs.map(|dir| replicator(&[args, &["--node-dir", &dir]].concat()).unwrap()).collect()
}

fn becomes(what: &str, is: impl Fn() -> Result<()>) {
    wait::until(what, STUCK, is).unwrap_or_else(|e| panic!("{e:#}"));
}

/// What the sidecars of b say of what they hold back.
fn reasons(story: &Story) -> Vec<String> {
    let view = story.observer.view();
    let of_b = view.sidecars.iter().filter(|(shard, _)| shard.cluster == "b");
    let receiving = of_b.flat_map(|(_, member)| member.receiving.values());
    receiving.filter_map(|status| Some(status.held.clone()?.reason)).collect()
}

/// Waits until all that a has is on the disks of b, applied or not.
fn staged(story: &Story) {
    becomes("everything to be staged", || {
        let view = story.observer.view();
        for (shard, member) in view.sidecars.iter().filter(|(shard, _)| shard.cluster == "b") {
            let staged = member.receiving.values().filter_map(|s| s.staged).map(|p| p.sequence);
            let source = format!("a/{}", shard.shard).parse()?;
            let end = view.nodes.get(&source).and_then(|node| node.position);
            let end = end.map(|position| position.sequence);
            ensure!(staged.max() >= end && end.is_some(), "{shard}: {end:?}");
        }
        Ok(())
    });
}

#[test]
fn a_standby_behind_on_purpose_has_all_staged_and_catches_up_at_once_or_for_a_switch() {
    let story = begin(&["--apply-delay", "1h"]);
    // What was there when it began to follow came by itself.
    order(&story, &["catch-up"]);
    set(&story, "one");
    staged(&story);
    becomes("it to be told", || {
        let reasons = reasons(&story);
        ensure!(reasons.len() == 2, "{reasons:?}");
        ensure!(reasons.iter().all(|why| why.contains("apply-delay")), "{reasons:?}");
        Ok(())
    });
    assert_eq!(held(&story, "b"), both("(nil)"), "an hour is not over");
    let status = story.switch(&["status"]).said;
    assert!(status.contains("apply-delay"), "{status}");

    // A write stays staged however often the order is given before it.
    assert!(order(&story, &["catch-up"]).iter().all(|run| run.code == 0));
    becomes("what was staged to be applied", || {
        ensure!(held(&story, "b") == both("one"), "{:?}", held(&story, "b"));
        Ok(())
    });
    set(&story, "two");
    staged(&story);
    assert_eq!(held(&story, "b"), both("one"), "the delay holds for what came later");

    // For a moment at another delay, at run time.
    assert!(order(&story, &["apply-delay", "0s"]).iter().all(|run| run.code == 0));
    becomes("a delay of nothing", || {
        ensure!(held(&story, "b") == both("two"), "{:?}", held(&story, "b"));
        Ok(())
    });
    assert!(order(&story, &["apply-delay"]).iter().all(|run| run.code == 0));

    // A switch waits for all that is staged, and loses nothing.
    set(&story, "three");
    story.switch(&["run", "--to", "b", "--yes", "--max-lag", "2h"]);
    let mut client = story.clouds.client("b").unwrap();
    for key in KEYS {
        assert_eq!(client.call(&["GET", key]).unwrap().as_text(), Some("three"));
    }
}

#[test]
fn a_flush_is_not_followed_until_an_operator_says_so_and_that_outlives_the_sidecar() {
    let mut story = begin(&["--breaker-deletes", "50%"]);
    set(&story, "kept");
    story.equal("a", "b");
    story.clouds.client("a").unwrap().call(&["FLUSHALL"]).unwrap();
    tripped(&story);
    set(&story, "after");
    staged(&story);
    assert_eq!(held(&story, "b"), both("kept"));
    assert_eq!(tripped_gauges(&story), 2);
    for shard in ["b/0", "b/1"] {
        story.clouds.shard(shard).sidecar.process.kill9().unwrap();
        story.clouds.shard(shard).sidecar.process.start().unwrap();
    }
    tripped(&story);
    set(&story, "later");
    staged(&story);
    assert_eq!(held(&story, "b"), both("kept"), "a restart is no consent");
    let asked = order(&story, &["apply-anyway"]);
    assert!(asked.iter().all(|run| run.code == 3 && run.said.contains("FLUSHALL")), "{asked:?}");

    assert!(order(&story, &["apply-anyway", "--yes"]).iter().all(|run| run.code == 0));
    becomes("what was staged to be applied", || {
        ensure!(held(&story, "b") == both("later"), "{:?}", held(&story, "b"));
        Ok(())
    });
    story.equal("a", "b");
    assert_eq!(tripped_gauges(&story), 0);
}

#[test]
fn what_deletes_too_many_keys_is_discarded_and_the_standby_takes_over_with_them() {
    const EACH: usize = 300;
    let story = begin(&["--breaker-deletes", "50%"]);
    let mut client = story.clouds.client("a").unwrap();
    for number in 0..EACH {
        client.call(&["SET", &format!("{{a}}{number}"), "x"]).unwrap();
        client.call(&["SET", &format!("{{b}}{number}"), "x"]).unwrap();
    }
    story.equal("a", "b");
    for number in 0..EACH {
        client.call(&["DEL", &format!("{{a}}{number}")]).unwrap();
        client.call(&["DEL", &format!("{{b}}{number}")]).unwrap();
    }
    tripped(&story);
    let left = || (0..2).map(|shard| size(&story, shard)).sum::<i64>();
    let kept = left();
    assert!(kept >= EACH as i64, "half of them at most are gone: {kept} are left");

    let planned = story.switchover(&["run", "--to", "b", "--yes"]);
    assert_ne!(planned.code, 0, "a switch would have to apply it: {}", planned.said);
    assert!(order(&story, &["discard", "--yes"]).iter().all(|run| run.code == 0));
    assert_eq!(left(), kept);
    for shard in &story.clouds.cloud("b").shards {
        assert!(shard.node.dir.join("spool/discarded").is_dir(), "it is set aside, not gone");
    }
    let failover = ["failover", "--to", "b", "--yes", "--drain-wait", "2s", "--accept-loss"];
    story.switch(&failover);
    assert_eq!(left(), kept, "nothing of what was discarded came back");
    story.equal("b", "a");
}

fn size(story: &Story, shard: usize) -> i64 {
    reader(story, "b", shard).call(&["DBSIZE"]).unwrap().as_integer().unwrap()
}

fn tripped(story: &Story) {
    becomes("the breakers to trip", || {
        let reasons = reasons(story);
        ensure!(reasons.len() == 2, "{reasons:?}");
        ensure!(reasons.iter().all(|why| why.contains("the breaker stopped")), "{reasons:?}");
        Ok(())
    });
}

fn tripped_gauges(story: &Story) -> u64 {
    sidecar_counter(&story.clouds.layout, "b", "godwit_replicator_breaker_tripped")
}
