//! Space comes back on both sides, and nothing that anybody can still need.

use topology::members::{Role, SidecarMember, StreamStatus};
use topology::record::UnixMs;
use wal::{Continuation, Position};

use crate::cloud::{Cloud, Node, eventually, shard};
use crate::ship::{compare, pair, ship};
use crate::switch::follow;

const FIELDS: u64 = 300;

/// What the sidecar of cluster a says of its streams: of b this, and c is lost.
async fn say(cloud: &Cloud, state: &str, staged: Option<Position>) {
    let stream = |state: &str, staged| StreamStatus {
        state: state.to_owned(),
        reason: None,
        staged,
        applied: None,
        lag_ms: None,
        behind_bytes: 0,
        sent_bytes: 0,
        seed_bytes: 0,
        peer: Default::default(),
    };
    let streams =
        [("b/0".to_owned(), stream(state, staged)), ("c/0".to_owned(), stream("lost", None))];
    let sidecar = SidecarMember {
        shard: shard("a"),
        stream: "127.0.0.1:1".to_owned(),
        metrics: None,
        pid: 1,
        version: "0".to_owned(),
        tail: None,
        drained: None,
        streams: streams.into(),
        receiving: Default::default(),
        last_seen: Default::default(),
        drill: None,
        needs: None,
        sees: Default::default(),
        at: UnixMs::now(),
    };
    let lasts = std::time::Duration::from_secs(60);
    cloud.service.put_sidecar(&sidecar, lasts).await.unwrap();
}

fn fill(node: &Node, key: &str) {
    let fields: Vec<_> = (0..FIELDS).map(|i| format!("field:{i} value:{i}")).collect();
    node.run(&format!("HSET {key} {}", fields.join(" "))).unwrap();
}

async fn held(node: &Node, words: &str) {
    node.wait(words, |status| status.reclaim.held.as_ref().is_some_and(|why| why.contains(words)))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn space_comes_back_on_both_sides_once_the_follower_has_staged_the_view() {
    let (cloud, a, b) = pair("").await;
    fill(&a, "gone");
    fill(&a, "kept");
    a.run("DEL gone").unwrap();
    a.admin.compact().await.unwrap();
    held(&a, "sidecar does not say what b/0").await;
    let before = a.status().await.position;
    let first = b.status().await.applied[&shard("a")].position;
    say(&cloud, "streaming", Some(first)).await;
    held(&a, "b/0 has not staged it").await;
    a.admin.compact().await.unwrap();
    assert_eq!(a.status().await.reclaim.dropped_records, 0, "it was not released");

    ship(&a, &b).await;
    let staged = b.status().await.applied[&shard("a")].position;
    assert!(staged.sequence >= before.sequence);
    say(&cloud, "streaming", Some(staged)).await;
    a.wait("a view is used", |status| status.reclaim.reclaimed.own.is_some()).await;
    a.admin.compact().await.unwrap();
    assert_eq!(a.status().await.reclaim.dropped_records, FIELDS);
    // The follower hears of it in the log.
    assert_eq!(b.status().await.reclaim.view_age_ms, None);
    ship(&a, &b).await;
    let used = b.wait("it uses its own", |s| !s.reclaim.reclaimed.sources.is_empty()).await;
    let own = a.status().await.reclaim.reclaimed.own.unwrap();
    assert_eq!(used.reclaim.reclaimed.sources[&shard("a")], own);
    b.admin.compact().await.unwrap();
    assert_eq!(b.status().await.reclaim.dropped_records, FIELDS);
    let (left, right) = compare(&a, &b).await;
    assert_eq!(left, right);
    assert_eq!(left.total.keys, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reclaimed_past_the_fork_does_not_rewind() {
    let (cloud, a, b) = pair("").await;
    ship(&a, &b).await;
    let fork = b.status().await.applied[&shard("a")].position;
    fill(&a, "stranded");
    a.run("DEL stranded").unwrap();
    // Nobody waits for a follower that is lost; should it take over all the same, this side has
    // dropped what was live at the fork.
    say(&cloud, "lost", None).await;
    a.admin.compact().await.unwrap();
    let reclaimed = a.status().await.reclaim.reclaimed.own.unwrap();
    assert!(reclaimed.sequence > fork.sequence);
    a.kill();
    cloud.commit("b").await;
    b.writable().await;
    let a = cloud.start("a").await;
    a.is(Role::Standby).await;
    assert_eq!(a.status().await.reclaim.reclaimed.own, Some(reclaimed), "it survives a crash");
    let refused = a.admin.rewind_begin(&shard("b"), fork).await.unwrap_err();
    assert!(refused.to_string().contains("must be seeded"), "{refused}");
    assert_eq!(a.status().await.role, Role::Standby);
    a.admin.rewind_begin(&shard("b"), reclaimed).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_persisted_on_the_other_side_of_a_fork_outlives_its_expiry() {
    let (cloud, a, b) = pair("").await;
    fill(&a, "mortal");
    let expires = UnixMs::now().0 + 3_000;
    a.run(&format!("PEXPIREAT mortal {expires}")).unwrap();
    ship(&a, &b).await;
    let epoch = cloud.commit("b").await;
    let promoted = b.writable().await;
    assert_eq!(b.run("PERSIST mortal").unwrap(), redis::Value::Int(1), "in time");
    let old = a.is(Role::Standby).await;
    // By its own clock it has expired on the old side, where nobody has said otherwise yet.
    eventually("the expiry passes", || async { (UnixMs::now().0 > expires).then_some(()) }).await;
    a.admin.compact().await.unwrap();
    let (at, until) = (old.own_end.unwrap(), old.local_until.unwrap());
    let next = promoted.history.continue_from(at, until, promoted.position.sequence);
    let Continuation::From(resume) = next else { panic!("{next:?}") };
    follow(&a, &shard("b"), resume, epoch).await;
    ship(&b, &a).await;
    let (left, right) = compare(&b, &a).await;
    assert_eq!(left, right);
    assert_eq!(left.total.keys, 2);
}
