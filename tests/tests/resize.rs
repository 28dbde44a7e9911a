//! Growing is a switch: one verb adds a cluster of another shape, seeds it, switches to it and keeps or
//! retires the old one, and whoever is killed on the way, anybody goes on with it or takes it back.

#![allow(clippy::unwrap_used)] // a helper of a test may stop at the first surprise

use std::path::Path;
use std::process::Command;

use anyhow::ensure;
use serde_json::Value;
use tests::clouds::control::Run;
use tests::clouds::{Clouds, Observer, Plan, binaries};
use tests::load::{Traffic, TrafficPlan};
use tests::story::{STUCK, Story};
use tests::wait;

/// Cloud a with so many shards, and the processes of n with so many, which no record names.
fn two(a: u16, n: u16, change: impl FnOnce(Plan) -> Plan) -> Story {
    let clouds = Clouds::for_test_with(|plan| {
        let mut plan = change(plan.with_shards(a, n));
        plan.clouds[1].0 = "n".to_owned();
        plan.later = vec!["n".to_owned()];
        plan
    });
    begun(clouds)
}

fn begun(mut clouds: Clouds) -> Story {
    // None of them is ready: the record does not name them.
    clouds.cloud_mut("n").processes_mut().for_each(|process| process.start().unwrap());
    let observer = Observer::of(&clouds.layout).unwrap();
    let story = Story { clouds, observer };
    story.load();
    let wanted: Vec<_> = story.clouds.cloud("n").shards.iter().map(|s| s.name.clone()).collect();
    eventually("the processes of n to be seen", || {
        let view = story.observer.view();
        let seen = view.nodes.keys().filter(|shard| view.sidecars.contains_key(*shard));
        let seen: Vec<_> = seen.map(ToString::to_string).collect();
        ensure!(wanted.iter().all(|shard| seen.contains(shard)), "{seen:?}");
        Ok(())
    });
    story
}

fn eventually(what: &str, check: impl FnMut() -> anyhow::Result<()>) {
    wait::until(what, STUCK, check).unwrap_or_else(|error| panic!("{error:#}"));
}

fn clusters(story: &Story) -> Vec<String> {
    let view = story.observer.view();
    view.record().unwrap().clusters.keys().cloned().collect()
}

/// 32 connections, through the proxies of both clouds.
fn crowd(story: &Story) -> Traffic {
    let plan = TrafficPlan { writers: 32, ..TrafficPlan::small("resize", story.clouds.proxies()) };
    assert_eq!(plan.proxies.len(), 2);
    Traffic::start(plan)
}

/// Runs the tool so that it dies at this point.
fn dies(story: &Story, args: &[&str], point: &str) {
    let layout = &story.clouds.layout;
    let mut command = Command::new(binaries::path("godwit-switchover").unwrap());
    command.args(args).args(["--registry", &layout.registry, "--service", &layout.service]);
    command.arg("--journal").arg(layout.dir.join(format!("journal-{point}")));
    let out = command.env("GODWIT_FAILPOINTS", point).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), None, "{args:?} did not die at {point}: {said}");
}

/// Nobody keeps anything for this cluster.
fn nothing_is_kept_for(story: &Story, cluster: &str) {
    eventually("what was kept to be let go of", || {
        let view = story.observer.view();
        for (shard, sidecar) in &view.sidecars {
            let streams = &sidecar.streams;
            let to = |target: &String| target.split('/').next() == Some(cluster);
            ensure!(!streams.keys().any(to), "{shard} has {:?}", streams.keys());
        }
        for shard in &story.clouds.cloud("a").shards {
            for dir in ["spool/slices", "checkpoints"] {
                let left = files(&shard.node.dir.join(dir));
                ensure!(left == 0, "{} has {left} files in {dir}", shard.name);
            }
        }
        Ok(())
    });
}

/// All files below a directory.
fn files(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|e| if e.path().is_dir() { files(&e.path()) } else { 1 }).sum()
}

