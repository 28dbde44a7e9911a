//! A service whose primaries are in two clouds: it says so, is brought home in one operation, and goes on
//! when the rest of home fails.

#![allow(clippy::unwrap_used)] // a helper of a test may stop at the first surprise

use tests::story::Story;

fn primaries(story: &Story) -> Vec<String> {
    let view = story.observer.view();
    view.record().unwrap().primaries.iter().map(ToString::to_string).collect()
}

/// Moves a/0 alone, and looks at what is said of it.
fn part(story: &Story) {
    story.switch(&["run", "--shard", "a/0", "--to", "b", "--yes"]);
    assert_eq!(primaries(story), ["b/0", "a/1"]);
    for verb in [&["status"][..], &["plan", "--to", "a"], &["plan", "--to", "b"]] {
        let said = story.switch(verb).report;
        assert_eq!(said["split"]["home"], "a", "{verb:?}: {said}");
        assert_eq!(said["split"]["away"], serde_json::json!(["b/0"]), "{verb:?}: {said}");
    }
    let refused = story.switchover(&["resize", "--to", "n", "--shards", "2", "--yes"]);
    assert!(refused.code == 3 && refused.said.contains("split"), "{}", refused.said);
}

#[test]
fn what_has_moved_away_comes_home_under_load_in_one_operation() {
    let mut story = Story::begin();
    story.load();
    let traffic = story.traffic();
    story.more(&traffic, 300);
    part(&story);
    story.more(&traffic, 300);
    let back = story.switch(&["failback", "--yes"]).report;
    assert_eq!((&back["from"], &back["to"]), (&"a+b".into(), &"a".into()), "{back}");
    assert_eq!(back["moves"], serde_json::json!(["b/0"]), "{back}");
    assert_eq!(primaries(&story), ["a/0", "a/1"]);
    assert!(story.switch(&["status"]).report["split"].is_null());
    story.more(&traffic, 300);
    story.equal("a", "b");
    let (ledger, verdict) = story.judge(traffic, "a");
    verdict.assert_good();
    assert_eq!((ledger.client_errors(), ledger.unknown()), (0, 0), "{:?}", ledger.errors);
}

#[test]
fn when_the_rest_of_home_fails_it_follows_and_all_of_it_comes_back() {
    let mut story = Story::begin();
    story.load();
    let traffic = story.traffic();
    story.more(&traffic, 300);
    part(&story);
    story.clouds.shard("a/1").node.process.kill9().unwrap();
    let rest = story.switch(&["failover", "--to", "b", "--yes"]).report;
    assert_eq!(rest["moves"], serde_json::json!(["a/1"]), "{rest}");
    assert_eq!(rest["lost"]["known"], 0, "{rest}");
    assert_eq!(primaries(&story), ["b/0", "b/1"]);
    story.more(&traffic, 300);
    story.clouds.shard("a/1").node.process.start().unwrap();
    story.equal("b", "a");
    let back = story.switch(&["failback", "--yes"]).report;
    assert_eq!(back["moves"], serde_json::json!(["b/0", "b/1"]), "{back}");
    story.more(&traffic, 300);
    story.equal("a", "b");
    let (ledger, verdict) = story.judge(traffic, "a");
    verdict.assert_good();
    assert_eq!((ledger.client_errors(), ledger.wrong_reads), (0, 0), "{:?}", ledger.errors);
}
