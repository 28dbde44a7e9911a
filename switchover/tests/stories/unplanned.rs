//! Failovers: what is missing is said before anything is decided.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::fakes::{Clouds, POSITION, STUCK_AT, seed};
use topology::record::{Cause, Freeze, Phase, UnixMs};
use topology::{Epoch, FreezeId, Outcome, Record};

#[tokio::test(flavor = "multi_thread")]
async fn dead_nodes_whose_sidecars_live_lose_nothing() {
    let clouds = Clouds::up(seed()).await;
    clouds.kill("a", false).await;
    let (code, report) = clouds.ask(&["failover", "--to", "b", "--yes"]).await;
    assert_eq!(code, 0, "{report}");
    assert_eq!(report["lost"]["known"], 0);
    assert!(report["failover_ms"].as_f64().unwrap() > 0.0);
    assert!(report["lease_wait_ms"].is_null(), "the log's end was proven: no lease to wait for");
    let record = clouds.record().await;
    assert_eq!((record.active(), record.epoch), (Some("b"), Epoch(2)));
    assert!(record.forks.iter().all(|f| f.end == Some(f.at)));
    // The old side returns and follows; then back to it.
    for shard in ["a/0", "a/1"] {
        clouds.fault(shard).node_dead.store(false, Ordering::SeqCst);
    }
    let (code, report) = clouds.ask(&["failback", "--yes"]).await;
    assert_eq!((code, &report["to"]), (0, &"a".into()), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_gone_costs_a_lease_and_consent() {
    let clouds = Clouds::up(seed()).await;
    clouds.kill("a", true).await;
    let (code, report) = clouds.ask(&["failover", "--to", "b", "--yes"]).await;
    assert_eq!((code, &report["outcome"]), (3, &"refused".into()));
    assert!(report["lost"]["bound_seconds"].as_f64().unwrap() > 0.0, "{report}");
    assert!(report["message"].as_str().unwrap().contains("--accept-loss"));
    let record = clouds.record().await;
    assert_eq!((record.active(), record.freeze()), (Some("a"), None), "nothing was decided");

    let (code, report) = clouds.ask(&["failover", "--to", "b", "--yes", "--accept-loss"]).await;
    assert_eq!(code, 0, "{report}");
    assert!(report["lease_wait_ms"].as_f64().unwrap() >= 600.0, "{report}");
    let record = clouds.record().await;
    assert_eq!(record.active(), Some("b"));
    assert!(record.forks.iter().all(|f| f.end.is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_to_be_missing_is_counted() {
    let clouds = Clouds::up(seed()).await;
    clouds.fault("b/1").stuck.store(true, Ordering::SeqCst);
    clouds.kill("a", false).await;
    let failover = ["failover", "--to", "b", "--yes", "--drain-wait", "600ms"];
    let (code, report) = clouds.ask(&failover).await;
    let missing = POSITION + 1 - STUCK_AT;
    assert_eq!((code, &report["lost"]["known"]), (3, &missing.into()));
    assert_eq!(clouds.record().await.active(), Some("a"));
    let (code, report) = clouds.ask(&[&failover[..], &["--accept-loss"]].concat()).await;
    assert_eq!((code, &report["lost"]["known"]), (0, &missing.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_resumes_waits_out_a_lease_on_its_own_clock() {
    let clouds = Clouds::up(seed()).await;
    clouds.kill("a", true).await;
    // Another machine's clock says that the freeze began a minute ago; it has only just begun.
    let (record, revision) = clouds.service.read_record().await.unwrap().unwrap();
    let now = UnixMs::now();
    let freeze = Freeze {
        id: FreezeId(7),
        cause: Cause::Failover,
        shards: record.primaries.clone(),
        to: "b".to_owned(),
        deadline: now.after(Duration::from_secs(60)),
        since: UnixMs(now.0 - 60_000),
        rest: Default::default(),
    };
    let frozen = Record { phase: Phase::Frozen(freeze), ..record };
    let swapped = clouds.service.swap_record(revision, &frozen).await.unwrap();
    assert!(matches!(swapped, Outcome::Committed(_)));
    let began = Instant::now();
    let (code, report) = clouds.ask(&["resume", "--accept-loss"]).await;
    assert_eq!((code, clouds.record().await.active()), (0, Some("b")), "{report}");
    assert!(began.elapsed() >= Duration::from_millis(600), "a lease of `a` may have lasted");
}
