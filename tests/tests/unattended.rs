//! What a service that fails over by itself may not do, and who hears of it: a loss above what was
//! accepted, a switch too soon after the last one; and a primary whose disk hangs.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Result, ensure};
use tests::client::Client;
use tests::clouds::{Plan, Process, binaries};
use tests::story::{STUCK, Story};
use tests::wait;
use topology::verdict;

/// Quicker than the defaults, so that a story is short.
const PROBE: [&str; 6] =
    ["--probe-interval", "200ms", "--probe-after", "500ms", "--probe-timeout", "1s"];

fn begin(change: impl FnOnce(Plan) -> Plan) -> Story {
    Story::begin_with(|mut plan| {
        for program in ["godwit-proxy", "godwit-replicator"] {
            plan.args.push((program.to_owned(), PROBE.map(str::to_owned).to_vec()));
        }
        change(plan)
    })
}

fn becomes(what: &str, is: impl FnMut() -> Result<()>) {
    wait::until(what, STUCK, is).unwrap_or_else(|e| panic!("{e:#}"));
}

/// `watch --auto` with an alert hook that writes down what it was told; ended with the test.
struct Watcher {
    process: Process,
    heard: PathBuf,
}

impl Watcher {
    fn start(story: &Story) -> Self {
        let layout = &story.clouds.layout;
        let heard = layout.dir.join("heard");
        let hook = layout.dir.join("alert-hook");
        let line = r#"printf '%s|%s|%s|%s|%s\n' "$GODWIT_HOOK" "$GODWIT_SERVICE" "$GODWIT_ALERT" "$GODWIT_SHARDS" "$GODWIT_MESSAGE""#;
        std::fs::write(&hook, format!("#!/bin/sh\n{line} >> '{}'\n", heard.display())).unwrap();
        std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
        let (hook, journal) = (hook.display().to_string(), layout.dir.join("watcher-journal"));
        let journal = journal.display().to_string();
        let args = ["watch", "--auto", "--every", "100ms", "--hook-alert", &hook];
        let service = ["--registry", &layout.registry, "--service", &layout.service];
        let all = args.into_iter().chain(service).chain(["--journal", &journal]);
        let all = all.chain(["--drain-wait", "1s"]).map(str::to_owned).collect();
        let log = layout.dir.join("log").join("watcher.log");
        let program = binaries::path("godwit-switchover").unwrap();
        let mut process = Process::new("watcher".to_owned(), program, all, log);
        process.start().unwrap();
        Self { process, heard }
    }

    /// Waits until the hook was told an alert of this kind, and returns the last one.
    fn tells(&self, kind: &str, words: &str) -> String {
        let mut found = String::new();
        becomes(&format!("the hook to hear `{kind}` with `{words}`"), || {
            let heard = std::fs::read_to_string(&self.heard).unwrap_or_default();
            let prefix = format!("alert|demo|{kind}|");
            let line = heard.lines().rev().find(|l| l.starts_with(&prefix) && l.contains(words));
            ensure!(
                line.is_some(),
                "it heard:\n{heard}\nand the watcher says:\n{}",
                self.process.tail(20)
            );
            found = line.unwrap_or_default().to_owned();
            Ok(())
        });
        found
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.process.end();
    }
}

fn lose(story: &mut Story, cloud: &str) {
    for number in 0..2 {
        let shard = story.clouds.shard(&format!("{cloud}/{number}"));
        shard.sidecar.process.kill9().unwrap();
        shard.node.process.kill9().unwrap();
    }
}

#[test]
fn a_loss_that_is_too_great_is_refused_with_the_number_until_it_is_accepted() {
    let mut story = begin(Plan::with_toxics);
    let traffic = story.traffic();
    story.more(&traffic, 300);
    story.link("b", false);
    story.more(&traffic, 300);
    let auto = |story: &Story, loss: &str| {
        let limits = ["auto", "on", "--to", "b", "--wait", "200ms", "--not-within", "0s"];
        story.switch(&[&limits[..], &["--max-loss", loss]].concat());
    };
    auto(&story, "1ms");
    let watcher = Watcher::start(&story);
    lose(&mut story, "a");
    let down = watcher.tells("down", "a/");
    assert!(down.split('|').nth(3).unwrap().starts_with("a/"), "{down}");
    let refused = watcher.tells("refused", "is more than the 1ms that is accepted");
    println!("{refused}");
    let seconds = refused.split("Refused: ").nth(1).unwrap().split(" s is more").next().unwrap();
    assert!(seconds.parse::<f64>().unwrap() > 0.001, "the number that was too great: {refused}");
    assert_eq!(story.observer.active().as_deref(), Some("a"), "nothing was decided");

    auto(&story, "any");
    let over = watcher.tells("failed-over", "took over by itself");
    println!("{over}");
    assert_eq!(story.observer.active().as_deref(), Some("b"));
    story.more(&traffic, 300);
    drop(watcher);
    let (ledger, verdict) = story.judge(traffic, "b");
    assert!(verdict.lost > 0, "{verdict:?}");
    assert_eq!((verdict.duplicated, verdict.damaged, verdict.disordered), (0, 0, 0), "{verdict:?}");
    assert_eq!(ledger.client_errors(), 0, "{:?}", ledger.errors);
}

