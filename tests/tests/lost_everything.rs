//! Registry and primary are lost together: `docs/operations.md`, step by step.

#![allow(clippy::unwrap_used)] // a helper of a test may stop at the first surprise

use std::path::Path;

use tests::clouds::Clouds;
use tests::clouds::plan::Plan;
use tests::shelf::{ok, push, run, said, snapshotter};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// One cloud of two shards.
fn plan(dir: &Path) -> Plan {
    let mut plan = Plan::two_clouds(dir);
    plan.clouds.truncate(1);
    plan
}

#[test]
fn a_service_comes_back_from_its_repository_and_its_keys() {
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name);
    let (all, writer, rotated) = (path("all.key"), path("push.key"), path("new.key"));
    let made = |args: &[&str]| assert!(run(&mut snapshotter(args)).status.success(), "{args:?}");
    made(&["key", "new", "--out", text(&all)]);
    made(&["key", "writer", "--of", text(&all), "--out", text(&writer)]);

    let (old, store) = (tempfile::tempdir().unwrap(), path("store"));
    let mut clouds = Clouds::create(plan(old.path())).unwrap();
    clouds.start_all().unwrap();
    let mut client = clouds.client("a").unwrap();
    for n in 0..300 {
        client.call(&["SET", &format!("key:{n}"), &format!("value {n}")]).unwrap();
    }
    let push_to = |clouds: &Clouds, more: &[&str]| {
        let mut push = push(clouds, "a", text(&store));
        ok(&run(push.args(["--key-file", text(&writer)]).args(more)))
    };
    let pushed = push_to(&clouds, &["--digest", "on"]);
    let id = pushed["snapshot"].as_str().unwrap();

    // Everything is gone: processes, registry, disks.
    clouds.down();
    drop(clouds);
    old.close().unwrap();

    // What may only write does not read; keys that were rotated since do.
    made(&["key", "rotate", "--of", text(&all), "--out", text(&rotated)]);
    let from = |keys: &Path, verb: &str, more: &[&str]| {
        let mut args = vec![verb, "--from", text(&store), "--key-file", text(keys)];
        args.extend(["--output", "json"]);
        args.extend(more);
        run(&mut snapshotter(&args))
    };
    let blind = from(&writer, "verify", &[]);
    assert_eq!(blind.status.code(), Some(3), "{blind:?}");
    assert!(said(&blind).contains("no private key"), "{blind:?}");
    assert_eq!(ok(&from(&rotated, "verify", &[]))["verified"], true);
    let proven = from(&rotated, "prove", &["--scratch", text(scratch.path())]);
    assert_eq!(ok(&proven)["proven"], true);
    assert_eq!(ok(&from(&rotated, "list", &[]))["snapshots"][0]["state"], "proven");

    // A new registry, a new record, and each shard into its node's new directory.
    let new = tempfile::tempdir().unwrap();
    let mut clouds = Clouds::create(plan(new.path())).unwrap();
    for shard in &clouds.cloud("a").shards {
        let args = ["--snapshot", id, "--shard", &shard.name, "--to", text(&shard.node.dir)];
        ok(&from(&rotated, "restore", &args));
    }
    clouds.start_all().unwrap();
    let mut client = clouds.client("a").unwrap();
    for n in 0..300 {
        assert_eq!(client.text(&["GET", &format!("key:{n}")]).unwrap(), format!("value {n}"));
    }
    assert_eq!(client.text(&["SET", "key:new", "1"]).unwrap(), "OK");

    // And it is stored again, beside what was there.
    push_to(&clouds, &[]);
    assert_eq!(ok(&from(&rotated, "verify", &["--all"]))["verified"], true);
    clouds.down();
}
