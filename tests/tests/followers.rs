//! A cluster that follows is added and removed while everything runs: nothing is restarted, no client
//! sees anything, and what is kept for one that is gone is let go of.

#![allow(clippy::unwrap_used)] // a helper of a test may stop at the first surprise

use anyhow::ensure;
use tests::clouds::observer::metric;
use tests::clouds::start::http_get;
use tests::story::{STUCK, Story};
use tests::wait;

/// More than a quarter of this is not kept for nobody.
const BUDGET: u64 = 64 << 20;
const HALVES: &str = "0-8191,8192-16383";

fn eventually(what: &str, check: impl FnMut() -> anyhow::Result<()>) {
    wait::until(what, STUCK, check).unwrap_or_else(|error| panic!("{error:#}"));
}

/// The metrics of the sidecar of a/0.
fn page(story: &Story) -> String {
    let sidecar = &story.clouds.cloud("a").shards[0].sidecar;
    http_get(&format!("http://{}/metrics", sidecar.metrics)).unwrap()
}

fn streams_to(story: &Story, cluster: &str) -> usize {
    let streams = story.observer.streams("a");
    let to = |name: &str| name.split('/').next() == Some(cluster);
    streams.iter().filter(|(_, target, s)| to(target) && s.state == "streaming").count()
}

/// What its sidecar's health page says of the record.
fn ready(story: &Story, cluster: &str) -> anyhow::Result<()> {
    let sidecar = &story.clouds.cloud(cluster).shards[0].sidecar;
    http_get(&format!("http://{}/readyz", sidecar.metrics)).map(drop)
}

fn starts(story: &Story) -> Vec<u32> {
    let clouds = ["a", "b"].map(|name| story.clouds.cloud(name));
    let shards = clouds.iter().flat_map(|cloud| &cloud.shards);
    shards.flat_map(|s| [s.node.process.pid(), s.sidecar.process.pid()]).collect()
}

#[test]
fn a_cluster_is_added_and_removed_under_load_and_nothing_is_restarted() {
    let mut story = Story::begin_with(|mut plan| {
        let halves = plan.clouds[0].1.clone();
        plan.clouds.push(("c".to_owned(), halves));
        plan.later = vec!["c".to_owned()];
        let budget = ["--spool-budget", "64MiB"].map(str::to_owned).to_vec();
        plan.args.push(("godwit-replicator".to_owned(), budget));
        plan
    });
    story.load();
    let traffic = story.traffic();
    story.more(&traffic, 200);
    let before = starts(&story);

    // One that is started before it is in the record says so, and waits.
    let c = story.clouds.cloud_mut("c");
    c.shards.iter_mut().for_each(|s| s.node.process.start().unwrap());
    c.shards.iter_mut().for_each(|s| s.sidecar.process.start().unwrap());
    let said = "removed, or never added";
    eventually("c to say that it is not in the record", || {
        let why = ready(&story, "c").err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(why.contains(said), "it says {why}");
        Ok(())
    });
    story.switch(&["cluster", "add", &format!("c={HALVES}")]);
    eventually("c to follow", || {
        ensure!(streams_to(&story, "c") == 2, "{:?}", story.observer.streams("a"));
        Ok(())
    });
    story.more(&traffic, 200);
    story.equal("a", "c");
    story.equal("a", "b");
    eventually("c to be well", || ready(&story, "c"));
    let again = story.switch(&["cluster", "add", &format!("c={HALVES}")]);
    assert!(again.said.contains("just so") || again.report["exit"] == 0, "{}", again.said);
    assert!(page(&story).contains("target=\"c/0\""));

    // It hangs, and the log is kept for it, until it is removed.
    for shard in &story.clouds.cloud("c").shards {
        shard.sidecar.process.freeze().unwrap();
    }
    let value = vec![b'x'; 64 << 10];
    let mut client = story.clouds.client("a").unwrap();
    let mut round = 0_u32;
    eventually("the spool to grow", || {
        for _ in 0..64 {
            round += 1;
            client.call(&[b"SET", format!("{{b}}large:{}", round % 8).as_bytes(), &value])?;
        }
        let pages = story.clouds.cloud("a").shards.iter().map(|shard| {
            let page = http_get(&format!("http://{}/metrics", shard.sidecar.metrics))?;
            Ok(metric(&page, "godwit_replicator_spool_bytes"))
        });
        let bytes = pages.collect::<anyhow::Result<Vec<_>>>()?;
        ensure!(bytes.iter().any(|bytes| *bytes > BUDGET / 2), "it has {bytes:?} bytes");
        Ok(())
    });
    let refused = story.switchover(&["cluster", "remove", "c"]);
    assert_eq!(refused.code, 3, "{}", refused.said);
    let active = story.switchover(&["cluster", "remove", "a", "--yes"]);
    assert_eq!(active.code, 3, "{}", active.said);
    story.switch(&["cluster", "remove", "c", "--yes"]);
    eventually("nothing to be kept for c", || {
        for shard in &story.clouds.cloud("a").shards {
            let page = http_get(&format!("http://{}/metrics", shard.sidecar.metrics))?;
            ensure!(!page.contains("target=\"c/"), "{page}");
            let bytes = metric(&page, "godwit_replicator_spool_bytes");
            // The file that is being written stays.
            ensure!(bytes <= BUDGET / 2, "{bytes} bytes");
        }
        ensure!(streams_to(&story, "c") == 0);
        Ok(())
    });
    story.more(&traffic, 200);

    // It comes back, and is told why nobody follows up on it; added again, it follows.
    for shard in &story.clouds.cloud("c").shards {
        shard.sidecar.process.thaw().unwrap();
    }
    eventually("c to say that it was removed", || {
        let why = ready(&story, "c").err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(why.contains(said), "it says {why}");
        Ok(())
    });
    story.switch(&["cluster", "add", &format!("c={HALVES}")]);
    story.more(&traffic, 100);
    story.equal("a", "c");
    assert_eq!(before, starts(&story), "nothing was restarted");
    let (ledger, verdict) = story.judge(traffic, "a");
    verdict.assert_good();
    assert_eq!((ledger.client_errors(), ledger.unknown()), (0, 0), "{:?}", ledger.errors);
}
