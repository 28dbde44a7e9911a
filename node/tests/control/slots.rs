//! Slots are deleted through the log, and those that a node holds no more by each node itself.

use admin::Code;
use keyspace::Slot;
use topology::record::Cluster;
use topology::{Record, ShardName};

use crate::cloud::{Cloud, Node, eventually};
use crate::ship::{compare, pair, ship};

fn fill(node: &Node) {
    for n in 0..40 {
        node.run(&format!("SET plain:{n} value")).unwrap();
        node.run(&format!("HSET hash:{n} one 1 two 2")).unwrap();
        node.run(&format!("ZADD zset:{n} 1 one 2 two")).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_that_a_primary_deletes_are_deleted_on_its_standby() {
    let (_cloud, a, b) = pair("").await;
    fill(&a);
    let (before, _) = compare(&a, &b).await;
    let slots = "0-8191".parse().unwrap();
    let refused = a.admin.delete_slots(&slots, false).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::Role), "{refused}");
    let refused = b.admin.delete_slots(&slots, true).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::Role), "{refused}");
    assert!(refused.to_string().contains("by their primary"), "{refused}");
    let deleted = a.admin.delete_slots(&slots, true).await.unwrap();
    assert_eq!(deleted.held, slots);
    // Its log is all that the other side has of it.
    let dir = a.dir.clone();
    let history = a.status().await.history;
    let there = crate::ship::ship_from(&dir, &history, &a, &b).await;
    assert!(there >= deleted.position.sequence);
    let (left, right) = compare(&a, &b).await;
    assert_eq!(left, right);
    let kept = before.slots.into_iter().filter(|(slot, _)| *slot > 8191);
    assert_eq!(right.slots, kept.collect());
    a.run("SET plain:1 again").unwrap();
    ship(&a, &b).await;
    assert_eq!(b.get("plain:1").as_deref(), Some("again"));
}

/// Shard 0 of each cluster has the first of these slots from here on, others that nobody runs the rest.
async fn divide(cloud: &Cloud, parts: &[&str]) {
    cloud
        .change(|record| {
            let cluster = || Cluster::of(parts.iter().map(|slots| slots.parse().unwrap()));
            let clusters = record.clusters.keys().map(|name| (name.clone(), cluster())).collect();
            let of_a = |shard| ShardName { cluster: "a".to_owned(), shard };
            let primaries = (0..parts.len() as u32).map(of_a).collect();
            Record { epoch: record.epoch.next(), clusters, primaries, ..record.clone() }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_that_a_node_holds_no_more_are_deleted_by_itself() {
    let (cloud, a, b) = pair("").await;
    fill(&a);
    let (whole, _) = compare(&a, &b).await;
    divide(&cloud, &["0-9999", "10000-16383"]).await;
    for node in [&a, &b] {
        node.wait("it has its new slots", |s| s.slots == "0-9999".parse().unwrap()).await;
        let both = "9999-10000".parse().unwrap();
        let refused = node.admin.delete_slots(&both, false).await.unwrap_err();
        assert!(refused.to_string().contains("holds the slots 9999"), "{refused}");
    }
    a.writable().await;
    let lost = "10000-16383".parse().unwrap();
    for node in [&a, &b] {
        let deleted = node.admin.delete_slots(&lost, false).await.unwrap();
        assert!(deleted.held.is_empty());
    }
    // They have what they held, and nothing else: a digest of their whole database would differ.
    divide(&cloud, &["0-16383"]).await;
    a.wait("all slots are its own", |status| status.slots.len() == 16_384).await;
    a.writable().await;
    let barrier = a.admin.barrier().await.unwrap();
    let digest = eventually("a digest", || async { a.admin.digest(barrier.id).await.ok() }).await;
    let kept = whole.slots.into_iter().filter(|(slot, _)| *slot < 10_000);
    assert_eq!(digest.slots, kept.collect());
    b.wait("all slots are its own", |status| status.slots.len() == 16_384).await;
    for n in 0..40 {
        let key = format!("plain:{n}");
        let is_kept = Slot::of_key(key.as_bytes()).number() < 10_000;
        assert_eq!(b.get(&key).is_some(), is_kept, "{key}");
    }
}
