//! While etcd is silent a primary writes on, as long as all who could take over promise that they will not; and
//! whatever is cut off, killed or failed over meanwhile, never do two accept writes.

#![allow(clippy::unwrap_used)] // a helper of a test may stop at the first surprise

use std::time::{Duration, Instant};

use anyhow::ensure;
use tests::actors::Prober;
use tests::client::Client;
use tests::clouds::Plan;
use tests::etcd::Etcd;
use tests::load::Traffic;
use tests::story::{STUCK, Story};
use tests::toxi::Toxiproxy;
use tests::wait;

const LEASE: Duration = Duration::from_millis(1500);
/// No write may be acknowledged so long after a promise was lost.
const CLOSED_AFTER: Duration = Duration::from_millis(2500);
/// A key of the first shard of a cloud, and one of the second.
const KEYS: [&str; 2] = ["{b}probe", "{a}probe"];

fn begin(etcd: &Etcd) -> Story {
    Story::begin_with(|plan| Plan { lease: LEASE, ..plan.on(etcd.address()) })
}

/// A line of `INFO replication` of a node.
fn info(story: &mut Story, shard: &str, name: &str) -> String {
    let mut node = Client::connect(&story.clouds.shard(shard).node.client).unwrap();
    let info = node.text(&["INFO", "replication"]).unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    line.unwrap_or_else(|| panic!("no {name} in {info}")).to_owned()
}

/// Waits until every primary's sidecar could ask every follower: as an operator's alert does.
fn ready(story: &mut Story) {
    for shard in ["a/0", "a/1"] {
        let page = format!("http://{}/metrics", story.clouds.shard(shard).sidecar.metrics);
        wait::until("a way for promises", STUCK, || {
            let page = tests::clouds::http_get(&page)?;
            let open = page.lines().any(|line| {
                line.starts_with("godwit_replicator_promise_road{") && line.ends_with(" 1")
            });
            ensure!(open, "{shard} has none");
            Ok(())
        })
        .unwrap();
    }
}

/// Writes go on for so long, to all shards, and no gap between two looks passes a second.
fn open(story: &mut Story, traffic: &Traffic, lasts: Duration) {
    let began = Instant::now();
    while began.elapsed() < lasts {
        let look = Instant::now();
        story.more(traffic, 20);
        for key in KEYS {
            let mut proxy = story.clouds.client("a").unwrap();
            proxy.call(&["SET", key, "x"]).unwrap();
            assert_eq!(proxy.text(&["GET", key]).unwrap(), "x");
        }
        assert!(look.elapsed() < Duration::from_secs(1), "writes stood for {:?}", look.elapsed());
    }
}

fn write(story: &mut Story, shard: &str) -> anyhow::Result<()> {
    let key = if shard.ends_with("/0") { KEYS[0] } else { KEYS[1] };
    let mut node = Client::connect(&story.clouds.shard(shard).node.client)?;
    node.call(&["SET", key, "x"]).map(drop)
}

#[test]
fn without_its_registry_writes_go_on_while_all_promise_and_nothing_is_promoted() {
    let mut etcd = Etcd::start();
    let mut story = begin(&etcd);
    let traffic = story.traffic();
    story.more(&traffic, 300);
    ready(&mut story);

    etcd.kill(0);
    open(&mut story, &traffic, LEASE * 5);
    assert_eq!(info(&mut story, "a/0", "godwit_lease_promised_by"), "b/0");
    assert_ne!(info(&mut story, "b/1", "godwit_promise_left_ms"), "0");
    for shard in ["b/0", "b/1"] {
        assert!(write(&mut story, shard).is_err(), "{shard} accepts writes");
    }
    let log = std::fs::read_to_string(story.clouds.layout.dir.join("log/a-0-node.log")).unwrap();
    let said = log.matches("writes on by the promises of b/0").count();
    assert_eq!(said, 1, "once for each change");

    // One who should promise is gone: its primary closes, the other does not.
    story.clouds.shard("b/1").node.process.kill9().unwrap();
    let killed = Instant::now();
    wait::until("a/1 to close", CLOSED_AFTER, || {
        ensure!(write(&mut story, "a/1").is_err(), "it writes on");
        Ok(())
    })
    .unwrap();
    println!("closed {:?} after its promiser was killed", killed.elapsed());
    write(&mut story, "a/0").unwrap();
    // It knows what it needs to promise again, without having read the record.
    story.clouds.shard("b/1").node.process.start().unwrap();
    wait::until("a/1 to write again", STUCK, || write(&mut story, "a/1")).unwrap();
    open(&mut story, &traffic, LEASE * 2);

    etcd.start_again(0);
    wait::until("the registry to renew again", STUCK, || {
        let by = info(&mut story, "a/0", "godwit_lease_promised_by");
        ensure!(by.is_empty(), "promised by {by}");
        Ok(())
    })
    .unwrap();
    open(&mut story, &traffic, LEASE);
    etcd.freeze(0);
    open(&mut story, &traffic, LEASE * 2);
    etcd.thaw(0);
    assert_eq!(story.observer.epoch(), 1, "nothing was decided meanwhile");
    wait::until("everybody to be heard of again", STUCK, || {
        let plan = story.switchover(&["plan", "--to", "b"]);
        ensure!(plan.code == 0, "{}", plan.said);
        Ok(())
    })
    .unwrap();
    let run = story.switch(&["run", "--to", "b", "--yes"]);
    println!("pause of a switch right after: {} ms", run.report["pause_ms"]);
    story.more(&traffic, 300);
    let (ledger, verdict) = story.judge(traffic, "b");
    verdict.assert_good();
    assert_eq!(ledger.wrong_reads, 0);
}

