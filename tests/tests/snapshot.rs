//! A snapshot of a living cluster is what its nodes held, and comes back as nodes that serve it.

#![allow(clippy::unwrap_used)] // a helper of a test may stop at the first surprise

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use store::bucket::{Bucket, S3Options};
use store::repository::{Keys, Manifest, Repository, Snapshots, What};
use tests::client::Client;
use tests::clouds::{Clouds, binaries};
use tests::wait;

const PATIENCE: Duration = Duration::from_secs(20);

fn snapshotter(args: &[&str]) -> Command {
    let mut command = Command::new(binaries::path("godwit-snapshotter").unwrap());
    command.args(args);
    command
}

fn ok(output: Output) -> Value {
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(said.lines().last().unwrap()).unwrap()
}

/// A push of a cluster of these clouds.
fn push(clouds: &Clouds, cluster: &str, store: &str) -> Command {
    let layout = &clouds.layout;
    let mut args = vec!["push", "--registry", &layout.registry, "--service", &layout.service];
    args.extend(["--cluster", cluster, "--to", store, "--output", "json"]);
    snapshotter(&args)
}

fn write(clouds: &Clouds, from: usize, to: usize) {
    let mut client = Client::connect(&clouds.cloud("a").proxies[0].client).unwrap();
    for n in from..to {
        client.push(&["SET", &format!("key:{n}"), &format!("value {n} {}", "x".repeat(200))]);
        client.push(&["HSET", &format!("hash:{n}"), "field", &n.to_string()]);
    }
    client.flush().unwrap();
    for _ in from..to {
        assert_eq!(client.answer().unwrap().as_text(), Some("OK"));
        // 0 where the field was there before.
        assert!(client.answer().unwrap().as_integer().is_some());
    }
}

/// The manifests of a snapshot, all of whose pieces and segments are there and good.
fn read_back(store: &str, id: &str) -> Vec<Manifest> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let bucket = Bucket::open(&store.parse().unwrap(), &S3Options::default()).unwrap();
        let repository = Repository::open(bucket, Keys::none()).await.unwrap();
        let snapshots = Snapshots::open(&repository).await.unwrap();
        let (snapshot, _) = snapshots.get(&id.parse().unwrap()).unwrap();
        let mut manifests = Vec::new();
        for n in 0..snapshot.shards.len() {
            let manifest = snapshots.manifest(snapshot, n).await.unwrap();
            assert_eq!(manifest.cut, snapshot.cut);
            for piece in manifest.pieces() {
                repository.piece(piece).await.unwrap();
            }
            for segment in &manifest.log {
                repository.blob(&segment.name(), What::Segment, segment.blake3).await.unwrap();
            }
            manifests.push(manifest);
        }
        manifests
    })
}

#[test]
fn what_is_pushed_is_there_whole_and_the_next_push_sends_what_is_new() {
    let clouds = Clouds::for_test();
    let scratch = tempfile::tempdir().unwrap();
    let store = format!("file://{}", scratch.path().join("store").display());
    write(&clouds, 0, 2_000);
    let first = ok(push(&clouds, "a", &store).output().unwrap());
    write(&clouds, 2_000, 2_100);
    let second = ok(push(&clouds, "a", &store).output().unwrap());
    let sent = |pushed: &Value| pushed["bytes_sent"].as_u64().unwrap();
    assert!(sent(&second) < sent(&first), "{first}\n{second}");
    for shard in second["shards"].as_array().unwrap() {
        assert_eq!(shard["way"], "objects-reused", "{second}");
    }
    for shard in &clouds.cloud("a").shards {
        let left = std::fs::read_dir(shard.node.dir.join("checkpoints")).unwrap().count();
        assert_eq!(left, 0, "a checkpoint was left in {}", shard.name);
    }

    // A standby will do as well, once it has been seeded; until then it is refused in words.
    let standby = wait::until("the standby to be stored", PATIENCE, || {
        let output = push(&clouds, "b", &store).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "{said}");
        Ok(ok(output))
    });
    let standby = standby.unwrap();
    assert_eq!(standby["cluster"], "b");
    let standby_id = standby["snapshot"].as_str().unwrap().to_owned();
    // Its nodes digest what they hold, unasked; a primary has clients to serve.
    let prove = |id: &str, more: &[&str]| {
        let dir = scratch.path().join("scratch");
        let args = ["prove", "--from", &store, "--scratch", dir.to_str().unwrap()];
        let args = [&args[..], &["--output", "json", "--snapshot", id], more].concat();
        snapshotter(&args).output().unwrap()
    };
    let proven = ok(prove(&standby_id, &[]));
    assert_eq!(proven["proven"], true, "{proven}");
    assert_eq!(proven["shards"][0]["compared"], true, "{proven}");
    let id = second["snapshot"].as_str().unwrap();
    let refused = prove(id, &[]);
    assert_eq!(refused.status.code(), Some(3), "there is nothing to compare with");
    let read = ok(prove(id, &["--without-digest"]));
    assert_eq!((&read["good"], &read["proven"]), (&true.into(), &false.into()), "{read}");

    let manifests = read_back(&store, id);
    assert!(manifests.iter().all(|manifest| manifest.cut.is_some()), "one cut for all shards");
}

