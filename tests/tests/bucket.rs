//! The archive as a way between the clouds: while the link is cut a standby follows out of the bucket, and
//! what only the bucket has survives the loss of a cloud.

#![allow(clippy::unwrap_used)] // a helper of a test may stop at the first surprise

#[path = "../../crates/store/tests/moto/mod.rs"]
mod moto;

use std::process::Command;

use anyhow::{Context, ensure};
use moto::Moto;
use tests::client::Client;
use tests::clouds::observer::{metric, sidecar_counter};
use tests::clouds::start::http_get;
use tests::clouds::{Plan, binaries};
use tests::story::{STUCK, Story};
use tests::wait;
use topology::members::{ReceiveStatus, WayBy};

/// Two clouds with links that can be cut, archived under `url`; a standby reads it after that long.
fn begin(url: &str, after: &str, more: &[&str], change: impl FnOnce(Plan) -> Plan) -> Story {
    let mut args = vec!["--archive-url", url];
    if !more.contains(&"--archive-segment-every") {
        args.extend(["--archive-segment-every", "200ms"]);
    }
    args.extend(["--archive-follow-after", after, "--archive-follow-every", "200ms"]);
    args.extend(more);
    let args: Vec<_> = args.into_iter().map(str::to_owned).collect();
    Story::begin_with(|plan| {
        let mut plan = change(plan.with_toxics());
        plan.args.push(("godwit-replicator".to_owned(), args));
        plan
    })
}

/// What the sidecar of `b/0` receives of `a/0`.
fn received(story: &Story) -> anyhow::Result<ReceiveStatus> {
    let view = story.observer.view();
    let sidecar = view.sidecars.get(&"b/0".parse().unwrap()).context("b/0 has no sidecar")?;
    sidecar.receiving.get("a/0").cloned().context("it receives nothing of a/0")
}

fn comes_by(story: &Story, by: WayBy) -> u64 {
    let since = wait::until(&format!("the log to come by {by:?}"), STUCK, || {
        let received = received(story)?;
        let way = received.way.as_ref().with_context(|| format!("by no way: {received:?}"))?;
        ensure!(way.by == by, "{received:?}");
        Ok(way.since.0)
    });
    since.unwrap_or_else(|error| panic!("{error:#}"))
}

/// Waits until a key has a value on the node of `b` that has its slot.
fn arrives(story: &Story, shard: usize, key: &str, value: &str) {
    let mut node = Client::connect(&story.clouds.cloud("b").shards[shard].node.client).unwrap();
    node.call(&["READONLY"]).unwrap();
    let there = wait::until("a write to arrive", STUCK, || {
        let found = node.text(&["GET", key])?;
        ensure!(found == value, "it is {found}");
        Ok(())
    });
    there.unwrap_or_else(|error| panic!("{error:#}; {:?}", received(story)));
}

fn requests(story: &Story, operation: &str) -> u64 {
    let page =
        http_get(&format!("http://{}/metrics", story.clouds.cloud("b").shards[0].sidecar.metrics));
    let line = format!("godwit_replicator_follow_requests_total{{operation=\"{operation}\"}} ");
    let page = page.unwrap();
    let found = page.lines().find_map(|l| l.strip_prefix(&line)).map(|n| n.parse().unwrap());
    found.unwrap_or(0)
}

/// Keys of an encrypted archive: the whole file, and that of who only writes.
fn keys(dir: &std::path::Path) -> (String, String) {
    let (whole, writer) = (dir.join("archive.key"), dir.join("writer.key"));
    let (whole, writer) = (whole.display().to_string(), writer.display().to_string());
    let run = |args: &[&str]| {
        let mut command = Command::new(binaries::path("godwit-replicator").unwrap());
        let made = command.args(["archive", "key"]).args(args).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    };
    run(&["new", "--out", &whole]);
    run(&["writer", "--of", &whole, "--out", &writer]);
    (whole, writer)
}

