//! A node of the active cloud dies under load. Its log is a file: its sidecar reads it to its end,
//! the other cloud takes over with every acknowledged write, and the old side comes back and follows.

#![allow(clippy::unwrap_used)]

use tests::story::Story;

#[test]
fn a_killed_node_loses_nothing() {
    let mut story = Story::begin();
    story.load();
    let traffic = story.traffic();
    story.more(&traffic, 500);

    story.clouds.shard("a/0").node.process.kill9().expect("the node runs");
    story.switch(&["failover", "--to", "b", "--yes"]);
    assert_eq!(story.observer.active().as_deref(), Some("b"));
    story.more(&traffic, 500);

    let (ledger, verdict) = story.judge(traffic, "b");
    verdict.assert_good();
    assert_eq!((ledger.client_errors(), ledger.wrong_reads), (0, 0), "{:?}", ledger.errors);

    story.clouds.start_cloud("a").unwrap_or_else(|e| panic!("{e:#}"));
    story.equal("b", "a");
}
