//! The link between the sidecars goes bad, in each way a link can. Clients notice nothing, and both
//! clouds are equal once it is well again.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use serde_json::json;
use tests::clouds::Plan;
use tests::story::Story;
use tests::toxi::Toxiproxy;
use tests::wait;

/// The links to both standby sidecars.
const LINKS: [&str; 2] = ["b-0-stream", "b-1-stream"];

/// Makes the links bad for a while under load, well again, and compares.
fn link(bad: impl Fn(&Toxiproxy, &str), well: impl Fn(&Toxiproxy, &str)) {
    let mut story = Story::begin_with(Plan::with_toxics);
    story.load();
    let traffic = story.traffic();
    story.more(&traffic, 300);
    let toxics = story.clouds.toxics.as_ref().expect("the plan has toxic proxies");
    LINKS.iter().for_each(|name| bad(toxics, name));
    story.more(&traffic, 500);
    wait::pause(Duration::from_secs(2));
    LINKS.iter().for_each(|name| well(toxics, name));
    story.more(&traffic, 300);
    story.equal("a", "b");
    let (ledger, verdict) = story.judge(traffic, "a");
    verdict.assert_good();
    assert_eq!((ledger.client_errors(), ledger.unknown()), (0, 0), "{:?}", ledger.errors);
}

#[test]
fn cut() {
    link(|t, name| t.enable(name, false).unwrap(), |t, name| t.enable(name, true).unwrap());
}

#[test]
fn slow() {
    link(
        |t, name| {
            t.toxic(name, "latency", "upstream", json!({"latency": 80, "jitter": 20})).unwrap();
            t.toxic(name, "bandwidth", "upstream", json!({"rate": 20})).unwrap();
        },
        |t, name| {
            t.heal(name, "latency", "upstream").unwrap();
            t.heal(name, "bandwidth", "upstream").unwrap();
        },
    );
}

#[test]
fn dead_but_open() {
    link(
        |t, name| {
            t.toxic(name, "timeout", "upstream", json!({"timeout": 0})).unwrap();
            t.toxic(name, "timeout", "downstream", json!({"timeout": 0})).unwrap();
        },
        |t, name| {
            t.heal(name, "timeout", "upstream").unwrap();
            t.heal(name, "timeout", "downstream").unwrap();
        },
    );
}

#[test]
fn cut_into_slices_and_after_each_few_kilobytes() {
    link(
        |t, name| {
            let slices = json!({"average_size": 100, "size_variation": 90, "delay": 10});
            t.toxic(name, "slicer", "upstream", slices).unwrap();
            t.toxic(name, "limit_data", "downstream", json!({"bytes": 2000})).unwrap();
        },
        |t, name| {
            t.heal(name, "slicer", "upstream").unwrap();
            t.heal(name, "limit_data", "downstream").unwrap();
        },
    );
}
