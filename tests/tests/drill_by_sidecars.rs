//! Sidecars rehearse a takeover of their standbys, asked from anywhere; whoever is killed, nothing is left.

#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::ensure;
use serde_json::Value;
use tests::clouds::binaries;
use tests::story::{STUCK, Story};
use tests::wait;

/// A node program that waits for a file beside it before it is one.
fn gated(dir: &Path) -> PathBuf {
    let program = dir.join("slow-node");
    let node = binaries::path("godwit-node").unwrap();
    let script = format!(
        "#!/bin/sh\nwhile [ ! -e {} ]; do sleep 0.02; done\nexec {} \"$@\"\n",
        dir.join("go").display(),
        node.display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    program
}

fn story(program: &Path) -> Story {
    let flags = vec!["--drill-node".to_owned(), program.display().to_string()];
    let story = Story::begin_with(|mut plan| {
        plan.args.push(("godwit-replicator".to_owned(), flags));
        plan
    });
    able(&story);
    story
}

/// Waits until the sidecars of b can do a drill, so none is at one.
fn able(story: &Story) {
    wait::until("the sidecars to be able", STUCK, || {
        let view = story.observer.view();
        for shard in ["b/0", "b/1"] {
            let state = view.sidecars.get(&shard.parse()?).and_then(|s| s.drill.clone());
            ensure!(state.as_ref().is_some_and(|s| s.state == "able"), "{shard}: {state:?}");
        }
        Ok(())
    })
    .unwrap();
}

/// A tool that has nothing of this machine: no programs, no directory for what is temporary.
fn tool(story: &Story, args: &[&str]) -> Command {
    let layout = &story.clouds.layout;
    let mut command = Command::new(binaries::path("godwit-switchover").unwrap());
    command.args(args).args(["--registry", &layout.registry, "--service", &layout.service]);
    command.arg("--journal").arg(layout.dir.join("journal")).args(["--output", "json"]);
    command.env("PATH", "").env("TMPDIR", "/nowhere");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

fn report(child: Child) -> (i32, Value) {
    let out = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    (out.status.code().unwrap_or(-1), serde_json::from_str(said.trim()).unwrap_or(Value::Null))
}

/// What lies in the directories for checkpoints of b's nodes.
fn left(story: &Story) -> Vec<PathBuf> {
    let dirs = story.clouds.cloud("b").shards.iter().map(|s| s.node.dir.join("checkpoints"));
    dirs.flat_map(|dir| std::fs::read_dir(dir).into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .collect()
}

/// Waits until the directories are empty and no process of a fork runs.
fn nothing_is_left(story: &Story) {
    wait::until("what was left to go", STUCK, || {
        let left = left(story);
        ensure!(left.is_empty(), "{left:?}");
        let processes = std::fs::read_dir("/proc")?.flatten();
        let forks = processes.filter(|process| {
            let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).into_owned();
            let dir = story.clouds.layout.dir.display().to_string();
            command.contains(&dir) && command.contains("checkpoints/drill-")
        });
        let forks: Vec<_> = forks.map(|process| process.path()).collect();
        ensure!(forks.is_empty(), "{forks:?}");
        Ok(())
    })
    .unwrap();
}

/// Waits until both forks are being opened.
fn opening(story: &Story) {
    wait::until("the forks to be opened", STUCK, || {
        let view = story.observer.view();
        for shard in ["b/0", "b/1"] {
            let state = view.sidecars.get(&shard.parse()?).and_then(|s| s.drill.clone());
            ensure!(state.as_ref().is_some_and(|s| s.state == "opening"), "{shard}: {state:?}");
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(left(story).len(), 2, "a fork of each");
}

#[test]
fn a_drill_needs_nothing_but_the_registry() {
    let mut story = story(&binaries::path("godwit-node").unwrap());
    story.load();
    let traffic = story.traffic();
    story.more(&traffic, 300);
    let before = story.switch(&["status"]).report;

    let run = |args: &[&str]| report(tool(&story, args).spawn().unwrap());
    let (code, here) = run(&["drill", "--to", "b", "--here"]);
    assert_ne!(code, 0, "this machine has nothing for it: {here}");
    let (code, dry) = run(&["drill", "--to", "b", "--dry-run"]);
    assert!(code == 0 && dry["message"].as_str().unwrap().contains("sidecars"), "{dry}");
    let (code, drill) = run(&["drill", "--to", "b", "--reason", "every Monday"]);
    println!("{drill}");
    assert_eq!((code, &drill["good"], &drill["by"]), (0, &true.into(), &"sidecars".into()));
    let shards = drill["shards"].as_array().unwrap();
    assert_eq!(shards.len(), 2);
    for shard in shards {
        assert!(shard["keys"].as_u64().unwrap() > 0, "the fork has the data: {shard}");
        for took in ["checkpoint_ms", "open_ms", "promote_ms", "canary_ms"] {
            assert!(shard[took].as_f64().unwrap() > 0.0, "{took} of {shard}");
        }
    }
    nothing_is_left(&story);

    story.more(&traffic, 300);
    let after = story.switch(&["status"]).report;
    assert_eq!(before["record"], after["record"], "the service was only read");
    assert_eq!(after["notes"]["drill"]["good"], true);
    assert_eq!(story.switch(&["history"]).report["entries"][0]["operation"], "drill");
    let (ledger, verdict) = story.judge(traffic, "a");
    verdict.assert_good();
    assert_eq!((ledger.client_errors(), ledger.unknown()), (0, 0), "{:?}", ledger.errors);
}

#[test]
fn whoever_is_killed_nothing_is_left() {
    let scratch = tempfile::tempdir().unwrap();
    let mut story = story(&gated(scratch.path()));
    let begin = |story: &Story| {
        let child = tool(story, &["drill", "--to", "b"]).spawn().unwrap();
        opening(story);
        child
    };
    // The tool: its order ends by itself.
    let mut child = begin(&story);
    child.kill().unwrap();
    child.wait().unwrap();
    nothing_is_left(&story);
    able(&story);

    // A sidecar: its fork goes with it, and what is on the disk when it is back. The tool's claim is the dead
    // one's until that ends.
    wait::until("the claim of the dead tool to end", STUCK, || {
        let view = story.observer.view();
        ensure!(view.claim.is_none(), "{:?}", view.claim);
        Ok(())
    })
    .unwrap();
    let child = begin(&story);
    story.clouds.shard("b/0").sidecar.process.kill9().unwrap();
    story.clouds.start_cloud("b").unwrap();
    let (code, drill) = report(child);
    assert_eq!(code, 1, "{drill}");
    let why = drill["message"].as_str().unwrap();
    assert!(why.contains("sidecar of b/0") && why.contains("nothing of the service"), "{why}");
    nothing_is_left(&story);
    able(&story);

    // The standby itself, and a fork: a drill that would not have worked says so.
    let child = begin(&story);
    story.clouds.shard("b/1").node.process.kill9().unwrap();
    story.clouds.start_cloud("b").unwrap();
    std::fs::write(scratch.path().join("go"), "").unwrap();
    report(child);
    nothing_is_left(&story);
    std::fs::write(scratch.path().join("slow-node"), "#!/bin/sh\necho no room >&2; exit 1\n")
        .unwrap();
    story.followed("a", "b");
    able(&story);
    let (code, drill) = report(tool(&story, &["drill", "--to", "b"]).spawn().unwrap());
    let why = drill["message"].as_str().unwrap();
    assert!(code == 1 && why.contains("its last words: no room"), "{drill}");
    nothing_is_left(&story);
    assert_eq!(story.switch(&["status"]).report["notes"]["drill"]["good"], false);
}
