//! Frames take effect once, in order, or not at all.

use admin::Code;
use wal::frame::FrameHeader;

use crate::cloud::shard;
use crate::ship::{compare, frames, pair, ship};

#[tokio::test(flavor = "multi_thread")]
async fn replayed_overlapping_and_gapped_frames() {
    let (_cloud, a, b) = pair("").await;
    let source = shard("a");
    let history = a.status().await.history;
    let before = b.status().await.applied[&source].clone();
    a.run("INCR counter").unwrap();
    let first = frames(&a.dir, &history, before.position, before.stream_chain);
    let at = b.admin.apply(&source, first.last().unwrap()).await.unwrap();
    // The same again is dropped.
    assert_eq!(b.admin.apply(&source, first.last().unwrap()).await.unwrap(), at);

    // A frame from before, with more: only what is new takes effect.
    a.run("INCR counter").unwrap();
    let longer = frames(&a.dir, &history, before.position, before.stream_chain);
    let later = b.admin.apply(&source, longer.last().unwrap()).await.unwrap();
    assert!(later > at);
    assert_eq!(b.get("counter").as_deref(), Some("2"));

    // A hole is refused.
    let stands = b.status().await.applied[&source].clone();
    a.run("INCR counter").unwrap();
    a.run("INCR counter").unwrap();
    let now = a.status().await.position;
    a.run("INCR counter").unwrap();
    let gapped = frames(&a.dir, &history, now, stands.stream_chain);
    let refused = b.admin.apply(&source, gapped.last().unwrap()).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::Gap));

    // Another stream's chain is refused.
    let strange = frames(&a.dir, &history, stands.position, wal::Chain(99));
    let refused = b.admin.apply(&source, strange.last().unwrap()).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::Chain));

    // Any damage is refused, and nothing of it is applied.
    let good = frames(&a.dir, &history, stands.position, stands.stream_chain).pop().unwrap();
    for at in [0, FrameHeader::LEN / 2, FrameHeader::LEN + 9, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        let refused = b.admin.apply(&source, &bad).await.unwrap_err();
        assert_eq!(refused.code(), Some(Code::Damaged), "byte {at}");
    }
    let refused = b.admin.apply(&source, &good[..good.len() - 1]).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::Damaged));
    assert_eq!(b.status().await.applied[&source], stands);

    // A source that nobody follows, and a node that is no standby.
    let refused = b.admin.apply(&shard("c"), &good).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::Role));
    let refused = a.admin.apply(&shard("b"), &good).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::Role));

    ship(&a, &b).await;
    assert_eq!(b.get("counter").as_deref(), Some("5"));
    let (left, right) = compare(&a, &b).await;
    assert_eq!(left, right);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_applied_survives_a_kill_and_nothing_is_applied_twice() {
    let (cloud, a, b) = pair("").await;
    for _ in 0..50 {
        a.run("INCR counter").unwrap();
    }
    ship(&a, &b).await;
    let before = b.status().await.applied;
    b.kill();
    let b = cloud.start("b").await;
    assert_eq!(b.status().await.applied, before);
    b.wait("it knows its slots", |status| !status.slots.is_empty()).await;
    for _ in 0..50 {
        a.run("INCR counter").unwrap();
    }
    ship(&a, &b).await;
    assert_eq!(b.get("counter").as_deref(), Some("100"));
    let synced = b.admin.sync().await.unwrap();
    assert_eq!(synced[&shard("a")], b.status().await.applied[&shard("a")].position.sequence);
}