#[test]
fn a_standby_follows_the_archive_while_the_link_is_cut_and_the_stream_afterwards() {
    let Some(moto) = Moto::start() else { return };
    moto.put("archives", None);
    let scratch = tempfile::tempdir().unwrap();
    let (whole, writer) = keys(scratch.path());
    // Sidecars write with keys that do not read; the standby's have those that do.
    let more = ["--archive-endpoint", &moto.url, "--archive-region", "us-east-1"];
    let more = [&more[..], &["--archive-key-file", &writer, "--archive-follow-key-file", &whole]];
    let mut story = begin("s3://archives/godwit", "500ms", &more.concat(), |mut plan| {
        for sidecar in ["a-0-sidecar", "a-1-sidecar", "b-0-sidecar", "b-1-sidecar"] {
            plan = plan.with_env(sidecar, "AWS_ACCESS_KEY_ID", "key");
            plan = plan.with_env(sidecar, "AWS_SECRET_ACCESS_KEY", "secret");
        }
        plan
    });
    story.load();
    let traffic = story.traffic();
    story.more(&traffic, 200);
    comes_by(&story, WayBy::Stream);
    let seeded = sidecar_counter(&story.clouds.layout, "a", "godwit_replicator_seed_bytes_total");

    story.link("b", false);
    let cut = comes_by(&story, WayBy::Bucket);
    story.more(&traffic, 300);
    let mut client = story.clouds.client("a").unwrap();
    for (shard, key) in [(1, "{a}cut"), (0, "{b}cut")] {
        client.call(&["SET", key, "by the bucket"]).unwrap();
        arrives(&story, shard, key, "by the bucket");
    }
    assert_eq!(received(&story).unwrap().way.unwrap().since.0, cut, "without a break");
    let status = story.switchover(&["status"]).said;
    assert!(status.contains("bucket"), "{status}");
    // Nothing is listed or written, and while nothing comes a look is one request.
    let before = (received(&story).unwrap().bucket.unwrap().looks, requests(&story, "get"));
    wait::until("looks", STUCK, || {
        let looks = received(&story)?.bucket.context("it reads no archive")?.looks;
        ensure!(looks >= before.0 + 5, "{looks}");
        Ok(())
    })
    .unwrap();
    let segments = metric(
        &http_get(&format!("http://{}/metrics", story.clouds.cloud("a").shards[0].sidecar.metrics))
            .unwrap(),
        "godwit_replicator_archive_segments_total",
    );
    let (looks, gets) = (received(&story).unwrap().bucket.unwrap().looks, requests(&story, "get"));
    // A segment costs itself, its page, and the page that is not there yet.
    assert!(
        gets - before.1 <= looks - before.0 + 3 * segments + 8,
        "{gets} for {segments} segments"
    );
    assert_eq!(
        (requests(&story, "list"), requests(&story, "put"), requests(&story, "delete")),
        (0, 0, 0)
    );
    // Its own restart changes nothing.
    story.clouds.shard("b/0").sidecar.process.kill9().unwrap();
    story.clouds.shard("b/0").sidecar.process.start().unwrap();
    client.call(&["SET", "{b}again", "1"]).unwrap();
    arrives(&story, 0, "{b}again", "1");

    story.link("b", true);
    comes_by(&story, WayBy::Stream);
    story.more(&traffic, 200);
    story.equal("a", "b");
    let again = sidecar_counter(&story.clouds.layout, "a", "godwit_replicator_seed_bytes_total");
    assert_eq!(again, seeded, "nobody is seeded who came by the bucket");
    let (ledger, verdict) = story.judge(traffic, "a");
    verdict.assert_good();
    assert_eq!(ledger.client_errors(), 0, "{:?}", ledger.errors);
}