#[test]
fn a_primary_that_alone_is_cut_off_writes_on_and_a_failover_from_it_waits_for_its_promises() {
    let etcd = Etcd::start();
    let toxics = Toxiproxy::open().unwrap();
    let direct = format!("127.0.0.1:{}", etcd.ports()[0]);
    let wire = toxics.proxy("etcd-of-a-0", "127.0.0.1:0", &direct).unwrap();
    let mut story = begin(&etcd);
    // The node of a/0 alone reaches the registry by a wire that can be cut.
    let (whole, cut) = (etcd.address(), format!("etcd://{wire}"));
    let node = &mut story.clouds.shard("a/0").node.process;
    for arg in node.args.iter_mut().filter(|arg| **arg == whole) {
        arg.clone_from(&cut);
    }
    node.kill9().unwrap();
    node.start().unwrap();
    wait::until("a/0 to write", STUCK, || write(&mut story, "a/0")).unwrap();
    ready(&mut story);
    story.equal("a", "b");
    let traffic = story.traffic();
    story.more(&traffic, 200);

    toxics.enable("etcd-of-a-0", false).unwrap();
    open(&mut story, &traffic, LEASE * 3);
    let status = story.switchover(&["status"]);
    let promised = &status.report["nodes"]["b/0"]["promises"]["given"]["a/0"]["left-ms"];
    assert!(promised.as_u64().is_some_and(|left| left > 0), "{}", status.report["nodes"]["b/0"]);

    let address = |story: &mut Story, shard: &str| story.clouds.shard(shard).node.client.clone();
    let (old, new) = (address(&mut story, "a/0"), address(&mut story, "b/0"));
    let prober = Prober::start(0, old.clone(), new);
    let began = Instant::now();
    let failover = ["failover", "--to", "b", "--yes", "--accept-loss", "any"];
    let run = story.switch(&[&failover[..], &["--drain-wait", "1s", "--no-wait-reverse"]].concat());
    let took = began.elapsed();
    println!(
        "failover from a primary that writes by promises: {took:?}, it says {} ms, lease wait {} ms",
        run.report["failover_ms"], run.report["lease_wait_ms"]
    );
    let waited = run.report["lease_wait_ms"].as_f64().expect("the wait is printed");
    assert!(waited >= LEASE.as_millis() as f64, "{waited} ms");
    assert!(took < LEASE * 2 + Duration::from_secs(10), "{took:?}");
    assert_eq!(story.observer.active().as_deref(), Some("b"));
    story.more(&traffic, 300);
    prober.judge(std::slice::from_ref(&run.said)).unwrap();
    let refused = Client::connect(&old).unwrap().call(&["SET", KEYS[0], "late"]);
    assert!(refused.is_err(), "the old primary writes on: {refused:?}");

    toxics.enable("etcd-of-a-0", true).unwrap();
    story.equal("b", "a");
    let ledger = traffic.stop();
    assert_eq!(ledger.wrong_reads, 0, "{:?}", ledger.errors);
}
