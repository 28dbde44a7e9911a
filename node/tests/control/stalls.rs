//! A standby whose writes RocksDB holds up: it says how it is, and applies when it can.

use std::time::Duration;

use topology::members::Role;

use crate::cloud::eventually;
use crate::ship::{compare, frames, pair};

/// What a sidecar gives its node to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_cannot_apply_says_how_it_is() {
    // Nothing is let through.
    let (cloud, a, b) = pair("write-stalled").await;
    for n in 0..10 {
        a.run(&format!("SET key:{n} value")).unwrap();
    }
    let before = b.status().await.applied[&a.shard].clone();
    let history = a.status().await.history;
    let frame = frames(&a.dir, &history, before.position, before.stream_chain).remove(0);
    let applying = b.admin.start_apply(&a.shard, &frame).await.unwrap();
    let applying = tokio::spawn(applying.done());
    // On a connection of its own, as a sidecar asks: that of frames is busy.
    let address = format!("unix:{}/admin.sock", b.dir.display());
    for _ in 0..20 {
        let asked = async { admin::Client::connect(&address).await?.status().await };
        let status = tokio::time::timeout(ANSWER_WITHIN, asked).await.expect("no answer in time");
        let status = status.unwrap();
        assert_eq!(status.role, Role::Standby);
        assert_eq!(status.applied[&a.shard], before);
    }
    // It obeys what the record says meanwhile, and what is there is read.
    let epoch =
        cloud.change(|record| topology::Record { epoch: record.epoch.next(), ..record.clone() });
    let epoch = epoch.await.epoch;
    eventually("it has heard of the epoch", || async {
        let asked = async { admin::Client::connect(&address).await?.status().await };
        let status = tokio::time::timeout(ANSWER_WITHIN, asked).await.expect("no answer in time");
        (status.unwrap().epoch == epoch).then_some(())
    })
    .await;
    assert_eq!(b.get("before").as_deref(), Some("seed"));
    assert!(!applying.is_finished(), "it was let through");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_up_now_and_then_is_applied_once_and_in_order() {
    let (_cloud, a, b) = pair("write-stalled:every=2").await;
    let value = "x".repeat(100_000);
    for n in 0..60 {
        a.run(&format!("RPUSH list {n}")).unwrap();
        // More than one commit of a frame.
        a.run(&format!("SET large:{n} {value}")).unwrap();
    }
    for _ in 0..3 {
        a.run("INCR counter").unwrap();
        let (left, right) = compare(&a, &b).await;
        assert_eq!(left, right);
    }
    assert_eq!(b.get("counter").as_deref(), Some("3"));
}
