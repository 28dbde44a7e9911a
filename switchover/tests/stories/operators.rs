//! What operators are told, kept from, and can look up later.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::fakes::{Clouds, HOLD_MS, seed};
use topology::Epoch;
use topology::operator::{Actor, Claim};
use topology::record::UnixMs;

/// A tool of another machine, of which nobody here can say whether it lives.
fn elsewhere() -> Claim {
    let by = Actor {
        user: "alice".to_owned(),
        host: "far".to_owned(),
        machine: "another boot".to_owned(),
        ..Actor::default()
    };
    Claim { id: "c1".to_owned(), operation: "switchover".to_owned(), by, since: UnixMs::now() }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_operation_at_a_time() {
    let clouds = Clouds::up(seed()).await;
    let lasts = Duration::from_millis(1500);
    clouds.service.claim(&elsewhere(), lasts, None).await.unwrap();
    clouds.until(|view| view.claim.is_some()).await;
    let (code, said) = clouds.ask(&["run", "--to", "b", "--yes"]).await;
    assert_eq!((code, &said["outcome"]), (3, &"refused".into()));
    assert!(said["message"].as_str().unwrap().contains("alice@far"), "{said}");
    let began = Instant::now();
    let (code, said) = clouds.ask(&["resume", "--claim", "2s"]).await;
    assert_eq!(code, 0, "a claim that nobody renews ends: {said}");
    println!("waited {:?}", began.elapsed());
    assert_eq!(clouds.ask(&["run", "--to", "b", "--yes"]).await.0, 0);
    clouds.until(|view| view.claim.is_none()).await;
}

/// Its commit could only fail, and it must not begin another freeze.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_tool_of_this_machine_keeps_nobody_waiting() {
    let clouds = Clouds::up(seed()).await;
    let mut command =
        clouds.command(&["run", "--to", "b", "--yes", "--timeout", "60s", "--claim", "5m"]);
    command.env("GODWIT_FAILPOINTS", "switchover-die-before-commit");
    assert!(!command.output().await.unwrap().status.success());
    assert!(clouds.service.read_claim().await.unwrap().is_some(), "it left its claim");
    let began = Instant::now();
    let (code, report) = clouds.ask(&["resume"]).await;
    assert_eq!((code, &report["outcome"]), (0, &"done".into()), "{report}");
    assert!(began.elapsed() < Duration::from_secs(60), "it did not wait for the claim");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_is_accepted_up_to_a_size() {
    let clouds = Clouds::up(seed()).await;
    clouds.kill("a", true).await;
    clouds.until(|view| view.sidecars.len() == 2 && view.nodes.len() == 2).await;
    let failover = |accept: &'static str| {
        let clouds = &clouds;
        async move { clouds.ask(&["failover", "--to", "b", "--yes", "--accept-loss", accept]).await }
    };
    let (code, report) = failover("1ms").await;
    assert_eq!(code, 3, "{report}");
    assert!(report["message"].as_str().unwrap().contains("at stake"), "{report}");
    assert_eq!(clouds.record().await.epoch, Epoch(1), "it was refused before any freeze");
    let (code, report) = failover("1000 writes").await;
    assert_eq!(code, 3, "{report}");
    assert!(report["message"].as_str().unwrap().contains("cannot be told"), "{report}");
    assert_eq!(report["losses"].as_array().unwrap().len(), 2, "{report}");
    assert_eq!(failover("a little").await.0, 2);
    let (code, report) = failover("1h").await;
    assert_eq!(code, 0, "{report}");
    let loss = &report["losses"][0];
    assert_eq!((&loss["source"], &loss["writes"]), (&"a/0".into(), &serde_json::Value::Null));
    assert!(loss["seconds"].as_f64().unwrap() > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_changes_nothing() {
    let clouds = Clouds::up(seed()).await;
    for verb in [
        &["run", "--to", "b", "--yes"][..],
        &["failover", "--to", "b", "--yes"],
        &["abort"],
        &["resume"],
        &["maintenance", "on"],
        &["init", "--cluster", "c=0-16383", "--active", "c"],
    ] {
        let (code, said) = clouds.ask(&[verb, &["--dry-run"]].concat()).await;
        assert_eq!(code, 0, "{verb:?}: {said}");
    }
    assert_eq!(clouds.ask(&["failback", "--dry-run"]).await.0, 3, "nothing was active before");
    assert_eq!(
        (clouds.record().await.epoch, clouds.record().await.active()),
        (Epoch(1), Some("a"))
    );
    assert!(clouds.service.journals().await.unwrap().is_empty());
    assert!(clouds.service.view().maintenance.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_differ_and_holds_that_are_too_short_are_refused() {
    let clouds = Clouds::up(seed()).await;
    let long = format!("{}ms", HOLD_MS + 1);
    let (code, plan) = clouds.ask(&["plan", "--to", "b", "--timeout", &long]).await;
    assert_eq!(code, 3);
    assert!(plan.to_string().contains("hold-time"), "{plan}");
    clouds.fault("b/1").drifted.store(true, Ordering::SeqCst);
    clouds.until(|view| !view.nodes[&"b/1".parse().unwrap()].settings.is_empty()).await;
    let (code, plan) = clouds.ask(&["plan", "--to", "b"]).await;
    assert_eq!(code, 3);
    let says = "`maxclients` is its default at a/1 and 77 at b/1";
    assert!(plan.to_string().contains(says), "{plan}");
    assert_eq!(clouds.ask(&["plan", "--to", "b", "--allow-drift"]).await.0, 0);
    let (code, plan) = clouds.ask(&["plan", "--to", "b", "--failover"]).await;
    assert_eq!(code, 0, "there may be nothing better to go to: {plan}");
    let (code, plan) =
        clouds.ask(&["plan", "--to", "b", "--allow-drift", "--max-snapshot-age", "1d"]).await;
    assert_eq!(code, 3);
    assert!(plan.to_string().contains("none is known here"), "{plan}");
}

/// A hook that says what it was told, and ends as told.
fn hook(dir: &Path, name: &str, code: i32) -> (PathBuf, PathBuf) {
    let (path, told) = (dir.join(name), dir.join(format!("{name}.told")));
    let script = format!(
        "#!/bin/sh\necho \"$GODWIT_HOOK $GODWIT_OPERATION $GODWIT_FROM $GODWIT_TO $GODWIT_OUTCOME $GODWIT_REASON\" >> {}\necho not now\nexit {code}\n",
        told.display()
    );
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    (path, told)
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_may_veto_and_hear_how_it_ended() {
    let clouds = Clouds::up(seed()).await;
    let (no, asked) = hook(clouds.dir.path(), "no", 7);
    let (after, told) = hook(clouds.dir.path(), "after", 0);
    let (no, after) = (no.display().to_string(), after.display().to_string());
    let run = ["run", "--to", "b", "--yes", "--reason", "test", "--hook-after", &after];
    let (code, report) = clouds.ask(&[&run[..], &["--hook-before", &no]].concat()).await;
    assert_eq!((code, &report["outcome"]), (3, &"refused".into()), "{report}");
    assert!(report["message"].as_str().unwrap().contains("not now"), "{report}");
    assert_eq!(std::fs::read_to_string(asked).unwrap(), "before switchover a b  test\n");
    assert_eq!(clouds.record().await.epoch, Epoch(1));
    assert!(!told.exists(), "nothing was done");
    assert_eq!(clouds.ask(&run).await.0, 0);
    assert_eq!(std::fs::read_to_string(told).unwrap(), "after switchover a b done test\n");
    let slow = clouds.dir.path().join("slow");
    std::fs::write(&slow, "#!/bin/sh\nexec sleep 600\n").unwrap();
    std::fs::set_permissions(&slow, std::fs::Permissions::from_mode(0o755)).unwrap();
    clouds.settled().await;
    let slow = slow.display().to_string();
    let slowly = ["run", "--to", "a", "--yes", "--hook-timeout", "200ms", "--hook-before", &slow];
    let (code, report) = clouds.ask(&slowly).await;
    assert_eq!(code, 3);
    assert!(report["message"].as_str().unwrap().contains("hook-timeout"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_can_be_looked_up() {
    let clouds = Clouds::up(seed()).await;
    let run = ["run", "--to", "b", "--yes", "--reason", "<b>kernel</b> update"];
    assert_eq!(clouds.ask(&run).await.0, 0);
    clouds.settled().await;
    assert_eq!(clouds.ask(&["run", "--to", "a", "--yes"]).await.0, 0);
    let (code, history) = clouds.ask(&["history"]).await;
    let entries = history["entries"].as_array().unwrap();
    assert_eq!((code, entries.len()), (0, 2), "{history}");
    let first = &entries[0];
    assert_eq!((&first["to"], &first["state"]), (&"b".into(), &"done".into()));
    assert_eq!(first["reason"], "<b>kernel</b> update");
    assert_eq!(first["by"]["pid"].as_u64().map(|pid| pid > 0), Some(true));

    let id = first["id"].as_str().unwrap();
    let page = clouds.dir.path().join("page.html");
    let page = page.display().to_string();
    assert_eq!(clouds.ask(&["report", &id[..12], "--html", &page]).await.0, 0);
    let html = std::fs::read_to_string(&page).unwrap();
    assert!(html.contains("&lt;b&gt;kernel&lt;/b&gt; update"), "{html}");
    for part in ["b/1", "promoted", "a/0", "<svg", "proxy-a"] {
        assert!(html.contains(part), "{part}");
    }
    let (code, report) = clouds.ask(&["report"]).await;
    assert_eq!((code, &report["journal"]["report"]["to"]), (0, &"a".into()), "{report}");
    assert_eq!(clouds.ask(&["report", "nothing"]).await.0, 2);
    // Another machine has no files of it, and reads the registry.
    let other = clouds.dir.path().join("other").display().to_string();
    let (_, there) = clouds.ask(&["history", "--journal", &other]).await;
    assert_eq!(there["entries"], history["entries"]);

    clouds.settled().await;
    let (_, plan) = clouds.ask(&["plan", "--to", "b"]).await;
    assert!(plan["expected_pause_ms"].as_f64().unwrap() > 0.0, "{plan}");
    assert_eq!(plan["steps"].as_array().unwrap().len(), 6);
    let (code, plan) = clouds.ask(&["plan", "--to", "b", "--min-interval", "1h"]).await;
    assert_eq!(code, 3, "{plan}");
    assert!(plan.to_string().contains("min-interval"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_doctor_names_what_is_in_the_way_and_a_bundle_has_it_all() {
    let clouds = Clouds::up(seed()).await;
    let (code, found) = clouds.ask(&["doctor"]).await;
    assert_eq!(
        (code, &found["good"]),
        (0, &true.into()),
        "no node answers, and a switch needs none: {found}"
    );
    assert!(found.to_string().contains("rehearse"), "{found}");
    assert_eq!(clouds.ask(&["maintenance", "on", "--reason", "cables"]).await.0, 0);
    clouds.until(|view| view.maintenance.is_some()).await;
    clouds.fault("b/0").sidecar_dead.store(true, Ordering::SeqCst);
    clouds.until(|view| view.sidecars.len() == 3).await;
    let (code, found) = clouds.ask(&["doctor"]).await;
    assert_eq!((code, &found["good"]), (1, &false.into()));
    for part in ["the sidecar of b/0 is not there", "maintenance"] {
        assert!(found.to_string().contains(part), "{found}");
    }
    let tar = clouds.dir.path().join("bundle.tar");
    let bundle = ["support-bundle", "--out", tar.to_str().unwrap()];
    assert_eq!(clouds.ask(&bundle).await.0, 0);
    assert_eq!(clouds.ask(&bundle).await.0, 3, "it overwrites nothing");
    assert_eq!(std::fs::metadata(&tar).unwrap().permissions().mode() & 0o777, 0o600);
    let listed = std::process::Command::new("tar").arg("-tf").arg(&tar).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    for part in ["status.json", "config.json", "doctor.json"] {
        assert!(listed.contains(part), "{listed}");
    }
    let (code, quiet) = clouds.ask(&["maintenance", "off"]).await;
    assert_eq!((code, &quiet["on"]), (0, &false.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_is_a_line_each_time_where_nobody_looks() {
    let clouds = Clouds::up(seed()).await;
    let watch = ["status", "--output", "text", "--watch", "--every", "20ms", "--count", "3"];
    let output = clouds.command(&watch).output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    println!("{text}");
    assert_eq!(text.lines().count(), 3);
    for part in ["active=a", "epoch=1", "state=steady", "nodes=4/4", "streams=2/2", "proxies=2/2"] {
        assert!(text.lines().all(|line| line.contains(part)), "{part}");
    }
}
