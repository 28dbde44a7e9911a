//! Sidecars that know each other by certificates: a switch there and back, certificates that are
//! renewed on the way, and those that are refused, with the reason where an operator looks.

#![allow(clippy::unwrap_used)] // a helper of a test may stop at the first surprise

use std::process::Command;

use anyhow::ensure;
use rustix::process::{Pid, Signal, kill_process};
use tests::clouds::certificates::{self, Authority};
use tests::clouds::{Plan, binaries};
use tests::story::{STUCK, Story};
use tests::wait;

/// Has sidecars read their certificates again.
fn hang_up(story: &Story) {
    for cloud in &story.clouds.layout.clouds {
        for shard in &cloud.shards {
            let pid = i32::try_from(shard.sidecar.process.pid()).unwrap();
            kill_process(Pid::from_raw(pid).unwrap(), Signal::HUP).unwrap();
        }
    }
}

/// Waits until the stream from a/0 is not, for this reason.
fn refused(story: &Story, reason: &str) {
    let said = wait::until(&format!("`{reason}`"), STUCK, || {
        let streams = story.observer.streams("a");
        let found = streams.iter().find(|(from, to, _)| (&**from, &**to) == ("a/0", "b/0"));
        let said = found.and_then(|(_, _, status)| status.reason.clone()).unwrap_or_default();
        ensure!(said.contains(reason), "it says `{said}`");
        Ok(())
    });
    said.unwrap_or_else(|error| panic!("{error:#}"));
}

fn relink(story: &Story) {
    let toxics = story.clouds.toxics.as_ref().unwrap();
    for name in ["a-0-stream", "a-1-stream", "b-0-stream", "b-1-stream"] {
        toxics.enable(name, false).unwrap();
        toxics.enable(name, true).unwrap();
    }
}

#[test]
fn a_switch_there_and_back_with_certificates_that_change() {
    let mut story = Story::begin_with(|plan| plan.with_toxics().with_tls());
    story.load();
    let traffic = story.traffic();
    story.more(&traffic, 200);
    story.switch(&["run", "--to", "b", "--yes"]);
    story.more(&traffic, 200);

    // A new authority: first all trust it and have its certificates, then connections begin anew.
    let dir = story.clouds.layout.dir.join("tls");
    let authority = Authority::create(&dir, "the next authority").unwrap();
    for (file, name) in [("a-0", "0.a"), ("a-1", "1.a"), ("b-0", "0.b"), ("b-1", "1.b")] {
        authority.sign(file, &format!("{name}.demo.godwit")).unwrap();
    }
    hang_up(&story);
    relink(&story);
    story.switch(&["failback", "--yes"]);
    story.more(&traffic, 200);
    story.equal("a", "b");

    // Only who has a snapshotter's certificate gets a checkpoint.
    let store = format!("file://{}", story.clouds.layout.dir.join("store").display());
    let push = |certificate: &str| {
        let layout = &story.clouds.layout;
        let mut command = Command::new(binaries::path("godwit-snapshotter").unwrap());
        command.args(["push", "--registry", &layout.registry, "--service", &layout.service]);
        command.args(["--cluster", "b", "--to", &store]);
        command.args(certificates::flags(&dir, certificate));
        let out = command.output().unwrap();
        (out.status.success(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let (done, said) = push("a-0");
    assert!(!done && said.contains("`snapshotter.demo.godwit` is needed"), "{said}");
    authority.sign("snapshotter", "snapshotter.demo.godwit").unwrap();
    let (done, said) = push("snapshotter");
    assert!(done, "{said}");

    let (ledger, verdict) = story.judge(traffic, "a");
    verdict.assert_good();
    assert_eq!((ledger.client_errors(), ledger.unknown()), (0, 0), "{:?}", ledger.errors);
}

#[test]
fn who_is_not_believed_is_told_why_and_what_to_do() {
    let mut story = Story::begin_with(Plan::with_tls);
    let dir = story.clouds.layout.dir.join("tls");
    let restart = |story: &mut Story, more: &[&str]| {
        let process = &mut story.clouds.shard("b/0").sidecar.process;
        let before = process.args.clone();
        process.args.extend(more.iter().map(|&arg| arg.to_owned()));
        process.kill9().unwrap();
        process.start().unwrap();
        process.args = before;
    };
    restart(&mut story, &["--tls", "off"]);
    refused(&story, "127.0.0.1");
    refused(&story, "does not speak TLS: give it a certificate");

    let other = Authority::create(&dir.join("other"), "another authority").unwrap();
    other.sign("b-0", "0.b.demo.godwit").unwrap();
    let theirs = certificates::flags(&dir.join("other"), "b-0");
    let ours = certificates::flags(&dir, "b-1");
    let with = |story: &mut Story, flags: &[String]| {
        let process = &mut story.clouds.shard("b/0").sidecar.process;
        let usual = process.args.len() - flags.len();
        process.args.truncate(usual);
        process.args.extend(flags.iter().cloned());
        restart(story, &[]);
    };
    with(&mut story, &theirs);
    refused(&story, "of an authority that we do not know: our tls-ca must hold it");
    with(&mut story, &ours);
    refused(&story, "shows a certificate for `1.b.demo.godwit`, and `0.b.demo.godwit` is needed");

    with(&mut story, &certificates::flags(&dir, "b-0"));
    story.load();
    story.equal("a", "b");
}
