//! What a node has promised: kept across kills and swaps, refused once a freeze was seen, told in its key.

use std::time::{Duration, Instant};

use topology::record::Fork;
use topology::{Epoch, Record};

use crate::cloud::{Cloud, Node, shard};
use crate::ship::{pair, ship};

const LEASE_MS: u64 = 1_500;
const LEASE: Duration = Duration::from_millis(LEASE_MS);

/// Fails over to b without a proof of where a's log ends.
async fn fail_over(cloud: &Cloud) -> Epoch {
    let record = cloud.service.read_record().await.unwrap().unwrap().0;
    let fork = cloud.fork(&record, &shard("a"), "b").await.unwrap();
    let forks = vec![Fork { end: None, ..fork }];
    cloud.change(|record| record.committed("b", forks.clone())).await.epoch
}

async fn promise(node: &Node, epoch: u64) -> Result<(), String> {
    let given = node.admin.promise_give(&shard("a"), Epoch(epoch), LEASE_MS).await;
    given.map_err(|why| why.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_is_killed_keeps_its_promise_for_its_full_time_afresh() {
    let (cloud, a, b) = pair("").await;
    a.run("SET key one").unwrap();
    ship(&a, &b).await;
    // What it may have promised before it had a directory is over.
    b.wait("its first lease to pass", |status| status.promises.given.is_empty()).await;
    tokio::time::sleep(LEASE).await;
    promise(&b, 1).await.unwrap();
    let status = b.status().await;
    assert!(status.promises.given[&shard("a")] <= LEASE_MS, "{:?}", status.promises);
    tokio::time::sleep(LEASE * 2 / 3).await;
    drop(b.kill());
    let began = Instant::now();
    let b = cloud.start("b").await;
    fail_over(&cloud).await;
    b.writable().await;
    let took = began.elapsed();
    assert!(took >= LEASE, "it was promoted {took:?} after its start: it had promised {LEASE:?}");
    b.run("SET key two").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promise_is_over_at_once_where_the_end_of_the_log_is_proven() {
    let (cloud, a, b) = pair("").await;
    a.run("SET key one").unwrap();
    ship(&a, &b).await;
    promise(&b, 1).await.unwrap();
    cloud.freeze("a", "b", Duration::from_secs(60)).await;
    a.wait("ended", |status| status.ended.is_some()).await;
    ship(&a, &b).await;
    promise(&b, 1).await.unwrap_err();
    let (committed, left) = (Instant::now(), b.status().await.promises.given[&shard("a")]);
    cloud.commit("b").await;
    b.writable().await;
    let took = committed.elapsed();
    assert!(took < Duration::from_millis(left), "{took:?}, and {left} ms were left");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_seen_a_freeze_promises_nothing_and_says_so_also_after_a_kill() {
    let (cloud, a, b) = pair("").await;
    promise(&b, 1).await.unwrap();
    cloud.freeze("a", "b", Duration::from_secs(60)).await;
    let refuses = |node: &topology::members::NodeMember| {
        let promises = node.promises.as_ref()?;
        let given = promises.given.get(&shard("a"))?;
        Some((*promises.none_below.get(&shard("a"))?, given.left_ms))
    };
    let told = crate::cloud::eventually("b's key to say that it promises no more", || async {
        cloud.service.view().nodes.get(&shard("b")).and_then(refuses)
    });
    let (below, left) = told.await;
    assert_eq!(below, Epoch(2));
    assert!(left <= LEASE_MS, "{left}");
    assert!(promise(&b, 1).await.unwrap_err().contains("is frozen at epoch 1"));
    // Killed, and started where the registry is silent: it knows.
    drop(b.kill());
    let (there, away) = (cloud.dir.path().join("registry"), cloud.dir.path().join("away"));
    let file = std::fs::read(cloud.dir.path().join("b/PROMISES")).unwrap();
    assert!(String::from_utf8_lossy(&file).contains("\"none-below\":{\"a/0\":2}"));
    let b = cloud.start("b").await;
    std::fs::rename(&there, &away).unwrap();
    assert!(promise(&b, 1).await.unwrap_err().contains("is frozen at epoch 1"));
    std::fs::rename(&away, &there).unwrap();
    cloud.change(Record::cancelled).await;
    a.writable().await;
    b.wait("epoch 2", |status| status.promises.none_below.is_empty()).await;
    assert!(promise(&b, 1).await.unwrap_err().contains("has seen epoch 2"));
    promise(&b, 2).await.unwrap();
    assert!(promise(&a, 9).await.unwrap_err().contains("is a primary itself"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_counts_from_its_question_and_takes_all_or_none() {
    let cloud = Cloud::new().await;
    let a = cloud.start("a").await;
    a.writable().await;
    assert_eq!(a.admin.promise_wanted().await.unwrap(), None, "the registry renews its lease");
    let (there, away) = (cloud.dir.path().join("registry"), cloud.dir.path().join("away"));
    std::fs::rename(&there, &away).unwrap();
    let wish =
        crate::cloud::eventually("a wish", || async { a.admin.promise_wanted().await.unwrap() });
    let wish = wish.await;
    assert_eq!(wish.of, [shard("b"), shard("c")].into());
    assert_eq!((wish.epoch, wish.lease_ms), (Epoch(1), LEASE_MS));
    let few = a.admin.promise_have(wish.id, [shard("b")].into()).await.unwrap_err().to_string();
    assert!(few.contains("of too few nodes"), "{few}");
    a.admin.promise_have(wish.id + 1, wish.of.clone()).await.unwrap_err();
    a.admin.promise_have(wish.id, wish.of.clone()).await.unwrap();
    let held = a.status().await;
    assert_eq!((held.writable, &held.promises.held_by), (true, &wish.of));
    assert!(held.lease_left_ms.unwrap() <= LEASE_MS);
    // Once more, as late as can be: what it is worth was counted from the question.
    let late =
        crate::cloud::eventually("another", || async { a.admin.promise_wanted().await.unwrap() });
    let late = late.await;
    tokio::time::sleep(LEASE).await;
    a.admin.promise_have(late.id, late.of.clone()).await.unwrap();
    let ended = a.status().await;
    assert_eq!((ended.writable, ended.promises.held_by.len()), (false, 0), "{ended:?}");
    assert_eq!(a.refused("SET key late"), "READONLY");
    std::fs::rename(&away, &there).unwrap();
    a.writable().await;
}