#[test]
fn a_push_that_is_killed_seals_nothing_and_the_next_one_is_whole() {
    let clouds = Clouds::for_test();
    let scratch = tempfile::tempdir().unwrap();
    let store = format!("file://{}", scratch.path().join("store").display());
    write(&clouds, 0, 500);
    // Killed wherever it is after these many milliseconds: before, during or after its seal.
    for after in [5, 20, 40] {
        let mut running =
            push(&clouds, "a", &store).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        #[allow(clippy::disallowed_methods)] // the moment is meant to be any
        std::thread::sleep(Duration::from_millis(after));
        running.kill().unwrap();
        running.wait().unwrap();
    }
    // The sidecar finds out by itself that nobody listens; until then it says that it is busy.
    let last = wait::until("the next push to be whole", PATIENCE, || {
        let output = push(&clouds, "a", &store).output()?;
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(ok(output))
    })
    .unwrap();
    read_back(&store, last["snapshot"].as_str().unwrap());
    for shard in &clouds.cloud("a").shards {
        let left = std::fs::read_dir(shard.node.dir.join("checkpoints")).unwrap().count();
        assert_eq!(left, 0, "a checkpoint was left in {}", shard.name);
    }
}

#[test]
fn after_a_compaction_the_log_is_sent_and_not_the_files() {
    let clouds = Clouds::for_test();
    let scratch = tempfile::tempdir().unwrap();
    let store = format!("file://{}", scratch.path().join("store").display());
    write(&clouds, 0, 20_000);
    let first = ok(push(&clouds, "a", &store).output().unwrap());
    // A twentieth of the keys again, and then the whole tree is rewritten.
    write(&clouds, 7_000, 8_000);
    for shard in &clouds.cloud("a").shards {
        let mut compact = Command::new(binaries::path("godwit-node").unwrap());
        let done = compact.args(["compact", "--admin", &shard.node.admin]).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    let second = ok(push(&clouds, "a", &store).output().unwrap());
    let sent = |pushed: &Value| pushed["bytes_sent"].as_u64().unwrap();
    for shard in second["shards"].as_array().unwrap() {
        assert_eq!(shard["way"], "log", "{second}");
        assert!(shard["log_estimate"].as_u64() < shard["files_estimate"].as_u64(), "{second}");
    }
    assert!(sent(&second) * 5 < sent(&first), "{first}\n{second}");
    let manifests = read_back(&store, second["snapshot"].as_str().unwrap());
    assert!(manifests.iter().all(|manifest| manifest.end() != manifest.position));

    // The next one goes on from there; by files alone is a setting.
    write(&clouds, 8_000, 8_100);
    let third = ok(push(&clouds, "a", &store).output().unwrap());
    assert_eq!(third["shards"][0]["way"], "log", "{third}");
    let longer = read_back(&store, third["snapshot"].as_str().unwrap());
    assert!(longer[0].log.len() > manifests[0].log.len(), "it grows at its end");
    assert_eq!(longer[0].files, manifests[0].files);
    let files = ok(push(&clouds, "a", &store).args(["--way", "files"]).output().unwrap());
    assert_ne!(files["shards"][0]["way"], "log", "{files}");
    read_back(&store, files["snapshot"].as_str().unwrap());
}

#[test]
fn what_was_damaged_in_the_store_is_set_aside_and_stored_again() {
    let clouds = Clouds::for_test();
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("store");
    let store = format!("file://{}", dir.display());
    write(&clouds, 0, 500);
    let first = ok(push(&clouds, "a", &store).output().unwrap());
    let first = first["snapshot"].as_str().unwrap();
    // One bit of a table file.
    let manifest = read_back(&store, first).remove(0);
    let table = manifest.files.iter().find(|file| file.name.as_str().ends_with(".sst")).unwrap();
    let blob = dir.join(table.pieces[0].name());
    let mut bytes = std::fs::read(&blob).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&blob, &bytes).unwrap();

    let verify = |more: &[&str]| {
        let args = [&["verify", "--from", &store, "--output", "json"][..], more].concat();
        let output = snapshotter(&args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let report: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        (output.status.code(), report)
    };
    let (code, report) = verify(&["--snapshot", first]);
    assert_eq!(
        (code, report["set-aside"].as_array().map(Vec::len)),
        (Some(1), Some(0)),
        "{report}"
    );
    let (code, report) = verify(&["--snapshot", first, "--set-aside"]);
    assert_eq!(
        (code, report["set-aside"].as_array().map(Vec::len)),
        (Some(1), Some(1)),
        "{report}"
    );
    assert!(!blob.exists() && dir.join("damaged").join(table.pieces[0].name()).exists());

    let second = ok(push(&clouds, "a", &store).args(["--way", "files"]).output().unwrap());
    assert!(second["bytes_sent"].as_u64() > Some(0), "{second}");
    let (code, report) = verify(&["--all"]);
    assert_eq!(code, Some(0), "the old one is whole again as well: {report}");
}
