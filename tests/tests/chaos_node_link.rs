//! The link between proxies and a node is reset under load. What was sent and not answered is
//! unknown to its client, and nothing else happens: no error, nothing lost, nothing twice.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use serde_json::json;
use tests::clouds::Plan;
use tests::story::Story;
use tests::wait;

#[test]
fn reset() {
    let mut story = Story::begin_with(Plan::with_toxics);
    let traffic = story.traffic();
    story.more(&traffic, 300);
    for _ in 0..5 {
        let toxics = story.clouds.toxics.as_ref().expect("the plan has toxic proxies");
        toxics.toxic("a-0-client", "reset_peer", "downstream", json!({"timeout": 0})).unwrap();
        wait::pause(Duration::from_millis(100));
        toxics.heal("a-0-client", "reset_peer", "downstream").unwrap();
        story.more(&traffic, 200);
    }
    story.equal("a", "b");
    let (ledger, verdict) = story.judge(traffic, "a");
    verdict.assert_good();
    assert!(ledger.unknown() > 0, "writes were on their way when the link was reset");
    assert_eq!((ledger.client_errors(), ledger.wrong_reads), (0, 0), "{:?}", ledger.errors);
}
