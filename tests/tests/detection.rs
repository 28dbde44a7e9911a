//! A primary that dies is noticed by those who ask it, and where the operator allowed it the service
//! fails over by itself. One observer that is cut off, a primary that hangs for moments, and people who
//! work by hand move nothing.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tests::clouds::{Plan, Process, binaries};
use tests::story::{STUCK, Story};
use tests::wait;
use topology::verdict::{self, Verdict};

/// Quicker than the defaults, so that a story is short.
const PROBE: [&str; 8] = [
    "--probe-interval",
    "200ms",
    "--probe-after",
    "500ms",
    "--probe-timeout",
    "1s",
    "--probe-grace",
    "10s",
];

fn begin(change: impl FnOnce(Plan) -> Plan) -> Story {
    Story::begin_with(|mut plan| {
        for program in ["godwit-proxy", "godwit-replicator"] {
            plan.args.push((program.to_owned(), PROBE.map(str::to_owned).to_vec()));
        }
        change(plan)
    })
}

/// `godwit-switchover watch --auto`, ended with the test.
struct Watcher(Process);

impl Watcher {
    fn start(story: &Story, name: &str) -> Self {
        let layout = &story.clouds.layout;
        let journal = layout.dir.join(name).display().to_string();
        let args = ["watch", "--auto", "--every", "100ms", "--journal", &journal];
        let service = ["--registry", &layout.registry, "--service", &layout.service];
        let args = args.into_iter().chain(service).map(str::to_owned).collect();
        let log = layout.dir.join("log").join(format!("{name}.log"));
        let program = binaries::path("godwit-switchover").unwrap();
        let mut process = Process::new(name.to_owned(), program, args, log);
        process.start().unwrap();
        Self(process)
    }

    /// Waits until it has said this.
    fn says(&self, words: &str) {
        becomes(&format!("the watcher to say `{words}`"), || {
            let said = self.0.tail(200);
            ensure!(said.contains(words), "it said:\n{said}");
            Ok(())
        });
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn becomes(what: &str, is: impl Fn() -> Result<()>) {
    wait::until(what, STUCK, is).unwrap_or_else(|e| panic!("{e:#}"));
}

fn verdict(story: &Story, shard: &str) -> Option<Verdict> {
    verdict::of(&story.observer.view()).into_iter().find(|v| v.shard.to_string() == shard)
}

/// Waits until all six observers have a say of the primaries of a, and those of `against` are what calls
/// them down.
fn heard(story: &Story, against: &[&str]) {
    for shard in ["a/0", "a/1"] {
        becomes("every observer to have a say", || {
            let verdict = verdict(story, shard);
            let voices = verdict.as_ref().map_or(&[][..], |v| &v.voices);
            let down = voices.iter().filter(|v| !v.sight.up).map(|v| v.who.as_str());
            let down: Vec<_> = down.collect();
            ensure!(voices.len() == 6 && down == against, "{verdict:?}");
            Ok(())
        });
    }
}

/// Waits until the verdict of a/0 is this.
fn is_down(story: &Story, down: bool) {
    becomes("the verdict of a/0", || {
        let verdict = verdict(story, "a/0");
        ensure!(verdict.as_ref().is_some_and(|v| v.is_down() == down), "{verdict:?}");
        Ok(())
    });
}

#[test]
fn a_killed_primary_is_failed_over_by_itself_once() {
    // The way between one proxy and the primaries is cut all the time.
    let mut story = begin(|plan| plan.with_env("b-proxy", "GODWIT_FAILPOINTS", "probe-cut"));
    let cut = story.clouds.cloud("b").proxies[0].client.rsplit_once(':').unwrap().1.to_owned();
    let cut = format!("proxy b-{cut}");
    heard(&story, &[&cut]);
    let epoch = story.observer.epoch();
    let limits = ["auto", "on", "--to", "b", "--wait", "1s", "--not-within", "0s"];
    story.switch(&limits);
    // Two watch: the claim decides who acts.
    let watchers = [Watcher::start(&story, "watcher-1"), Watcher::start(&story, "watcher-2")];
    let traffic = story.traffic();
    story.more(&traffic, 500);
    let status = story.switch(&["status"]);
    let verdicts = &status.report["verdicts"];
    assert_eq!((&verdicts[0]["down"], &verdicts[0]["against"][0]), (&false.into(), &cut.into()));
    assert_eq!(story.observer.epoch(), epoch, "one observer of six is outvoted");

    let killed = Instant::now();
    story.clouds.shard("a/0").node.process.kill9().unwrap();
    is_down(&story, true);
    let noticed = killed.elapsed();
    becomes("b to take over by itself", || {
        let active = story.observer.active();
        ensure!(active.as_deref() == Some("b"), "{active:?}: {}", watchers[0].0.tail(50));
        Ok(())
    });
    let over = killed.elapsed();
    story.more(&traffic, 500);
    println!(
        "killed -> verdict {} ms -> committed {} ms -> 500 more writes {} ms",
        noticed.as_millis(),
        over.as_millis(),
        killed.elapsed().as_millis()
    );
    assert!(over < Duration::from_secs(30), "it took {over:?}");
    assert_eq!(story.observer.epoch(), epoch + 1, "one switch, whoever made it");
    let history = story.switch(&["report"]).report;
    assert!(history.to_string().contains("auto: down: a/0"), "the journal has why: {history}");
    drop(watchers);

    let (ledger, verdict) = story.judge(traffic, "b");
    verdict.assert_good();
    assert_eq!((ledger.client_errors(), ledger.wrong_reads), (0, 0), "{:?}", ledger.errors);
}

#[test]
fn what_is_not_allowed_or_does_not_last_moves_nothing() {
    let mut story = begin(|plan| plan);
    heard(&story, &[]);
    let epoch = story.observer.epoch();
    let watcher = Watcher::start(&story, "watcher");

    // Auto is off: advice alone.
    story.clouds.shard("a/0").node.process.freeze().unwrap();
    is_down(&story, true);
    watcher.says("`auto` is off: an operator decides");
    story.clouds.shard("a/0").node.process.thaw().unwrap();
    is_down(&story, false);

    // Maintenance is on: nobody acts.
    story.switch(&["maintenance", "on", "--reason", "new disks"]);
    story.switch(&["auto", "on", "--to", "b", "--wait", "100ms", "--not-within", "0s"]);
    story.clouds.shard("a/0").node.process.freeze().unwrap();
    watcher.says("maintenance is on");
    story.clouds.shard("a/0").node.process.thaw().unwrap();
    is_down(&story, false);

    // One that hangs for moments, longer than the timeout: by now more is asked for.
    story.switch(&["maintenance", "off"]);
    for _ in 0..3 {
        story.clouds.shard("a/0").node.process.freeze().unwrap();
        wait::pause(Duration::from_millis(1_200));
        story.clouds.shard("a/0").node.process.thaw().unwrap();
        let flaps = verdict(&story, "a/0").unwrap();
        assert!(!flaps.is_down(), "{flaps:?}");
        is_down(&story, false);
        wait::pause(Duration::from_millis(300));
    }

    // Down for good, and no cluster that may take over.
    story.switch(&["auto", "on", "--to", "a", "--wait", "100ms", "--not-within", "0s"]);
    story.clouds.shard("a/0").node.process.kill9().unwrap();
    is_down(&story, true);
    watcher.says("none of the clusters that may take over (a) can");
    assert_eq!((story.observer.epoch(), story.observer.active().as_deref()), (epoch, Some("a")));
}
