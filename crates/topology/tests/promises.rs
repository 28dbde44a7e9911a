//! What the registry shows of promises, and what a failover may conclude from it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::BTreeMap;
use std::time::Duration;

use topology::members::{NodeMember, Promised, Promisers, Promises, Role};
use topology::promises::{Silence, silence};
use topology::record::{Cluster, Phase, Shard, UnixMs};
use topology::{Epoch, Record, Revision, ServiceView, ShardName};

const LEASE_MS: u64 = 3_000;

fn shard(name: &str) -> ShardName {
    name.parse().unwrap()
}

fn node(name: &str, promises: Option<Promises>) -> (ShardName, NodeMember) {
    let member = NodeMember {
        shard: shard(name),
        client: String::new(),
        admin: String::new(),
        metrics: None,
        pid: 1,
        dir: String::new(),
        version: "0".to_owned(),
        role: Role::Standby,
        epoch: Epoch(4),
        position: None,
        own_end: None,
        ended: None,
        applied: BTreeMap::new(),
        settings: BTreeMap::new(),
        users: None,
        disk_free: None,
        promises,
        at: UnixMs(0),
    };
    (shard(name), member)
}

/// It promises a/0 nothing below this epoch, and what it has promised lasts for so long.
fn says(below: u64, left_ms: u64) -> Option<Promises> {
    let given = Promised { left_ms, until: UnixMs(9) };
    Some(Promises {
        given: [(shard("a/0"), given)].into(),
        none_below: [(shard("a/0"), Epoch(below))].into(),
    })
}

fn view(asks: &[&str], nodes: Vec<(ShardName, NodeMember)>) -> ServiceView {
    let cluster = || {
        let shard = Shard { slots: "0-16383".parse().unwrap(), rest: Default::default() };
        Cluster { shards: vec![shard], rest: Default::default() }
    };
    let record = Record {
        format: 1,
        level: 0,
        service: "demo".to_owned(),
        epoch: Epoch(4),
        primaries: vec![shard("a/0")],
        phase: Phase::Steady,
        lease_ms: LEASE_MS,
        clusters: ["a", "b", "c"].map(|name| (name.to_owned(), cluster())).into(),
        forks: Vec::new(),
        reads: BTreeMap::new(),
        rest: Default::default(),
    };
    let of = asks.iter().map(|name| shard(name)).collect();
    let promisers = Promisers { shard: shard("a/0"), of, at: UnixMs(1) };
    ServiceView {
        record: Some((record, Revision(7))),
        promisers: [(shard("a/0"), promisers)].into(),
        nodes: nodes.into_iter().collect(),
        ..ServiceView::default()
    }
}

fn asked(view: &ServiceView) -> Silence {
    silence(view, &shard("a/0"), Epoch(4))
}

fn ends(of: &[(&str, u64)]) -> Silence {
    Silence::Ends(of.iter().map(|(name, ms)| (shard(name), Duration::from_millis(*ms))).collect())
}

#[test]
fn one_of_those_that_are_asked_is_enough_once_it_has_seen_the_freeze() {
    let view_of = |b, c| view(&["b/0", "c/0"], vec![node("b/0", b), node("c/0", c)]);
    let both = [shard("b/0"), shard("c/0")].into();
    assert_eq!(asked(&view_of(Some(Promises::default()), says(4, 9))), Silence::Unknown(both));
    assert_eq!(asked(&view_of(says(5, 1_200), says(4, 2_000))), ends(&[("b/0", 1_200)]));
    let all = [("b/0", 1_200), ("c/0", 0)];
    assert_eq!(asked(&view_of(says(5, 1_200), says(5, 0))), ends(&all));
}

#[test]
fn who_is_not_there_says_nothing_and_who_is_not_asked_does_not_count() {
    let away = view(&["b/0"], vec![node("c/0", says(5, 0))]);
    assert_eq!(asked(&away), Silence::Unknown([shard("b/0")].into()));
    let mut nobody = view(&[], Vec::new());
    assert_eq!(asked(&nobody), Silence::Unknown([].into()), "nobody can say that it is over");
    nobody.promisers.clear();
    assert_eq!(asked(&nobody), Silence::Lease);
}

#[test]
fn a_version_that_gives_no_promises_may_have_come_after_one_that_did() {
    let old = view(&["b/0"], vec![node("b/0", None)]);
    assert_eq!(asked(&old), ends(&[("b/0", LEASE_MS)]));
}
