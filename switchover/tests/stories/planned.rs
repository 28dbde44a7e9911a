//! Planned switchovers: they end on one side or the other, and the record says which.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::fakes::{Clouds, seed};
use topology::Epoch;
use topology::members::ProxyMember;
use topology::record::UnixMs;
use topology::service::Cancelled;

#[tokio::test(flavor = "multi_thread")]
async fn over_and_back() {
    let clouds = Clouds::up(seed()).await;
    let (code, status) = clouds.ask(&["status"]).await;
    assert_eq!((code, &status["active"], &status["epoch"]), (0, &"a".into(), &1.into()));
    let (code, plan) = clouds.ask(&["plan", "--to", "b"]).await;
    assert_eq!((code, &plan["refused"]), (0, &false.into()), "{plan}");

    let (code, report) = clouds.ask(&["run", "--to", "b", "--yes"]).await;
    assert_eq!(code, 0, "{report}");
    assert_eq!(report["epoch"], 2);
    assert_eq!(report["lost"]["known"], 0);
    assert!(report["pause_ms"].as_f64().unwrap() > 0.0);
    assert_eq!(report["proxies"].as_array().unwrap().len(), 2);
    assert_eq!(report["proxies_missing"].as_array().unwrap().len(), 0);
    let steps: Vec<_> =
        report["steps"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(steps, ["freeze", "end", "drain", "commit", "promote", "register", "reverse"]);
    let record = clouds.record().await;
    assert_eq!((record.active(), record.epoch, record.forks.len()), (Some("b"), Epoch(2), 2));
    assert!(record.forks.iter().all(|f| f.end == Some(f.at)));

    let (code, report) = clouds.ask(&["failback", "--yes"]).await;
    assert_eq!((code, &report["to"], &report["epoch"]), (0, &"a".into(), &3.into()));
    assert_eq!(
        (&report["bytes_moved"]["sent"], &report["bytes_moved"]["seed"]),
        (&2000.into(), &20.into())
    );
    assert_eq!(clouds.record().await.active(), Some("a"));
    let journals = std::fs::read_dir(clouds.dir.path().join("journal")).unwrap().count();
    assert_eq!(journals, 2, "each operation left a journal on this machine");
    let (code, _) = clouds.ask(&["resume"]).await;
    assert_eq!(code, 0, "nothing to resume");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_end_its_log_rolls_it_back() {
    let clouds = Clouds::up(seed()).await;
    clouds.fault("a/1").mute.store(true, Ordering::SeqCst);
    let (code, report) = clouds.ask(&["run", "--to", "b", "--yes", "--timeout", "400ms"]).await;
    assert_eq!((code, &report["outcome"]), (4, &"rolled-back".into()));
    assert!(report["message"].as_str().unwrap().contains("a/1"), "{report}");
    let record = clouds.record().await;
    assert_eq!((record.active(), record.epoch, record.freeze()), (Some("a"), Epoch(2), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_does_not_apply_rolls_it_back() {
    let clouds = Clouds::up(seed()).await;
    clouds.fault("b/0").stuck.store(true, Ordering::SeqCst);
    let (code, report) = clouds.ask(&["run", "--to", "b", "--yes", "--timeout", "400ms"]).await;
    assert_eq!(code, 4, "{report}");
    assert_eq!(clouds.record().await.active(), Some("a"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_dies_before_the_commit_is_resumed_or_times_out() {
    let clouds = Clouds::up(seed()).await;
    let die = |timeout: &'static str| {
        let mut command = clouds.command(&["run", "--to", "b", "--yes", "--timeout", timeout]);
        command.env("GODWIT_FAILPOINTS", "switchover-die-before-commit").output()
    };
    assert!(!die("20s").await.unwrap().status.success());
    assert!(clouds.record().await.freeze().is_some());
    let (code, plan) = clouds.ask(&["plan", "--to", "b"]).await;
    assert_eq!(code, 3, "the freeze is the lock of operations: {plan}");
    let (code, report) = clouds.ask(&["resume"]).await;
    assert_eq!((code, &report["operation"]), (0, &"switchover".into()), "{report}");
    assert_eq!(clouds.record().await.active(), Some("b"));

    clouds.settled().await;
    assert!(clouds.ask(&["run", "--to", "a", "--yes"]).await.0 == 0);
    clouds.settled().await;
    assert!(!die("500ms").await.unwrap().status.success());
    clouds.until(|view| view.record().unwrap().freeze().is_none()).await;
    let (code, report) = clouds.ask(&["resume"]).await;
    assert_eq!((code, &report["outcome"]), (4, &"rolled-back".into()));
    assert_eq!(clouds.record().await.active(), Some("a"));
    assert_eq!(clouds.ask(&["resume"]).await.0, 0, "and that is noted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_dies_after_the_commit_is_seen_through_by_resume() {
    let clouds = Clouds::up(seed()).await;
    let mut command = clouds.command(&["run", "--to", "b", "--yes"]);
    command.env("GODWIT_FAILPOINTS", "switchover-die-after-commit");
    assert!(!command.output().await.unwrap().status.success());
    let (code, report) = clouds.ask(&["resume"]).await;
    assert_eq!((code, &report["to"], &report["outcome"]), (0, &"b".into(), &"done".into()));
    assert_eq!(clouds.record().await.active(), Some("b"));
}

#[tokio::test(flavor = "multi_thread")]
async fn abort_ends_a_freeze_that_a_dead_tool_left() {
    let clouds = Clouds::up(seed()).await;
    let mut command = clouds.command(&["run", "--to", "b", "--yes", "--timeout", "60s"]);
    command.env("GODWIT_FAILPOINTS", "switchover-die-before-commit");
    assert!(!command.output().await.unwrap().status.success());
    assert_eq!(clouds.ask(&["abort"]).await.0, 0);
    let record = clouds.record().await;
    assert_eq!((record.active(), record.epoch, record.freeze()), (Some("a"), Epoch(2), None));
}

/// The tool's durable writes are, in order: journal, freeze, commit, and others after it.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_outcome_is_decided_by_the_record() {
    for (failpoint, code, active) in [
        ("registry-answer-lost:every=3", 0, "b"), // committed, and nobody said so
        ("registry-silent:every=3", 4, "a"),      // not committed
        ("registry-answer-lost:every=2", 4, "a"), // frozen, and nobody said so
        ("registry-silent:every=2", 4, "a"),      // not frozen
        ("registry-silent:every=1", 1, "a"),      // not begun
    ] {
        let clouds = Clouds::up(seed()).await;
        let mut command = clouds.command(&["run", "--to", "b", "--yes", "--no-wait-reverse"]);
        let output = command.env("GODWIT_FAILPOINTS", failpoint).output().await.unwrap();
        let says = format!("{failpoint}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{says}");
        let record = clouds.record().await;
        assert_eq!((record.active(), record.freeze()), (Some(active), None), "{says}");
    }
}

/// Whoever wins, the tool and the record agree.
#[tokio::test(flavor = "multi_thread")]
async fn commit_against_cancel() {
    let base = seed();
    let clouds = Clouds::up(base).await;
    let (mut committed, mut cancelled) = (0, 0);
    for round in 0..20 {
        let before = clouds.record().await;
        let to = if before.active() == Some("a") { "b" } else { "a" };
        clouds.settled().await;
        let mut command = clouds.command(&["run", "--to", to, "--yes", "--timeout", "5s"]);
        let tool = tokio::spawn(async move { command.output().await.unwrap() });
        clouds
            .until(|view| {
                view.record().unwrap().freeze().is_some()
                    || view.record().unwrap().epoch > before.epoch
            })
            .await;
        // From at once to about when the commit is due.
        let wait = (base + round * 7919) % 40_000;
        tokio::time::sleep(Duration::from_micros(wait)).await;
        let won = match clouds.record().await.freeze() {
            Some(freeze) => {
                matches!(clouds.service.cancel(freeze.id).await.unwrap(), Cancelled::Ended(_))
            }
            None => false,
        };
        let output = tool.await.unwrap();
        let after = clouds.record().await;
        let says = format!(
            "seed {base} round {round} wait {wait}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(after.epoch, before.epoch.next(), "{says}");
        match output.status.code() {
            Some(0) => assert!(!won && after.active() == Some(to), "{says}"),
            Some(4) => assert!(won && after.active() == before.active(), "{says}"),
            other => panic!("exit {other:?}, {says}"),
        }
        if won { cancelled += 1 } else { committed += 1 }
    }
    println!("{committed} commits won, {cancelled} cancels won");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_shard_moves_and_the_other_stays() {
    let clouds = Clouds::up(seed()).await;
    let primaries = async || {
        let record = clouds.record().await;
        let names: Vec<_> = record.primaries.iter().map(ToString::to_string).collect();
        (names.join(" "), record.epoch)
    };
    for wrong in ["b/0", "a/7"] {
        assert_eq!(clouds.ask(&["run", "--shard", wrong, "--to", "b", "--yes"]).await.0, 2);
    }
    let (code, report) = clouds.ask(&["run", "--shard", "a/1", "--to", "b", "--yes"]).await;
    assert_eq!((code, &report["moves"]), (0, &serde_json::json!(["a/1"])), "{report}");
    assert_eq!(primaries().await, ("a/0 b/1".to_owned(), Epoch(2)));
    assert_eq!(clouds.record().await.forks.len(), 1);
    clouds.settled().await;
    // The rest follows; then one shard of it fails.
    let (code, report) = clouds.ask(&["run", "--to", "b", "--yes"]).await;
    assert_eq!((code, &report["moves"]), (0, &serde_json::json!(["a/0"])), "{report}");
    assert_eq!(primaries().await, ("b/0 b/1".to_owned(), Epoch(3)));
    clouds.settled().await;
    clouds.fault("b/0").node_dead.store(true, Ordering::SeqCst);
    let (code, report) = clouds.ask(&["failover", "--shard", "b/0", "--to", "a", "--yes"]).await;
    assert_eq!((code, &report["lost"]["known"]), (0, &0.into()), "{report}");
    assert_eq!(primaries().await, ("a/0 b/1".to_owned(), Epoch(4)));
}

/// The key of a proxy that was killed stays for a while; nobody waits for that.
#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_says_nothing_is_named_and_not_waited_for() {
    let clouds = Clouds::up(seed()).await;
    let dead = clouds.service.view().proxies["proxy-a"].clone();
    let dead = ProxyMember { id: "dead".to_owned(), at: UnixMs::now(), ..dead };
    let stays = Duration::from_secs(60);
    clouds.service.put_proxy(&dead, stays).await.unwrap();
    clouds.until(|view| view.proxies.contains_key("dead")).await;
    let (code, report) = clouds.ask(&["run", "--to", "b", "--yes"]).await;
    assert_eq!((code, &report["outcome"]), (0, &"done".into()), "{report}");
    assert_eq!(report["proxies_silent"], serde_json::json!(["dead"]));
    assert_eq!(report["proxies_missing"], serde_json::json!([]));
    assert_eq!(report["proxies"].as_array().unwrap().len(), 2, "those that live were waited for");
    let register = report["steps"].as_array().unwrap().iter().find(|s| s["name"] == "register");
    let took = register.unwrap()["ms"].as_f64().unwrap();
    assert!(took < 4_000.0, "its key would have been there for a minute: {took} ms");
}