#[test]
fn what_only_the_archive_has_survives_the_loss_of_a_cloud() {
    /// Writes that nothing but the lost disk has.
    const ONLY_THERE: u64 = 40;
    let scratch = tempfile::tempdir().unwrap();
    let url = scratch.path().join("archive").display().to_string();
    // Nobody reads it before the failover does.
    let mut story = begin(&url, "1h", &[], |plan| plan);
    story.load();
    story.equal("a", "b");
    story.link("b", false);
    let mut client = story.clouds.client("a").unwrap();
    for number in 0..200 {
        client.call(&["SET", &format!("archived:{number}"), "by the bucket"]).unwrap();
    }
    // A segment holds what was there when it was cut: one that comes after it has all of that.
    let segments = |story: &Story| {
        let name = "godwit_replicator_archive_segments_total";
        story
            .clouds
            .cloud("a")
            .shards
            .iter()
            .map(|shard| {
                let page = http_get(&format!("http://{}/metrics", shard.sidecar.metrics));
                page.map(|page| metric(&page, name)).unwrap_or(0)
            })
            .min()
            .unwrap_or(0)
    };
    let archived = segments(&story) + 2;
    wait::until("segments", STUCK, || {
        client.call(&["INCR", "{a}n"])?;
        client.call(&["INCR", "{b}n"])?;
        ensure!(segments(&story) >= archived, "{}", segments(&story));
        Ok(())
    })
    .unwrap();
    for number in 0..2 {
        story.clouds.shard(&format!("a/{number}")).sidecar.process.kill9().unwrap();
    }
    for number in 0..ONLY_THERE {
        client.call(&["SET", &format!("lost:{number}"), "with the disk"]).unwrap();
    }
    // The nodes have told the registry of them, and the other side has heard it.
    let ends: Vec<u64> = story
        .clouds
        .cloud("a")
        .shards
        .iter()
        .map(|shard| {
            let mut admin = Client::connect(&shard.node.admin).unwrap();
            let barrier = admin.call(&["GODWIT.BARRIER"]).unwrap();
            let position = barrier.as_array().unwrap()[1].as_text().unwrap();
            position.rsplit('@').next().unwrap().parse().unwrap()
        })
        .collect();
    wait::until("what is lost to be known of", STUCK, || {
        let view = story.observer.view();
        for (number, end) in ends.iter().enumerate() {
            let shard = format!("a/{number}");
            let sidecar = view.sidecars.get(&format!("b/{number}").parse().unwrap());
            let seen = sidecar.and_then(|sidecar| sidecar.last_seen.get(&shard)?.position);
            ensure!(seen.is_some_and(|seen| seen.sequence.0 >= *end), "{seen:?} of {end}");
        }
        Ok(())
    })
    .unwrap();
    for number in 0..2 {
        let node = &mut story.clouds.shard(&format!("a/{number}")).node;
        node.process.kill9().unwrap();
        std::fs::remove_dir_all(&node.dir).unwrap();
    }
    let failover = ["failover", "--to", "b", "--yes", "--accept-loss", "--no-wait-reverse"];
    let run = story.switch(&failover);
    let losses = run.report["losses"].as_array().cloned().unwrap_or_default();
    let least: Option<u64> = losses.iter().map(|loss| loss["at_least"].as_u64()).sum();
    assert!(least.is_some_and(|least| least >= ONLY_THERE), "{least:?}: {}", run.said);
    assert!(run.report["lost"]["bound_seconds"].as_f64().is_some(), "{}", run.said);
    assert!(run.said.contains("has all of it"), "{}", run.said);
    let mut client = story.clouds.client("b").unwrap();
    for number in 0..200 {
        let key = format!("archived:{number}");
        assert_eq!(client.text(&["GET", &key]).unwrap(), "by the bucket", "{key}");
    }
    for number in 0..ONLY_THERE {
        let found = client.call(&["EXISTS", &format!("lost:{number}")]).unwrap();
        assert_eq!(found.as_integer(), Some(0), "it was on the lost disk alone");
    }
}

#[test]
fn a_node_that_dies_while_the_link_is_cut_loses_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let url = scratch.path().join("archive").display().to_string();
    // Segments are far apart, and nobody reads them: only the failover brings the rest over.
    let mut story = begin(&url, "1h", &["--archive-segment-every", "10m"], |plan| plan);
    story.load();
    let traffic = story.traffic();
    story.more(&traffic, 200);
    story.equal("a", "b");
    story.link("b", false);
    story.more(&traffic, 300);
    for number in 0..2 {
        story.clouds.shard(&format!("a/{number}")).node.process.kill9().unwrap();
    }
    // No loss is accepted.
    let run = story.switch(&["failover", "--to", "b", "--yes", "--no-wait-reverse"]);
    assert_eq!(run.report["lost"]["known"].as_u64(), Some(0), "{}", run.said);
    story.more(&traffic, 200);
    let (ledger, verdict) = story.judge(traffic, "b");
    verdict.assert_good();
    assert_eq!(ledger.wrong_reads, 0, "{:?}", ledger.errors);
}