/// The commands of the runbook in docs/operations.md, as it has them.
fn runbook() -> Vec<Vec<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = std::fs::read_to_string(root.join("docs/operations.md")).unwrap();
    let section = text.split("\n## ").find(|s| s.starts_with("Grow, shrink, move\n")).unwrap();
    let lines = section.lines().filter_map(|line| line.strip_prefix("godwit-switchover "));
    lines
        .map(|line| {
            // No word of them has a space within quotes.
            let command = line.split(" #").next().unwrap();
            command.split_whitespace().map(|word| word.trim_matches('\'').to_owned()).collect()
        })
        .collect()
}

fn follow(story: &Story, command: &[String]) -> Run {
    story.switch(&command.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The runbook of docs/operations.md, word by word, under load; then back by the same verb.
#[test]
fn two_shards_become_four_under_load_and_two_again() {
    let mut story = two(2, 4, |plan| plan);
    let traffic = crowd(&story);
    story.more(&traffic, 500);
    let commands = runbook();
    let verbs: Vec<_> = commands.iter().map(|c| c[0].as_str()).collect();
    assert_eq!(verbs, ["resize", "resize", "verify", "retire"], "the runbook has other steps");

    let plan = follow(&story, &commands[0]).report;
    assert_eq!((&plan["refused"], &plan["shards"]), (&false.into(), &4.into()), "{plan}");
    let seeds = plan["seeds"].as_array().unwrap();
    assert_eq!(seeds.len(), 4, "each half goes to two quarters: {plan}");
    assert!(plan["seed_bytes"].as_u64().unwrap() > 0, "{plan}");
    assert_eq!(clusters(&story), ["a"], "a dry run changes nothing");

    let grown = follow(&story, &commands[1]).report;
    assert_eq!(story.observer.active().as_deref(), Some("n"));
    assert_eq!(
        (&grown["resize"]["shards_before"], &grown["resize"]["shards"]),
        (&2.into(), &4.into())
    );
    assert!(grown["resize"]["seed_bytes"].as_u64().unwrap() > 0, "{grown}");
    assert_eq!(grown["lost"]["known"], 0, "{grown}");
    let ms = |value: &Value| value.as_f64().unwrap();
    println!(
        "2 -> 4 shards: pause {} ms, seed {} ms, {} ms in all",
        ms(&grown["pause_ms"]),
        ms(&grown["resize"]["seed_ms"]),
        ms(&grown["resize"]["took_ms"])
    );
    story.more(&traffic, 500);
    story.equal("n", "a");
    assert_eq!(follow(&story, &commands[2]).report["equal"], true);
    assert_eq!(clusters(&story), ["a", "n"], "the old cluster follows");
    follow(&story, &commands[3]);
    assert_eq!(clusters(&story), ["n"]);
    nothing_is_kept_for(&story, "a");
    story.more(&traffic, 300);

    // The new shape is switched like any other; the machines of a come back as a new cluster.
    let refused = story.switchover(&["resize", "--to", "a", "--shards", "2", "--yes"]);
    assert_eq!(refused.code, 3, "{}", refused.said);
    assert!(refused.said.contains("--reuse"), "{}", refused.said);
    let back = ["resize", "--to", "a", "--shards", "2", "--reuse", "--retire", "--yes"];
    let back = story.switch(&back).report;
    assert_eq!(back["resize"]["retired"]["given_up"], Value::Null, "{back}");
    assert_eq!(
        (clusters(&story), story.observer.active()),
        (vec!["a".to_owned()], Some("a".to_owned()))
    );
    println!("4 -> 2 shards: pause {} ms", ms(&back["pause_ms"]));
    story.more(&traffic, 300);
    let (ledger, verdict) = story.judge(traffic, "a");
    verdict.assert_good();
    assert_eq!((ledger.client_errors(), ledger.unknown()), (0, 0), "{:?}", ledger.errors);
    assert_eq!(ledger.wrong_reads, 0);
}

/// The same shape elsewhere: each shard's seed is a checkpoint as it is. There and back, under load.
#[test]
fn a_cluster_of_the_same_shape_takes_over_under_load() {
    let mut story = two(2, 2, |plan| plan);
    let traffic = crowd(&story);
    story.more(&traffic, 500);
    let plan = story.switch(&["resize", "--to", "n", "--shards", "2", "--dry-run"]).report;
    assert_eq!((&plan["refused"], &plan["shards"]), (&false.into(), &2.into()), "{plan}");
    assert_eq!(plan["seeds"].as_array().unwrap().len(), 2, "one for each shard: {plan}");
    let moved = story.switch(&["resize", "--to", "n", "--shards", "2", "--yes"]).report;
    println!("2 -> 2 shards: pause {} ms", moved["pause_ms"]);
    assert_eq!(moved["lost"]["known"], 0, "{moved}");
    assert!(moved["resize"]["seed_bytes"].as_u64().unwrap() > 0, "{moved}");
    assert_eq!(story.observer.active().as_deref(), Some("n"));
    story.more(&traffic, 500);
    story.equal("n", "a");
    story.switch(&["failback", "--yes"]);
    story.more(&traffic, 300);
    let (ledger, verdict) = story.judge(traffic, "a");
    verdict.assert_good();
    assert_eq!((ledger.client_errors(), ledger.unknown()), (0, 0), "{:?}", ledger.errors);
    assert_eq!(ledger.wrong_reads, 0);
}

/// One resize whose tool is killed at every step, each time resumed on another machine.
#[test]
fn a_tool_that_is_killed_at_every_step_is_resumed_by_others() {
    let mut story = two(1, 2, |plan| plan);
    let traffic = story.traffic();
    story.more(&traffic, 200);
    let resize = ["resize", "--to", "n", "--shards", "2", "--retire", "--yes"];
    dies(&story, &resize, "resize-die-after-journal");
    let again = story.switchover(&resize);
    assert_eq!(again.code, 3, "one resize at a time: {}", again.said);
    for (point, n_is_there, active) in [
        ("resize-die-before-add", false, "a"),
        ("resize-die-after-add", true, "a"),
        ("resize-die-while-seeding", true, "a"),
        ("resize-die-before-switch", true, "a"),
        ("switchover-die-before-commit", true, "a"),
        ("switchover-die-after-commit", true, "n"),
        ("resize-die-after-switch", true, "n"),
        ("resize-die-before-remove", true, "n"),
    ] {
        dies(&story, &["resume"], point);
        eventually(point, || {
            let active_now = story.observer.active();
            ensure!(active_now.as_deref() == Some(active), "{active_now:?} is active");
            let there = clusters(&story).contains(&"n".to_owned());
            ensure!(there == n_is_there && clusters(&story).contains(&"a".to_owned()));
            Ok(())
        });
    }
    let late = story.switchover(&["abort"]);
    assert_eq!(late.code, 3, "it is committed: {}", late.said);
    dies(&story, &["resume"], "resize-die-after-remove");
    let report = story.switch(&["resume"]).report;
    assert_eq!(
        (&report["operation"], &report["outcome"]),
        (&"resize".into(), &"done".into()),
        "{report}"
    );
    assert!(report["pause_ms"].as_f64().unwrap() > 0.0, "{report}");
    assert_eq!(clusters(&story), ["n"]);
    let nothing = story.switch(&["resume"]);
    assert!(nothing.said.contains("nothing to resume"), "{}", nothing.said);
    story.more(&traffic, 200);
    // Those that took over from a cluster that is no more know what they are when they come back.
    story.clouds.shard("n/1").node.process.kill9().unwrap();
    story.clouds.shard("n/1").node.process.start().unwrap();
    story.more(&traffic, 200);
    let (_, verdict) = story.judge(traffic, "n");
    verdict.assert_good();
}

/// Taken back before the commit, nothing of it is left; and it can be done again.
#[test]
fn what_is_aborted_before_the_commit_leaves_no_trace() {
    let mut story = two(1, 2, |plan| plan);
    let traffic = story.traffic();
    story.more(&traffic, 100);
    let resize = ["resize", "--to", "n", "--shards", "2", "--reuse", "--yes"];
    for point in
        ["resize-die-after-journal", "resize-die-while-seeding", "switchover-die-before-commit"]
    {
        dies(&story, &resize, point);
        let dry = story.switch(&["abort", "--dry-run"]);
        assert!(dry.said.contains("would"), "{}", dry.said);
        let aborted = story.switch(&["abort"]);
        assert!(aborted.said.contains("leaves the service again"), "{point}: {}", aborted.said);
        eventually("the record to be as it was", || {
            let (names, active) = (clusters(&story), story.observer.active());
            ensure!(names == ["a"] && active.as_deref() == Some("a"), "{names:?} {active:?}");
            Ok(())
        });
        nothing_is_kept_for(&story, "n");
        let nothing = story.switch(&["resume"]);
        assert!(nothing.said.contains("nothing to resume"), "{point}: {}", nothing.said);
        story.more(&traffic, 50);
    }
    // A tool that lives, and waits for a seed, hears of it.
    story.clouds.shard("n/1").sidecar.process.freeze().unwrap();
    std::thread::scope(|scope| {
        let shared = &story;
        let tool = scope.spawn(move || shared.switchover(&resize));
        eventually("n to be added", || {
            ensure!(clusters(shared).contains(&"n".to_owned()), "it is not");
            Ok(())
        });
        shared.switch(&["abort"]);
        let ended = tool.join().unwrap();
        assert_eq!(
            (ended.code, &ended.report["outcome"]),
            (4, &"rolled-back".into()),
            "{}",
            ended.said
        );
        assert!(ended.said.contains("by somebody else"), "{}", ended.said);
    });
    story.clouds.shard("n/1").sidecar.process.thaw().unwrap();
    nothing_is_kept_for(&story, "n");
    assert!(story.switch(&["resume"]).said.contains("nothing to resume"));
    let history = story.switch(&["history"]).report;
    let entries = history["entries"].as_array().unwrap();
    let taken_back =
        entries.iter().filter(|e| e["operation"] == "resize" && e["state"] == "rolled-back");
    assert_eq!(taken_back.count(), 4, "{history}");

    eventually("n/1 to be there again", || {
        let there = story.observer.view().sidecars.contains_key(&"n/1".parse().unwrap());
        ensure!(there, "it is not");
        Ok(())
    });
    story.switch(&resize);
    story.equal("n", "a");
    story.more(&traffic, 100);
    story.switch(&["failback", "--yes"]);
    story.more(&traffic, 100);
    story.equal("a", "n");
    let (_, verdict) = story.judge(traffic, "a");
    verdict.assert_good();
}

/// Nobody waits for seeds when the active cluster fails: a failover takes the claim over, and the resize
/// goes on from the cluster that is active then.
#[test]
fn a_failover_does_not_wait_for_a_resize() {
    let clouds = Clouds::for_test_with(|plan| {
        let mut plan = plan.with_shards(1, 1);
        plan.clouds.push(("n".to_owned(), vec!["0-8191".to_owned(), "8192-16383".to_owned()]));
        plan.later = vec!["n".to_owned()];
        plan
    });
    let mut story = begun(clouds);
    story.equal("a", "b");
    // Still registered, and taking in nothing.
    story.clouds.shard("n/1").sidecar.process.freeze().unwrap();
    std::thread::scope(|scope| {
        let shared = &story;
        let resize = ["resize", "--to", "n", "--shards", "2", "--yes"];
        let tool = scope.spawn(move || shared.switchover(&resize));
        eventually("the resize to wait for its seeds", || {
            ensure!(clusters(shared).contains(&"n".to_owned()), "n is not added");
            let view = shared.observer.view();
            let claim = view.claim.as_ref().map(|claim| claim.operation.clone());
            ensure!(claim.as_deref() == Some("resize (seeding)"), "{claim:?}");
            Ok(())
        });
        let planned = shared.switchover(&["run", "--to", "b", "--yes"]);
        assert_eq!(planned.code, 3, "a planned switch waits: {}", planned.said);
        shared.switch(&["failover", "--to", "b", "--yes"]);
        let ended = tool.join().unwrap();
        assert_eq!(
            (ended.code, &ended.report["outcome"]),
            (5, &"incomplete".into()),
            "{}",
            ended.said
        );
        assert!(ended.said.contains("a failover goes before"), "{}", ended.said);
    });
    let doctor = story.switchover(&["doctor"]);
    assert!(doctor.said.contains("a resize a -> n has not ended"), "{}", doctor.said);
    story.clouds.shard("n/1").sidecar.process.thaw().unwrap();
    story.switch(&["resume"]);
    assert_eq!(story.observer.active().as_deref(), Some("n"));
    story.equal("n", "b");
}
