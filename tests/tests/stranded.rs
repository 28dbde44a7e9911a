//! The link between the clouds is cut, then the active cloud dies, machines and all: what it had
//! acknowledged since the cut is stranded there. The tool says so and refuses; told to go on, it
//! does; and when the old side returns it writes what it had to its ledger, takes it back, and
//! follows. In the end both are equal and nothing was thrown away in silence.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use tests::clouds::Plan;
use tests::story::Story;

#[test]
fn an_unplanned_failover_says_what_is_missing_and_keeps_it() {
    let mut story = Story::begin_with(Plan::with_toxics);
    story.load();
    story.equal("a", "b");
    let traffic = story.traffic();
    story.more(&traffic, 300);
    link(&story, false);
    story.more(&traffic, 300);
    for shard in ["a/0", "a/1"] {
        let shard = story.clouds.shard(shard);
        shard.sidecar.process.kill9().unwrap();
        shard.node.process.kill9().unwrap();
    }

    let drain = ["failover", "--to", "b", "--yes", "--drain-wait", "2s"];
    let refused = story.switchover(&drain);
    assert_eq!(refused.code, 3, "losing writes must be asked for: {}", refused.said);
    assert_eq!(story.observer.active().as_deref(), Some("a"), "nothing was decided");

    let accepted = story.switch(&[&drain[..], &["--accept-loss", "--no-wait-reverse"]].concat());
    assert!(
        !accepted.report["lost"].is_null(),
        "the report says what is missing: {}",
        accepted.said
    );
    assert_eq!(story.observer.active().as_deref(), Some("b"));
    story.more(&traffic, 300);
    let (ledger, verdict) = story.judge(traffic, "b");
    assert!(verdict.lost > 0, "writes were stranded: {verdict:?}");
    assert_eq!((verdict.duplicated, verdict.damaged, verdict.disordered), (0, 0, 0), "{verdict:?}");
    assert_eq!(ledger.client_errors(), 0, "{:?}", ledger.errors);

    link(&story, true);
    story.clouds.start_cloud("a").unwrap_or_else(|e| panic!("{e:#}"));
    story.equal("b", "a");
    let ledgers =
        |shard: &str| files(&story.clouds.layout.dir.join("data").join(shard).join("spool/ledger"));
    assert!(ledgers("a-0") > 0 && ledgers("a-1") > 0, "the stranded writes are kept in ledgers");
}

/// The end of each log can be read where it is: what is missing is a number, and so is what is accepted.
#[test]
fn what_is_accepted_is_compared_with_what_is_missing() {
    let mut story = Story::begin_with(Plan::with_toxics);
    story.load();
    story.equal("a", "b");
    link(&story, false);
    let mut client = story.clouds.client("a").unwrap();
    for n in 0..25 {
        client.call(&["SET", &format!("{{a}}lost:{n}"), "1"]).unwrap();
    }
    for shard in ["a/0", "a/1"] {
        story.clouds.shard(shard).node.process.kill9().unwrap();
    }
    let failover = |loss: &str| {
        let args = ["failover", "--to", "b", "--yes", "--drain-wait", "2s", "--accept-loss", loss];
        story.switchover(&[&args[..], &["--no-wait-reverse"]].concat())
    };
    let known = |run: &tests::clouds::control::Run| run.report["lost"]["known"].as_u64();
    let refused = failover("24 writes");
    assert_eq!(refused.code, 3, "{}", refused.said);
    let missing = known(&refused).unwrap();
    assert!(missing >= 25, "the 25, and heartbeats: {}", refused.said);
    let says = format!("{missing} writes are more than the 24 that are accepted");
    assert!(refused.said.contains(&says), "{}", refused.said);
    let refused = failover("1ms");
    assert!(refused.code == 3 && refused.said.contains("is more than the 1ms that is accepted"));
    assert_eq!(story.observer.active().as_deref(), Some("a"), "nothing was decided");

    let accepted = failover(&format!("{} writes", missing + 1000));
    assert_eq!(accepted.code, 0, "{}", accepted.said);
    assert!(known(&accepted).unwrap() >= missing, "{}", accepted.said);
    let lost = accepted.report["losses"].as_array().unwrap();
    let of = |source: &str| lost.iter().find(|l| l["source"] == source).unwrap()["writes"].as_u64();
    assert!(of("a/0").or(of("a/1")).is_some(), "shard by shard: {lost:?}");
    assert_eq!(story.observer.active().as_deref(), Some("b"));
    let mut client = story.clouds.client("b").unwrap();
    assert!(client.call(&["GET", "{a}lost:0"]).unwrap().as_text().is_none(), "it was not there");
}

fn link(story: &Story, well: bool) {
    let toxics = story.clouds.toxics.as_ref().unwrap();
    ["b-0-stream", "b-1-stream"].iter().for_each(|name| toxics.enable(name, well).unwrap());
}

fn files(dir: &Path) -> usize {
    std::fs::read_dir(dir).map_or(0, Iterator::count)
}