#[test]
fn an_encrypted_archive_that_cannot_be_read_here_is_said_to_be() {
    let scratch = tempfile::tempdir().unwrap();
    let (_, writer) = keys(scratch.path());
    let url = scratch.path().join("archive").display().to_string();
    let story = begin(&url, "500ms", &["--archive-key-file", &writer], |plan| plan);
    story.link("b", false);
    wait::until("the sidecar to say why", STUCK, || {
        let bucket = received(&story)?.bucket.context("it reads no archive")?;
        let problem = bucket.problem.context("it has no problem")?;
        ensure!(problem.contains("archive.follow-key-file"), "{problem}");
        Ok(())
    })
    .unwrap();
    story.link("b", true);
    comes_by(&story, WayBy::Stream);
    story.more(&story.traffic(), 50);
    story.equal("a", "b");
}

/// Waits until a key has a value on a node, read as a standby's client does.
fn holds(story: &Story, cloud: &str, shard: usize, key: &str, value: &str) {
    let there = wait::until(&format!("{key} on {cloud}/{shard}"), STUCK, || {
        let mut node = Client::connect(&story.clouds.cloud(cloud).shards[shard].node.client)?;
        node.call(&["READONLY"])?;
        let found = node.text(&["GET", key])?;
        ensure!(found == value, "it is {found}");
        Ok(())
    });
    there.unwrap_or_else(|error| panic!("{error:#}"));
}

#[test]
fn a_new_standby_begins_from_the_archive_where_it_never_had_a_connection() {
    let scratch = tempfile::tempdir().unwrap();
    let url = scratch.path().join("archive").display().to_string();
    let mut story = begin(&url, "200ms", &[], |mut plan| {
        let halves = plan.clouds[0].1.clone();
        plan.clouds.push(("c".to_owned(), halves));
        plan.later = vec!["c".to_owned()];
        plan
    });
    story.load();
    let traffic = story.traffic();
    story.more(&traffic, 200);
    let sent = |story: &Story| {
        sidecar_counter(&story.clouds.layout, "a", "godwit_replicator_seed_bytes_total")
    };
    let before = sent(&story);

    story.link("c", false);
    let c = story.clouds.cloud_mut("c");
    c.shards.iter_mut().for_each(|shard| shard.node.process.start().unwrap());
    c.shards.iter_mut().for_each(|shard| shard.sidecar.process.start().unwrap());
    story.switch(&["cluster", "add", "c=0-8191,8192-16383"]);
    story.more(&traffic, 200);
    let mut client = story.clouds.client("a").unwrap();
    let write = |client: &mut Client, value: &str| {
        for key in ["{b}new", "{a}new"] {
            client.call(&["SET", key, value]).unwrap();
        }
    };
    write(&mut client, "by the bucket");
    holds(&story, "c", 0, "{b}new", "by the bucket");
    holds(&story, "c", 1, "{a}new", "by the bucket");
    // It goes on from there, also over its restart, and begins but once.
    let database = |story: &Story| {
        let shard = &story.clouds.cloud("c").shards[0];
        std::fs::read_to_string(shard.node.dir.join("db/GODWIT")).unwrap()
    };
    let begun = database(&story);
    story.clouds.shard("c/0").sidecar.process.kill9().unwrap();
    story.clouds.shard("c/0").sidecar.process.start().unwrap();
    write(&mut client, "and on");
    holds(&story, "c", 0, "{b}new", "and on");
    assert_eq!(database(&story), begun);

    story.link("c", true);
    story.more(&traffic, 200);
    story.equal("a", "c");
    assert_eq!((sent(&story), database(&story)), (before, begun), "nobody was seeded by a stream");
    let (ledger, verdict) = story.judge(traffic, "a");
    verdict.assert_good();
    assert_eq!(ledger.client_errors(), 0, "{:?}", ledger.errors);
}
