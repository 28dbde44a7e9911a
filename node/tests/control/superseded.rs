//! Who must not become a primary, and whose log a new primary does not continue.

use topology::members::Role;
use topology::{Epoch, Record};
use wal::{Continuation, Sequence};

use crate::cloud::{Cloud, Node, shard};
use crate::ship::{pair, seed, ship};
use crate::switch::follow;

/// Waits until the node has acted upon a record of this epoch, and sees that it takes no writes.
async fn takes_no_writes(node: &Node, cloud: &Cloud, epoch: Epoch) {
    let view = || cloud.service.view().record().map(|record| record.epoch);
    crate::cloud::eventually("the record", || async { (view()? >= epoch).then_some(()) }).await;
    node.wait("it knows its slots", |status| !status.slots.is_empty()).await;
    // A promotion follows the record within milliseconds; a lease after it comes as soon.
    for _ in 0..20 {
        let status = node.status().await;
        assert!(!status.writable && status.epoch < epoch, "{status:?}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_was_superseded_is_no_parent() {
    let (cloud, a, b) = pair("").await;
    let c = cloud.start("c").await;
    c.is(Role::Standby).await;
    seed(&a, &c).await;
    a.run("SET key one").unwrap();
    ship(&a, &b).await;
    ship(&a, &c).await;
    let at = c.status().await.applied[&shard("a")].position;
    cloud.commit("b").await;
    let promoted = b.writable().await;
    let resume = promoted.history.continue_from(at, at.sequence, promoted.position.sequence);
    let Continuation::From(resume) = resume else { panic!("{resume:?}") };
    follow(&c, &shard("b"), resume, Epoch(2)).await;
    let sources: Vec<_> = c.status().await.applied.into_keys().collect();
    assert_eq!(sources, [shard("b")], "a is no source of c any more");
    b.run("SET key two").unwrap();
    ship(&b, &c).await;
    cloud.commit("c").await;
    let promoted = c.writable().await;
    // What b wrote is in c's log before the fork: who stands at the end of a's would miss it.
    let stale = promoted.history.continue_from(at, at.sequence, promoted.position.sequence);
    assert_eq!(stale, Continuation::Seed);
    assert_eq!(promoted.history.current().unwrap().parents.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_switch_says_a_node_has_is_asked_for_after_a_cancel_too() {
    let (cloud, a, b) = pair("").await;
    a.run("SET key one").unwrap();
    ship(&a, &b).await;
    let (record, _) = cloud.service.read_record().await.unwrap().unwrap();
    let mut fork = cloud.fork(&record, &shard("a"), "b").await.unwrap();
    b.stop().await;
    // It lost its last batches with a power cut after the commit.
    fork.at.sequence = Sequence(fork.at.sequence.0 + 1_000);
    cloud.change(|record| record.committed("b", vec![fork.clone()])).await;
    let epoch = cloud.change(Record::cancelled).await.epoch;
    let b = cloud.start("b").await;
    takes_no_writes(&b, &cloud, epoch).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_names_no_fork_promotes_nobody() {
    let (cloud, a, b) = pair("").await;
    ship(&a, &b).await;
    let epoch = cloud.change(|record| record.committed("b", Vec::new())).await.epoch;
    takes_no_writes(&b, &cloud, epoch).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_slept_through_two_switches_does_not_go_on() {
    let (cloud, a, b) = pair("").await;
    ship(&a, &b).await;
    let (record, _) = cloud.service.read_record().await.unwrap().unwrap();
    let mut back = cloud.fork(&record, &shard("a"), "b").await.unwrap();
    a.stop().await;
    (back.source, back.target, back.epoch) = (shard("b"), shard("a"), Epoch(3));
    // To b and back, and the first of the two is forgotten.
    let epoch = cloud
        .change(|record| {
            let there = record.committed("b", Vec::new());
            there.committed("a", vec![back.clone()])
        })
        .await
        .epoch;
    let a = cloud.start("a").await;
    let status = a.wait("it has obeyed", |status| status.epoch == epoch).await;
    assert!(!status.writable && status.role == Role::Standby, "{status:?}");
    assert_eq!(a.refused("SET key late"), "READONLY");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_whose_directory_was_lost_does_not_begin_again_empty() {
    let (cloud, a, b) = pair("").await;
    ship(&a, &b).await;
    std::fs::remove_dir_all(a.kill()).unwrap();
    let a = cloud.start("a").await;
    takes_no_writes(&a, &cloud, Epoch(1)).await;
    assert_eq!(b.get("before").as_deref(), Some("seed"));
}
