//! What is refused, and in which words.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::fakes::{Clouds, seed};
use topology::Epoch;
use topology::members::ProxyMember;
use topology::record::UnixMs;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_done_without_yes_or_to_a_wrong_place() {
    let clouds = Clouds::up(seed()).await;
    let (code, report) = clouds.ask(&["run", "--to", "b"]).await;
    assert_eq!((code, &report["outcome"]), (3, &"refused".into()));
    assert!(report["message"].as_str().unwrap().contains("--yes"));
    assert_eq!(clouds.ask(&["failover", "--to", "b"]).await.0, 3);
    assert_eq!(clouds.ask(&["run", "--to", "a", "--yes"]).await.0, 3);
    assert_eq!(clouds.ask(&["run", "--to", "c", "--yes"]).await.0, 2);
    assert_eq!(clouds.ask(&["failback", "--yes"]).await.0, 3, "nothing was active before");
    assert_eq!(clouds.record().await.epoch, Epoch(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_is_seeding_is_not_promoted() {
    let clouds = Clouds::up(seed()).await;
    clouds.fault("b/1").seeding.store(true, Ordering::SeqCst);
    clouds
        .until(|view| view.nodes[&"b/1".parse().unwrap()].role == topology::members::Role::Seeding)
        .await;
    for verb in [
        &["plan", "--to", "b"][..],
        &["run", "--to", "b", "--yes"],
        &["failover", "--to", "b", "--yes"],
    ] {
        let (code, said) = clouds.ask(verb).await;
        assert_eq!(code, 3, "{said}");
        assert!(said.to_string().contains("b/1 is Seeding"), "{said}");
    }
}

/// A registry that stood still shows old keys: the next one is waited for before a clock is blamed.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_key_is_no_wrong_clock() {
    let clouds = Clouds::up(seed()).await;
    let proxy = clouds.service.view().proxies.values().next().unwrap().clone();
    let at = |ago_ms: u64| ProxyMember {
        id: "late".to_owned(),
        at: UnixMs(UnixMs::now().0 - ago_ms),
        ..proxy.clone()
    };
    let ttl = Duration::from_secs(60);
    clouds.service.put_proxy(&at(20_000), ttl).await.unwrap();
    clouds.until(|view| view.proxies.contains_key("late")).await;
    let (code, plan) = clouds.ask(&["plan", "--to", "b"]).await;
    assert_eq!(code, 3, "{plan}");
    assert!(plan.to_string().contains("the clock of proxy late is behind"), "{plan}");
    let (asked, ()) = tokio::join!(clouds.ask(&["plan", "--to", "b"]), async {
        // The tool is waiting for it by then, or it has not looked yet.
        tokio::time::sleep(Duration::from_millis(700)).await;
        clouds.service.put_proxy(&at(0), ttl).await.unwrap();
    });
    assert!(!asked.1.to_string().contains("the clock of proxy late"), "{}", asked.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_is_half_a_minute_behind_is_no_place_to_switch_to_and_the_number_says_so() {
    let clouds = Clouds::up(seed()).await;
    clouds.fault("a/1").lag_ms.store(30_000, Ordering::SeqCst);
    let a1 = "a/1".parse().unwrap();
    clouds.until(|view| view.sidecars[&a1].streams["b/1"].lag_ms == Some(30_000)).await;
    let (code, report) = clouds.ask(&["run", "--to", "b", "--yes"]).await;
    assert_eq!((code, &report["outcome"]), (3, &"refused".into()), "{report}");
    let message = report["message"].as_str().unwrap();
    assert!(message.contains("b/1 is 30000 ms and 30000000 bytes behind a/1"), "{message}");
    assert_eq!(clouds.record().await.epoch, Epoch(1), "nothing was frozen");
    // Who may be further behind says so; once it has caught up nobody has to.
    let (code, said) = clouds.ask(&["plan", "--to", "b", "--max-lag", "31s"]).await;
    assert_eq!(code, 0, "{said}");
    clouds.fault("a/1").lag_ms.store(0, Ordering::SeqCst);
    clouds.until(|view| view.sidecars[&a1].streams["b/1"].lag_ms == Some(0)).await;
    let (code, report) = clouds.ask(&["run", "--to", "b", "--yes"]).await;
    assert_eq!(code, 0, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_primary_is_a_case_for_failover() {
    let clouds = Clouds::up(seed()).await;
    clouds.kill("a", true).await;
    clouds.until(|view| view.nodes.len() == 2).await;
    let (code, report) = clouds.ask(&["run", "--to", "b", "--yes"]).await;
    assert_eq!(code, 3);
    assert!(report["message"].as_str().unwrap().contains("use `failover`"), "{report}");
    clouds.until(|view| view.sidecars.len() == 2).await;
    let output = clouds.tool(&["failover", "--to", "b"]).await;
    let says = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3));
    assert!(says.contains("a/0: gone; what it acknowledged after"), "{says}");
}

#[tokio::test(flavor = "multi_thread")]
async fn init_is_idempotent_and_never_overwrites() {
    let clouds = Clouds::up(seed()).await;
    let same = [
        "init",
        "--cluster",
        "a=0-8191,8192-16383",
        "--cluster",
        "b=0-8191,8192-16383",
        "--active",
        "a",
    ];
    let (code, said) = clouds.ask(&[&same[..], &["--lease", "600ms"]].concat()).await;
    assert_eq!(code, 0, "{said}");
    assert_eq!(clouds.ask(&same).await.0, 3, "another lease is another record");
    assert_eq!(clouds.ask(&["init", "--cluster", "a=0-8191", "--active", "a"]).await.0, 2);
    assert_eq!(clouds.ask(&["init", "--cluster", "a=0-16383", "--active", "z"]).await.0, 2);
    assert_eq!(clouds.record().await.epoch, Epoch(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_can_read_it() {
    let clouds = Clouds::up(seed()).await;
    let output = clouds.command(&["status", "--output", "text"]).output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    println!("{text}");
    for part in ["service demo", "a/0", "PRIMARY", "standby", "a/0 -> b/0", "streaming", "proxy-a"]
    {
        assert!(text.contains(part), "{part}");
    }
}

#[tokio::test]
async fn the_sample_config_is_good_and_a_misspelt_key_is_not() {
    let tool = || tokio::process::Command::new(env!("CARGO_BIN_EXE_godwit-switchover"));
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/godwit-switchover.toml");
    let good = tool().args(["--config", sample, "--check-config"]).output().await.unwrap();
    assert_eq!((good.status.code(), &good.stdout[..]), (Some(0), &b"config is good\n"[..]));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.toml");
    std::fs::write(&path, "registri = 'file:/r'").unwrap();
    let bad = tool().arg("--config").arg(&path).arg("status").output().await.unwrap();
    assert_eq!(bad.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&bad.stderr).contains("did you mean `registry`?"), "{bad:?}");
    let etcd = ["--registry", "etcd:http://x", "--service", "s", "status"];
    assert_eq!(tool().args(etcd).output().await.unwrap().status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resize_is_refused_before_hours_of_seeding() {
    let clouds = Clouds::up(seed()).await;
    let resize = |args: &'static [&'static str]| [&["resize", "--yes"], args].concat();
    let (code, _) = clouds.ask(&resize(&["--to", "n", "--slots", "0-99,200-16383"])).await;
    assert_eq!(code, 2, "slots that nobody holds");
    let (code, _) = clouds.ask(&resize(&["--to", "n"])).await;
    assert_eq!(code, 2, "neither a number nor slots");
    for (args, because) in [
        (&["--to", "n", "--shards", "4"][..], "n/3: neither its node nor its sidecar is there"),
        (&["--to", "b", "--shards", "4"], "in the service already, with other shards"),
        (&["--to", "a", "--shards", "2"], "is active already"),
        (
            &["--to", "b", "--shards", "2", "--min-disk-free", "2TiB"],
            "to stay free (min-disk-free)",
        ),
    ] {
        let (code, said) = clouds.ask(&resize(args)).await;
        assert_eq!((code, &said["outcome"]), (3, &"refused".into()), "{args:?}: {said}");
        assert!(said["message"].as_str().unwrap().contains(because), "{args:?}: {said}");
    }
    let (code, plan) = clouds.ask(&["resize", "--to", "b", "--shards", "2", "--dry-run"]).await;
    assert_eq!((code, &plan["same_shape"]), (0, &true.into()), "{plan}");
    let (code, said) = clouds.ask(&["resize", "--to", "b", "--shards", "2"]).await;
    assert!(code == 3 && said["message"].as_str().unwrap().contains("--yes"), "{said}");
    assert_eq!(clouds.record().await.epoch, Epoch(1), "nothing was changed");
    let (_, history) = clouds.ask(&["history"]).await;
    assert_eq!(history["entries"].as_array().unwrap().len(), 0, "{history}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_not_retired_while_it_is_needed() {
    let clouds = Clouds::up(seed()).await;
    let (code, said) = clouds.ask(&["retire", "a", "--yes"]).await;
    assert_eq!(code, 3, "it is active: {said}");
    assert_eq!(clouds.ask(&["retire", "b"]).await.0, 3, "without --yes");
    let (code, said) = clouds.ask(&["retire", "b", "--dry-run"]).await;
    assert!(code == 0 && said["retired"].is_object(), "{said}");
    assert_eq!(clouds.record().await.clusters.len(), 2);
    // One that does not get level is given up.
    clouds.fault("b/1").seeding.store(true, Ordering::SeqCst);
    clouds
        .until(|view| view.nodes[&"b/1".parse().unwrap()].role == topology::members::Role::Seeding)
        .await;
    let (code, said) = clouds.ask(&["retire", "b", "--yes", "--settle-timeout", "600ms"]).await;
    assert_eq!(code, 0, "{said}");
    assert!(said["retired"]["given_up"].as_str().unwrap().contains("b/1 is Seeding"), "{said}");
    assert_eq!(clouds.record().await.clusters.len(), 1);
    assert_eq!(clouds.ask(&["retire", "b", "--yes"]).await.0, 0, "and again");
}

/// A resize that has taken over, and after which somebody has switched elsewhere, is not done again.
#[tokio::test(flavor = "multi_thread")]
async fn a_resize_that_others_went_on_from_is_over() {
    let clouds = Clouds::up(seed()).await;
    let mut command = clouds.command(&["resize", "--to", "b", "--shards", "2", "--yes"]);
    command.env("GODWIT_FAILPOINTS", "resize-die-after-switch");
    assert!(!command.output().await.unwrap().status.success());
    assert_eq!(clouds.record().await.active(), Some("b"));
    clouds.settled().await;
    assert_eq!(clouds.ask(&["run", "--to", "a", "--yes"]).await.0, 0);
    clouds.settled().await;
    let (code, said) = clouds.ask(&["resume"]).await;
    assert_eq!((code, &said["operation"]), (3, &"resize".into()), "{said}");
    assert!(said["message"].as_str().unwrap().contains("nothing left to do"), "{said}");
    assert_eq!(
        (clouds.record().await.active(), clouds.record().await.epoch),
        (Some("a"), Epoch(3))
    );
    let (code, said) = clouds.ask(&["resume"]).await;
    assert!(code == 0 && said["message"].as_str().unwrap().contains("nothing to resume"), "{said}");
}
