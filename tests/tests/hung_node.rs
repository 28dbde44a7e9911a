//! A node hangs, sockets open, and wakes up after another cloud has taken over: it must not accept
//! one more write. What it wrote before it hung is in its log, and its sidecar ships it.

#![allow(clippy::unwrap_used)]

use keyspace::Slot;
use tests::client::Client;
use tests::story::Story;

#[test]
fn a_node_that_wakes_up_after_a_failover_writes_nothing() {
    let mut story = Story::begin();
    let traffic = story.traffic();
    story.more(&traffic, 500);
    // A key of shard a/0, and a connection to it that was good before.
    let key = (0..).map(|n| format!("key{n}")).find(|k| Slot::of_key(k.as_bytes()).number() < 8192);
    let key = key.unwrap();
    let node = story.clouds.shard("a/0").node.client.clone();
    let mut direct = Client::connect(&node).unwrap();
    direct.call(&["SET", &key, "before"]).unwrap();

    story.clouds.shard("a/0").node.process.freeze().unwrap();
    let run = ["failover", "--to", "b", "--yes", "--accept-loss", "--no-wait-reverse"];
    story.switch(&run);
    story.more(&traffic, 300);
    // Sent while it hung: it finds this when it wakes, with its lease long gone.
    direct.push(&["SET", &key, "hung"]);
    direct.flush().unwrap();
    story.clouds.shard("a/0").node.process.thaw().unwrap();
    let woken = direct.answer();
    assert!(
        !matches!(&woken, Ok(reply) if reply.as_text() == Some("OK")),
        "a node that lost its lease acknowledged a write: {woken:?}"
    );
    let mut again = Client::connect(&node).unwrap();
    assert!(again.call(&["SET", &key, "after"]).is_err(), "two clouds accept writes");

    assert_eq!(story.clouds.client("a").unwrap().text(&["GET", &key]).unwrap(), "before");
    story.equal("b", "a");
    let (ledger, verdict) = story.judge(traffic, "b");
    verdict.assert_good();
    assert_eq!((ledger.client_errors(), ledger.wrong_reads), (0, 0), "{:?}", ledger.errors);
}
