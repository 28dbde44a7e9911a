//! Bulk loads, between two clouds: the standby has a load where the log announces it, whatever dies on
//! the way; and one that was taken in past the fork is not there any more.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::ensure;
use tests::clouds::observer::sidecar_counter;
use tests::clouds::{Plan, binaries};
use tests::story::{STUCK, Story};
use tests::wait;

const ROWS: usize = 3_000;

/// Builds a load of hashes of all slots, in files that cross the bounds of shards.
fn build(dir: &Path, name: &str) -> PathBuf {
    let rows: String = (0..ROWS).map(|id| format!("{id}\t{name}-{id}\n")).collect();
    let (input, out) = (dir.join(format!("{name}.tsv")), dir.join(name));
    std::fs::write(&input, rows).unwrap();
    let columns = ["--columns", "id,name", "--type", "hash", "--key", "%{id}"];
    let paths = [input.to_str().unwrap(), "--out", out.to_str().unwrap()];
    let built = run(&[&["build"], &paths[..], &columns].concat());
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    out
}

fn run(args: &[&str]) -> Output {
    Command::new(binaries::path("godwit-node").unwrap()).args(args).output().unwrap()
}

fn ingest(story: &mut Story, shard: &str, load: &Path) -> Output {
    let admin = story.clouds.shard(shard).node.admin.clone();
    run(&["ingest", load.to_str().unwrap(), "--admin", &admin])
}

fn taken_in(story: &mut Story, shard: &str, load: &Path) {
    let output = ingest(story, shard, load);
    assert!(output.status.success(), "{shard}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Loads that wait in a node's directory.
fn waiting(story: &mut Story, shard: &str) -> usize {
    let loads = story.clouds.shard(shard).node.dir.join("loads");
    let dirs = std::fs::read_dir(loads).into_iter().flatten().flatten();
    let kept = dirs.filter(|entry| entry.file_name() != "received").count();
    let received = std::fs::read_dir(story.clouds.shard(shard).node.dir.join("loads/received"));
    kept + received.into_iter().flatten().count()
}

#[test]
fn a_load_reaches_the_standby_though_nodes_and_sidecars_die() {
    let mut story = Story::begin_with(|plan| {
        plan.with_env("b-0-node", "GODWIT_FAILPOINTS", "load-after-intent").with_env(
            "b-1-node",
            "GODWIT_FAILPOINTS",
            "load-before-done",
        )
    });
    story.load();
    let before = story.equal("a", "b");
    let load = build(&story.clouds.layout.dir.clone(), "people");
    story.clouds.shard("b/0").sidecar.process.kill9().unwrap();
    taken_in(&mut story, "a/0", &load);
    taken_in(&mut story, "a/1", &load);
    story.clouds.shard("a/0").sidecar.process.kill9().unwrap();
    let mut client = story.clouds.client("a").unwrap();
    client.call(&["HSET", "7", "name", "later"]).unwrap();
    story.clouds.shard("a/0").sidecar.process.start().unwrap();
    story.clouds.shard("b/0").sidecar.process.start().unwrap();
    for shard in ["b/0", "b/1"] {
        let died = wait::until("the standby's node to die", STUCK, || {
            ensure!(!story.clouds.shard(shard).node.process.alive(), "it lives");
            Ok(())
        });
        died.unwrap();
        story.clouds.shard(shard).node.process.start().unwrap();
    }
    let after = story.equal("a", "b");
    assert_eq!(after.keys, before.keys + ROWS as u64);
    for shard in ["a/0", "a/1", "b/0", "b/1"] {
        let cleared = wait::until("the files to go", STUCK, || {
            let left = waiting(&mut story, shard);
            ensure!(left == 0, "{left} in {shard}");
            Ok(())
        });
        cleared.unwrap();
    }
    // What was loaded is known on the other side too.
    story.switch(&["run", "--to", "b", "--yes"]);
    let again = ingest(&mut story, "b/0", &load);
    let said = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(
        said.contains("\"already\": true"),
        "{said} {}",
        String::from_utf8_lossy(&again.stderr)
    );
    story.equal("b", "a");
}

#[test]
fn a_primary_that_dies_in_the_middle_finishes_the_load_and_its_standby_has_it() {
    let mut story = Story::begin_with(|plan| {
        plan.with_env("a-0-node", "GODWIT_FAILPOINTS", "load-after-intent").with_env(
            "a-1-node",
            "GODWIT_FAILPOINTS",
            "load-before-done",
        )
    });
    story.load();
    let before = story.equal("a", "b");
    let load = build(&story.clouds.layout.dir.clone(), "people");
    for shard in ["a/0", "a/1"] {
        let died = ingest(&mut story, shard, &load);
        assert_eq!(died.status.code(), Some(6), "{}", String::from_utf8_lossy(&died.stderr));
        story.clouds.shard(shard).node.process.end();
        story.clouds.shard(shard).node.process.start().unwrap();
    }
    let after = story.equal("a", "b");
    assert_eq!(after.keys, before.keys + ROWS as u64);
}

#[test]
fn a_stranded_load_is_taken_back_by_a_rewind_and_kept_beside_the_ledger() {
    let mut story = Story::begin_with(Plan::with_toxics);
    story.load();
    let level = story.equal("a", "b");
    let load = build(&story.clouds.layout.dir.clone(), "people");
    link(&story, false);
    taken_in(&mut story, "a/0", &load);
    taken_in(&mut story, "a/1", &load);
    for shard in ["a/0", "a/1"] {
        let shard = story.clouds.shard(shard);
        shard.sidecar.process.kill9().unwrap();
        shard.node.process.kill9().unwrap();
    }
    let failover = ["failover", "--to", "b", "--yes", "--drain-wait", "2s", "--accept-loss"];
    story.switch(&[&failover[..], &["--no-wait-reverse"]].concat());
    link(&story, true);
    story.clouds.start_cloud("a").unwrap_or_else(|e| panic!("{e:#}"));
    let found = story.equal("b", "a");
    assert_eq!(found.keys, level.keys, "the new side has what was level before");
    // No seed: what was fetched is nothing, for none of the load's keys was there before.
    let fetched = sidecar_counter(&story.clouds.layout, "b", "godwit_replicator_seed_bytes_total");
    println!("{fetched} bytes were fetched for {ROWS} keys that were taken back");
    assert!(fetched < 64 * ROWS as u64, "{fetched} bytes for {ROWS} keys that are gone");
    let mut kept = Vec::new();
    for shard in ["a-0", "a-1"] {
        let data = story.clouds.layout.dir.join("data").join(shard);
        let files = std::fs::read_dir(data.join("spool/ledger")).unwrap().flatten();
        let load = files.map(|entry| entry.path()).find(|path| path.join("load.json").exists());
        kept.push(load.unwrap_or_else(|| panic!("what {shard} took in past the fork is kept")));
    }
    // It was never here, and what was kept can be taken in now, on both sides.
    taken_in(&mut story, "b/0", &kept[0]);
    taken_in(&mut story, "b/1", &kept[1]);
    let loaded = story.equal("b", "a");
    assert_eq!(loaded.keys, level.keys + ROWS as u64);
}

fn link(story: &Story, well: bool) {
    let toxics = story.clouds.toxics.as_ref().unwrap();
    ["b-0-stream", "b-1-stream"].iter().for_each(|name| toxics.enable(name, well).unwrap());
}
