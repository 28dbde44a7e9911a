//! The reads of a zone are served by a cluster that follows, and by the primaries again: under load,
//! without an error, in one swap of the record that takes no epoch.

#![allow(clippy::unwrap_used)]

use anyhow::{Result, ensure};
use tests::clouds::Plan;
use tests::clouds::observer::metric;
use tests::clouds::start::http_get;
use tests::story::{STUCK, Story};
use tests::wait;

fn becomes(what: &str, is: impl Fn() -> Result<()>) {
    wait::until(what, STUCK, is).unwrap_or_else(|e| panic!("{e:#}"));
}

/// Reads that the proxy of this cloud has sent to standbys.
fn aside(story: &Story, cloud: &str) -> u64 {
    let proxy = &story.clouds.cloud(cloud).proxies[0];
    let page = http_get(&format!("http://{}/metrics", proxy.metrics)).unwrap();
    metric(&page, "godwit_proxy_standby_reads_total")
}

/// Waits until the proxy of a sends reads to b, or until it says why it does not.
fn reads_are(story: &Story, out: bool) {
    becomes("the reads of zone west to move", || {
        let view = story.observer.view();
        let proxy = view.proxies.values().find(|p| p.zone.as_deref() == Some("west"));
        let reads = proxy.and_then(|proxy| proxy.reads.clone());
        ensure!(reads.as_ref().is_some_and(|r| r.home.is_none() == out), "{reads:?}");
        Ok(())
    });
}

#[test]
fn reads_of_a_zone_move_to_a_standby_and_back_under_load() {
    let mut story = Story::begin_with(|plan: Plan| {
        plan.with_toxics().with_env("a-proxy", "GODWIT_ZONE", "west")
    });
    let epoch = story.observer.epoch();
    let traffic = story.traffic();
    story.more(&traffic, 300);
    assert_eq!(aside(&story, "a"), 0);

    let refused = story.switchover(&["route", "--zone", "west", "--reads", "c"]);
    assert_eq!(refused.code, 2, "{}", refused.said);
    story.switch(&["route", "--zone", "west", "--reads", "b", "--max-lag", "1800ms"]);
    reads_are(&story, true);
    let more = |at_least: u64| {
        let from = aside(&story, "a");
        becomes("reads to go to b", || {
            let now = aside(&story, "a");
            ensure!(now >= from + at_least, "{from} -> {now}");
            Ok(())
        });
    };
    more(50);
    assert_eq!(aside(&story, "b"), 0, "the proxy of no zone reads at the primaries");
    story.more(&traffic, 300);

    // b falls behind: the reads go home before they are older than the bound, and out again after.
    story.link("b", false);
    reads_are(&story, false);
    let home = aside(&story, "a");
    story.more(&traffic, 200);
    assert_eq!(aside(&story, "a"), home, "what is too old is not read");
    story.link("b", true);
    reads_are(&story, true);
    more(50);

    // A node of b dies: its reads are asked again at the primary.
    story.clouds.shard("b/0").node.process.kill9().unwrap();
    story.more(&traffic, 200);
    reads_are(&story, false);
    let cleared = story.switch(&["route", "--zone", "west", "--clear"]);
    assert_eq!(cleared.report["reads"], serde_json::json!({}));
    assert_eq!(story.observer.epoch(), epoch, "who may write was not touched");

    let ledger = traffic.stop();
    assert_eq!(
        (ledger.client_errors(), ledger.wrong_reads, ledger.read_errors, ledger.unknown()),
        (0, 0, 0, 0),
        "{:?}",
        ledger.errors
    );
    assert!(ledger.reads > 0);
}