#[test]
fn a_switch_too_soon_after_the_last_is_left_to_an_operator() {
    let mut story = begin(|plan| plan);
    let traffic = story.traffic();
    story.more(&traffic, 200);
    story.switch(&["run", "--to", "b", "--yes"]);
    story.switch(&["failback", "--yes"]);
    let auto = ["auto", "on", "--to", "b", "--wait", "100ms"];
    story.switch(&[&auto[..], &["--not-within", "1h"]].concat());
    let epoch = story.observer.epoch();
    let watcher = Watcher::start(&story);
    story.clouds.shard("a/0").node.process.kill9().unwrap();
    let refused = watcher.tells("refused", "an operator decides");
    println!("{refused}");
    assert!(refused.contains("the last switch (failback") && refused.contains("there must be 1h"));
    assert_eq!(story.observer.epoch(), epoch, "nothing was even frozen");

    // An operator does.
    story.switch(&["failover", "--to", "b", "--yes", "--no-wait-reverse"]);
    watcher.tells("up", "");
    story.more(&traffic, 200);
    drop(watcher);
    let (ledger, verdict) = story.judge(traffic, "b");
    verdict.assert_good();
    assert_eq!((ledger.client_errors(), ledger.wrong_reads), (0, 0), "{:?}", ledger.errors);
}

/// Makes the next files of a database's log ones that cannot be opened: nobody reads these pipes, so
/// whoever opens one waits in the kernel, as for a disk that does not answer.
fn hang_the_disk(node: &Path) {
    let db = node.join("db");
    let numbers = std::fs::read_dir(&db).unwrap().flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        name.trim_start_matches("MANIFEST-").split('.').next()?.parse::<u64>().ok()
    });
    let last = numbers.max().unwrap();
    for number in last + 1..last + 64 {
        let pipe = db.join(format!("{number:06}.log"));
        assert!(std::process::Command::new("mkfifo").arg(pipe).status().unwrap().success());
    }
}

#[test]
fn a_primary_whose_disk_hangs_is_noticed_and_can_be_left() {
    let mut story = begin(|plan| plan);
    let traffic = story.traffic();
    story.more(&traffic, 300);
    // Its sidecar would read the log, and so open the other end of the pipes.
    story.clouds.shard("a/0").sidecar.process.kill9().unwrap();
    let node = story.clouds.shard("a/0").node.client.clone();
    hang_the_disk(&story.clouds.shard("a/0").node.dir.clone());
    // What is in memory goes to the disk, and the log to its next file.
    let flush = thread::spawn(move || Client::connect(&node)?.call(&["SAVE"]).map(drop));
    becomes("half of the observers to call it down", || {
        let all = verdict::of(&story.observer.view());
        let found = all.iter().find(|v| v.shard.to_string() == "a/0");
        ensure!(found.is_some_and(|v| v.is_down()), "{found:?}");
        println!("{:?}", found.and_then(|v| v.reason()));
        Ok(())
    });
    let up = verdict::of(&story.observer.view()).into_iter().find(|v| v.shard.to_string() == "a/1");
    assert!(!up.unwrap().is_down(), "its neighbour is well");
    assert!(story.clouds.shard("a/0").node.process.alive(), "its process is there all the time");
    let plan = story.switchover(&["plan", "--to", "b", "--failover"]);
    assert_eq!(plan.code, 0, "{}", plan.said);
    let over = ["failover", "--to", "b", "--yes", "--accept-loss", "--no-wait-reverse"];
    let over = story.switch(&[&over[..], &["--drain-wait", "1s"]].concat()).report;
    println!("{over}");
    assert!(over["lease_wait_ms"].as_f64().is_some(), "who hangs is waited for: {over}");
    story.more(&traffic, 300);
    story.clouds.shard("a/0").node.process.kill9().unwrap();
    flush.join().unwrap().unwrap_err();
    let (ledger, verdict) = story.judge(traffic, "b");
    assert_eq!((verdict.duplicated, verdict.damaged, verdict.disordered), (0, 0, 0), "{verdict:?}");
    // What it acknowledged after its sidecar was gone is lost, as was accepted: readers see that.
    assert_eq!(ledger.client_errors(), 0, "{:?}", ledger.errors);
}
