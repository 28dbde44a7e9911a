//! What is refused, and in which words.

use std::sync::atomic::Ordering;

use super::fakes::{Clouds, seed};
use topology::Epoch;

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
