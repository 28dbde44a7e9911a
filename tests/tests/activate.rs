//! A standby has a materialised snapshot within moments, and goes on with the log from there.

#![allow(clippy::unwrap_used)] // a helper of a test may stop at the first surprise

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use tests::client::Client;
use tests::clouds::process::Process;
use tests::clouds::{Clouds, binaries};
use tests::story::Story;
use tests::wait;

const PATIENCE: Duration = Duration::from_secs(30);

fn snapshotter(args: &[&str]) -> Output {
    Command::new(binaries::path("godwit-snapshotter").unwrap())
        .args(args)
        .args(["--output", "json"])
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn ok(output: &Output) -> Value {
    assert!(output.status.success(), "{}", said(output));
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

/// Where snapshots are, and where they are materialised: on the file system of the nodes.
struct Shelf {
    dir: tempfile::TempDir,
}

impl Shelf {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn store(&self) -> String {
        self.dir.path().join("store").to_str().unwrap().to_owned()
    }

    fn materialised(&self) -> String {
        self.store() + ".materialised"
    }

    fn push(&self, clouds: &Clouds, cluster: &str) -> Value {
        let layout = &clouds.layout;
        let mut args = vec!["push", "--registry", &layout.registry, "--service", &layout.service];
        let store = self.store();
        args.extend(["--cluster", cluster, "--to", &store]);
        // Who follows since a moment ago may not have been seeded yet.
        let pushed = wait::until("a push", PATIENCE, || {
            let output = snapshotter(&args);
            anyhow::ensure!(output.status.success(), "{}", said(&output));
            Ok(ok(&output))
        });
        pushed.unwrap()
    }

    fn materialise(&self, more: &[&str]) -> Value {
        ok(&snapshotter(&[&["materialise", "--from", &self.store()][..], more].concat()))
    }

    fn activate(&self, clouds: &Clouds, shard: &str, more: &[&str]) -> Output {
        let (layout, from) = (&clouds.layout, self.materialised());
        let mut args = vec!["activate", "--materialised", &from, "--shard", shard];
        args.extend(["--registry", &layout.registry, "--service", &layout.service]);
        args.extend(more);
        snapshotter(&args)
    }
}

fn write(clouds: &Clouds, from: usize, to: usize) {
    let mut client = Client::connect(&clouds.cloud("a").proxies[0].client).unwrap();
    for n in from..to {
        client.push(&["SET", &format!("key:{n}"), &format!("value {n} {}", "x".repeat(200))]);
    }
    client.flush().unwrap();
    for _ in from..to {
        assert_eq!(client.answer().unwrap().as_text(), Some("OK"));
    }
}

fn compact(clouds: &Clouds) {
    for shard in &clouds.cloud("a").shards {
        let compact = ["compact", "--admin", &shard.node.admin];
        let done = Command::new(binaries::path("godwit-node").unwrap()).args(compact).output();
        assert!(done.unwrap().status.success());
    }
}

/// What a stream has sent so far of files, and in all.
fn sent(story: &Story, from: &str, to: &str) -> (u64, u64) {
    let streams = story.observer.streams(&from[..1]);
    let stream = streams.into_iter().find(|(f, t, _)| f == from && t == to).unwrap().2;
    (stream.seed_bytes, stream.sent_bytes)
}

fn database(clouds: &Clouds, shard: &str) -> String {
    let cloud = clouds.cloud(&shard[..1]);
    let node = &cloud.shards.iter().find(|s| s.name == shard).unwrap().node;
    let status = Client::connect(&node.admin).unwrap().text(&["GODWIT.STATUS"]).unwrap();
    let status: Value = serde_json::from_str(&status).unwrap();
    status["database"].as_str().unwrap().to_owned()
}

#[test]
fn a_standby_that_has_a_snapshot_of_its_primary_is_sent_the_log_and_nothing_else() {
    let story = Story::begin();
    let (clouds, shelf) = (&story.clouds, Shelf::new());
    write(clouds, 0, 5_000);
    shelf.push(clouds, "a");
    let first = shelf.materialise(&[]);
    assert_eq!(first["materialised"].as_array().unwrap().len(), 2, "{first}");
    // By log, which goes on from what is there: nothing is written but the log.
    write(clouds, 1_000, 1_200);
    compact(clouds);
    let pushed = shelf.push(clouds, "a");
    assert_eq!(pushed["shards"][0]["way"], "log", "{pushed}");
    let second = shelf.materialise(&[]);
    for one in second["materialised"].as_array().unwrap() {
        assert_eq!(one["written-bytes"], 0, "{second}");
        assert!(one["batches"].as_u64() > Some(0), "{second}");
    }
    assert_eq!(second["removed"].as_array().unwrap().len(), 2, "{second}");

    // Later than the snapshot: this comes by the log.
    write(clouds, 5_000, 5_200);
    story.equal("a", "b");
    for shard in ["b/0", "b/1"] {
        let source = shard.replace('b', "a");
        let (before, old) = (sent(&story, &source, shard), database(clouds, shard));
        let activated = ok(&shelf.activate(clouds, shard, &[]));
        assert_eq!(activated["snapshot"], pushed["snapshot"], "{activated}");
        assert_eq!(activated["of"], *source, "{activated}");
        assert_eq!(activated["follows"], "log", "{activated}");
        assert_ne!(database(clouds, shard), old);
        let after = sent(&story, &source, shard);
        assert_eq!(after.0, before.0, "files were sent");
        let left = activated["log-bytes"].as_u64().unwrap();
        assert!(
            left > 0 && after.1 < before.1 + 10 * left + 100_000,
            "{activated} {before:?} {after:?}"
        );
    }
    let compared = story.equal("a", "b");
    assert!(compared.keys >= 5_200, "{compared:?}");
    // What was activated is untouched by what the node does with it.
    write(clouds, 0, 2_000);
    story.equal("a", "b");
    let again = ok(&shelf.activate(clouds, "b/0", &[]));
    assert_eq!(again["follows"], "log", "{again}");
    story.equal("a", "b");
}

#[test]
fn what_does_not_fit_or_would_be_lost_is_refused() {
    let story = Story::begin();
    let (clouds, shelf) = (&story.clouds, Shelf::new());
    write(clouds, 0, 300);
    let refused = |shard: &str, more: &[&str], words: &str| {
        let output = shelf.activate(clouds, shard, more);
        assert_eq!(output.status.code(), Some(3), "{}", said(&output));
        assert!(said(&output).contains(words), "{words}: {}", said(&output));
    };
    refused("b/0", &[], "nothing is materialised");
    shelf.push(clouds, "a");
    shelf.materialise(&["--shard", "a/0"]);
    let before = ["a/0", "b/0", "b/1"].map(|shard| database(clouds, shard));
    refused("a/0", &[], "primary");
    refused("b/1", &[], "holds the slots 0-8191");
    let other = clouds.cloud("b").shards[1].node.admin.clone();
    refused("b/0", &["--node-admin", &other], "that of b/1");
    assert_eq!(before, ["a/0", "b/0", "b/1"].map(|shard| database(clouds, shard)));

    // Of a standby's own snapshot it is not known whether its source has the log; it does here.
    shelf.push(clouds, "b");
    shelf.materialise(&["--shard", "b/0"]);
    write(clouds, 300, 400);
    refused("b/0", &[], "--anyway");
    let activated = ok(&shelf.activate(clouds, "b/0", &["--anyway", "--copy"]));
    assert_eq!(
        (&activated["of"], &activated["follows"]),
        (&"b/0".into(), &"log".into()),
        "{activated}"
    );
    story.equal("a", "b");
}

#[test]
fn a_node_that_dies_while_it_activates_has_what_it_had_or_all_of_it() {
    let mut story = Story::begin_with(|plan| {
        plan.with_env("b-0-node", "GODWIT_FAILPOINTS", "activate-half-linked").with_env(
            "b-1-node",
            "GODWIT_FAILPOINTS",
            "seed-after-renames:every=2",
        )
    });
    let shelf = Shelf::new();
    write(&story.clouds, 0, 300);
    shelf.push(&story.clouds, "a");
    shelf.materialise(&[]);
    for (shard, swapped) in [("b/0", false), ("b/1", true)] {
        let old = database(&story.clouds, shard);
        let output = shelf.activate(&story.clouds, shard, &[]);
        assert_eq!(output.status.code(), Some(6), "{}", said(&output));
        let node = &mut story.clouds.shard(shard).node;
        let half = node.dir.join("activate");
        wait::until("the node to be gone", PATIENCE, || {
            anyhow::ensure!(!node.process.alive());
            Ok(())
        })
        .unwrap();
        assert_eq!(half.exists(), !swapped);
        node.process.env.clear();
        node.process.start().unwrap();
        story.clouds.wait_ready("b").unwrap();
        assert!(!half.exists());
        assert_eq!(database(&story.clouds, shard) != old, swapped);
        story.equal("a", "b");
        ok(&shelf.activate(&story.clouds, shard, &[]));
    }
    story.equal("a", "b");
}

#[test]
fn an_empty_node_begins_with_a_snapshot_with_a_service_or_alone() {
    let mut story = Story::begin();
    let shelf = Shelf::new();
    write(&story.clouds, 0, 1_000);
    shelf.push(&story.clouds, "a");
    shelf.materialise(&[]);
    write(&story.clouds, 1_000, 1_100);

    // A new machine: before its sidecar runs, so that no seed comes first.
    let shard = story.clouds.shard("b/0");
    shard.sidecar.process.end();
    shard.node.process.end();
    fs::remove_dir_all(&shard.node.dir).unwrap();
    fs::create_dir_all(&shard.node.dir).unwrap();
    shard.node.process.start().unwrap();
    let before = sent(&story, "a/0", "b/0").0;
    wait::until("the node to take it", PATIENCE, || {
        let activated = shelf.activate(&story.clouds, "b/0", &["--wait", "0s"]);
        anyhow::ensure!(activated.status.success(), "{}", said(&activated));
        Ok(())
    })
    .unwrap();
    story.clouds.shard("b/0").sidecar.process.start().unwrap();
    story.equal("a", "b");
    assert_eq!(sent(&story, "a/0", "b/0").0, before, "files were sent");

    let alone = shelf.dir.path().join("alone");
    let (mut node, mut client) = serve(&alone);
    let key = (0..1_000).map(|n| format!("key:{n}")).find(|key| {
        let slots: keyspace::SlotSet = "0-8191".parse().unwrap();
        slots.contains(keyspace::Slot::of_key(key.as_bytes()))
    });
    let key = key.unwrap();
    // What was not there is not remembered as such.
    assert_eq!(client.call(&["GET", &key]).unwrap().as_text(), None);
    let admin = format!("unix:{}", alone.join("admin.sock").display());
    let (from, shard) = (shelf.materialised(), "a/0");
    let args = ["activate", "--materialised", &from, "--shard", shard, "--node-admin", &admin];
    ok(&snapshotter(&args));
    assert!(client.text(&["GET", &key]).unwrap().starts_with("value "));
    assert_eq!(client.text(&["SET", "new", "1"]).unwrap(), "OK");
    let again = snapshotter(&args);
    assert_eq!(again.status.code(), Some(3), "{}", said(&again));
    assert!(said(&again).contains("holds data"), "{}", said(&again));
    assert_eq!(client.text(&["GET", "new"]).unwrap(), "1");
    node.end();
}

/// A node that stands alone; it ends with its handle.
fn serve(dir: &Path) -> (Process, Client) {
    let free =
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let args = ["--dir", dir.to_str().unwrap(), "--listen", &free].map(str::to_owned).to_vec();
    let program = binaries::path("godwit-node").unwrap();
    let mut node = Process::new("alone".to_owned(), program, args, dir.with_extension("log"));
    node.start().unwrap();
    let connect = || Client::connect_with(&free, Duration::from_secs(2));
    wait::until("the node to serve", PATIENCE, || connect().map(drop)).unwrap();
    (node, connect().unwrap())
}
