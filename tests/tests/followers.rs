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

/// Every metric that an alert rule names is one that sidecars have.
#[test]
fn alert_rules_name_metrics_that_there_are() {
    let story = Story::begin();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let rules =
        std::fs::read_to_string(root.join("deploy/prometheus/replicator.rules.yml")).unwrap();
    let parsed: serde_json::Value = serde_yaml_ng::from_str(&rules).unwrap();
    assert!(parsed["groups"][0]["rules"].as_array().unwrap().len() > 5);
    let mut names: Vec<&str> = rules
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("godwit_replicator_"))
        .collect();
    names.sort_unstable();
    names.dedup();
    eventually("the metrics of both sides", || {
        let pages = ["a", "b"].map(|cloud| {
            let sidecar = &story.clouds.cloud(cloud).shards[0].sidecar;
            http_get(&format!("http://{}/metrics", sidecar.metrics))
        });
        let [a, b] = pages;
        let all = format!("{}{}", a?, b?);
        for name in &names {
            ensure!(all.contains(&format!("\n{name}{{")), "no sidecar has {name}");
        }
        Ok(())
    });
}

/// What the sidecars need is in `status`, from anywhere: the log's rate, the clocks, what is short.
#[test]
fn a_sidecar_says_what_it_needs_before_it_is_missing() {
    let story = Story::begin_with(|mut plan| {
        let small = ["--spool-budget", "1MiB", "--bandwidth", "100MiB"].map(str::to_owned).to_vec();
        plan.args.push(("godwit-replicator".to_owned(), small));
        plan
    });
    let mut client = story.clouds.client("a").unwrap();
    let value = vec![b'x'; 16 << 10];
    let mut status = None;
    eventually("the needs to be reckoned from what is written", || {
        for n in 0..64 {
            client.call(&[b"SET", format!("{{b}}{n}").as_bytes(), &value])?;
        }
        let layout = &story.clouds.layout;
        let of = ["status", "--registry", &layout.registry, "--service", &layout.service];
        let run = story.replicator(&of);
        let alarms = run.report["alarms"].to_string();
        // At this rate six hours are far more than a megabyte.
        ensure!(alarms.contains("spool-budget is 1.0 MiB: raise it"), "{}", run.said);
        let stream = &run.report["sidecars"]["a/0"]["streams"]["b/0"];
        ensure!(!stream["peer"]["clock-ahead-us"].is_null(), "{}", run.said);
        ensure!(!stream["peer"]["reseed-ms"].is_null(), "{}", run.said);
        status = Some(run.report);
        Ok(())
    });
    let status = status.unwrap();
    // One machine has one clock.
    for shard in ["0", "1"] {
        let stream = &status["sidecars"][format!("a/{shard}")]["streams"][format!("b/{shard}")];
        let ahead = stream["peer"]["clock-ahead-us"].as_i64();
        assert!(ahead.is_none_or(|us| us.abs() < 500_000), "{stream}");
        assert_ne!(stream["peer"]["clock-alarm"], true, "{stream}");
    }
    let page = page(&story);
    assert!(metric(&page, "godwit_replicator_spool_needed_bytes") > 1 << 20, "{page}");
}

/// A stage that is full makes its source wait with the connection open, and say so; nothing is lost.
#[test]
fn a_full_stage_is_waited_for_and_the_stream_stays() {
    let mut story = Story::begin_with(|mut plan| {
        let small = ["--stage-budget", "1MiB", "--window", "1MiB", "--peer-timeout", "3s"];
        plan.args.push(("godwit-replicator".to_owned(), small.map(str::to_owned).to_vec()));
        plan
    });
    // Nothing is applied on b/1 while its node hangs, and what is staged stays.
    let shard = story.clouds.shard("b/1");
    shard.node.process.freeze().unwrap();
    let resets = |story: &Story| {
        let sidecar = &story.clouds.cloud("a").shards[1].sidecar;
        let page = http_get(&format!("http://{}/metrics", sidecar.metrics)).unwrap();
        (metric(&page, "godwit_replicator_stream_resets_total"), page)
    };
    let before = resets(&story).0;
    let mut random = vec![0; 16 << 10];
    let mut client = story.clouds.client("a").unwrap();
    let mut n = 0_u32;
    eventually("the stage to be full", || {
        for _ in 0..16 {
            n += 1;
            rand::RngCore::fill_bytes(&mut rand::rng(), &mut random);
            client.call(&[b"SET", format!("{{a}}{n}").as_bytes(), &random])?;
        }
        let full = metric(&resets(&story).1, "godwit_replicator_target_stage_full");
        ensure!(full == 1, "it is not, after {n}");
        Ok(())
    });
    // Longer than a peer may say nothing.
    wait::pause(std::time::Duration::from_secs(5));
    let streams = story.observer.streams("a");
    let (_, _, stream) = streams.iter().find(|(from, ..)| from == "a/1").unwrap();
    assert_eq!(stream.state, "streaming", "{stream:?}");
    assert!(stream.reason.as_ref().is_some_and(|why| why.contains("stage is full")), "{stream:?}");
    assert_eq!(resets(&story).0, before, "the stream was not made again");
    let sidecar = &story.clouds.cloud("a").shards[1].sidecar;
    http_get(&format!("http://{}/healthz", sidecar.metrics)).unwrap();
    story.clouds.shard("b/1").node.process.thaw().unwrap();
    story.equal("a", "b");
    eventually("the stage to have room", || {
        let full = metric(&resets(&story).1, "godwit_replicator_target_stage_full");
        ensure!(full == 0, "it is full still");
        Ok(())
    });
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
