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

fn link(story: &Story, well: bool) {
    let toxics = story.clouds.toxics.as_ref().unwrap();
    ["b-0-stream", "b-1-stream"].iter().for_each(|name| toxics.enable(name, well).unwrap());
}

fn files(dir: &Path) -> usize {
    std::fs::read_dir(dir).map_or(0, Iterator::count)
}
