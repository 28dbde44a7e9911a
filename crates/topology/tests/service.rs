//! A service as its members and tools see it.

#![allow(clippy::unwrap_used)] // clippy knows only functions marked #[test]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use topology::members::{Lease, NodeMember, ProxyMember, Role};
use topology::record::{Cause, Cluster, Freeze, Phase, UnixMs};
use topology::service::{Cancelled, JOURNALS_MAX};
use topology::{Epoch, FreezeId, Outcome, Record, Registry, Service, ServiceView, Write, open};

fn record() -> Record {
    let cluster = |slots: &[&str]| Cluster::of(slots.iter().map(|s| s.parse().unwrap()));
    Record {
        format: Record::FORMAT,
        service: "demo".to_owned(),
        epoch: Epoch(1),
        primaries: vec!["a/0".parse().unwrap()],
        phase: Phase::Steady,
        lease_ms: 3_000,
        clusters: BTreeMap::from([
            ("a".to_owned(), cluster(&["0-16383"])),
            ("b".to_owned(), cluster(&["0-8191", "8192-16383"])),
        ]),
        forks: Vec::new(),
        reads: Default::default(),
        level: 0,
        rest: Default::default(),
    }
}

fn freeze(id: u128) -> Freeze {
    Freeze {
        id: FreezeId(id),
        cause: Cause::Switchover,
        shards: vec!["a/0".parse().unwrap()],
        to: "b".to_owned(),
        deadline: UnixMs::now(),
        since: UnixMs::now(),
        rest: Default::default(),
    }
}

fn node(shard: &str, epoch: u64) -> NodeMember {
    NodeMember {
        shard: shard.parse().unwrap(),
        client: "127.0.0.1:1".to_owned(),
        admin: "unix:/nowhere".to_owned(),
        metrics: None,
        pid: 1,
        dir: "/nowhere".to_owned(),
        version: "0".to_owned(),
        role: Role::Primary,
        epoch: Epoch(epoch),
        position: None,
        own_end: None,
        ended: None,
        applied: BTreeMap::new(),
        disk_free: None,
        promises: None,
        settings: BTreeMap::new(),
        users: None,
        at: UnixMs::now(),
    }
}

async fn demo(dir: &tempfile::TempDir) -> Service {
    let registry = open(&format!("file:{}", dir.path().display())).unwrap();
    Service::open(registry, "demo").await.unwrap()
}

async fn until(service: &Service, wanted: impl FnMut(&Arc<ServiceView>) -> bool) {
    let mut watch = service.watch();
    let seen = tokio::time::timeout(Duration::from_secs(10), watch.wait_for(wanted)).await;
    seen.expect("seen in time").expect("the watch goes on");
}

#[tokio::test]
async fn everyone_sees_the_record_and_only_one_swap_of_it_wins() {
    let dir = tempfile::tempdir().unwrap();
    let (here, there) = (demo(&dir).await, demo(&dir).await);
    let made = here.create_record(&record()).await.unwrap();
    let Outcome::Committed(revision) = made else { panic!("{made:?}") };
    assert_eq!(there.create_record(&record()).await.unwrap(), Outcome::Conflict);
    until(&there, |view| view.record() == Some(&record())).await;

    let mut frozen = record();
    frozen.phase = Phase::Frozen(freeze(9));
    let swapped = here.swap_record(revision, &frozen).await.unwrap();
    let Outcome::Committed(revision) = swapped else { panic!("{swapped:?}") };
    // Both a commit and a cancel start from the frozen record.
    let next = frozen.committed("b", vec![]);
    let (commit, cancel) =
        tokio::join!(here.swap_record(revision, &next), there.cancel(FreezeId(9)));
    let committed = commit.unwrap() != Outcome::Conflict;
    let ended = matches!(cancel.unwrap(), Cancelled::Ended(_));
    assert!(committed != ended, "exactly one wins");
    let (now, _) = here.read_record().await.unwrap().unwrap();
    assert_eq!((now.epoch, now.freeze()), (Epoch(2), None));
    assert_eq!(now.active(), Some(if committed { "b" } else { "a" }));
    assert!(matches!(there.cancel(FreezeId(9)).await.unwrap(), Cancelled::WasOver(_)));
}

#[tokio::test]
async fn a_lease_is_renewed_only_under_the_record_that_was_read() {
    let dir = tempfile::tempdir().unwrap();
    let service = demo(&dir).await;
    let made = service.create_record(&record()).await.unwrap();
    let Outcome::Committed(revision) = made else { panic!("{made:?}") };
    let shard: topology::ShardName = "a/0".parse().unwrap();
    let lease = Lease { shard: shard.clone(), epoch: Epoch(1), lease_ms: 300, at: UnixMs::now() };
    until(&service, |view| view.record.is_some()).await;
    assert!(matches!(
        service.renew_lease(&lease, revision, None).await.unwrap(),
        Outcome::Committed(_)
    ));
    until(&service, |view| view.leases.get(&shard) == Some(&lease)).await;
    service.swap_record(revision, &record().cancelled()).await.unwrap();
    assert_eq!(service.renew_lease(&lease, revision, None).await.unwrap(), Outcome::Conflict);
    until(&service, |view| view.leases.is_empty()).await;
}

#[tokio::test]
async fn members_come_and_go_and_what_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let service = demo(&dir).await;
    let proxy = ProxyMember {
        id: "p1".to_owned(),
        cluster: "a".to_owned(),
        client: "127.0.0.1:1".to_owned(),
        metrics: None,
        pid: 1,
        version: "0".to_owned(),
        epoch: Epoch(1),
        holding: None,
        hold_ms: None,
        zone: None,
        reads: None,
        sees: Default::default(),
        at: UnixMs::now(),
    };
    service.put_proxy(&proxy, Duration::from_secs(60)).await.unwrap();
    until(&service, |view| view.proxies.get("p1") == Some(&proxy)).await;
    let odd =
        Write { key: "services/demo/proxy/p2".to_owned(), value: Some(b"{}".to_vec()), ttl: None };
    service.registry().commit(&[], &[odd]).await.unwrap();
    until(&service, |view| view.problems.contains_key("proxy/p2")).await;
    service.remove_proxy("p1").await.unwrap();
    service.remove_proxy("p2").await.unwrap();
    until(&service, |view| view.proxies.is_empty() && view.problems.is_empty()).await;
    let bad = ProxyMember { id: "../record".to_owned(), ..proxy };
    assert!(service.put_proxy(&bad, Duration::from_secs(1)).await.is_err());
}

#[tokio::test]
async fn what_members_of_a_later_version_say_more_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let service = demo(&dir).await;
    let mut later = serde_json::to_value(node("a/0", 1)).unwrap();
    later["of-a-later-version"] = serde_json::json!({"more": [1, 2]});
    let applied = r#"{"position":null,"stamp-ms":5,"ended":null,"of-a-later-version":1}"#;
    let mut applied: serde_json::Value = serde_json::from_str(applied).unwrap();
    applied["position"] = serde_json::to_value(wal::Position {
        timeline: wal::TimelineId(1),
        sequence: wal::Sequence(7),
    })
    .unwrap();
    later["applied"] = serde_json::json!({"b/0": applied});
    let proxy = r#"{"id":"p1","cluster":"a","client":"h:1","metrics":null,"pid":1,"version":"9",
        "epoch":1,"holding":null,"at":1,"of-a-later-version":true}"#;
    let lease = r#"{"shard":"a/0","epoch":1,"lease-ms":300,"at":1,"of-a-later-version":true}"#;
    let put = |key: &str, text: String| Write {
        key: format!("services/demo/{key}"),
        value: Some(text.into()),
        ttl: None,
    };
    let writes = [
        put("member/a/0/node", later.to_string()),
        put("proxy/p1", proxy.to_owned()),
        put("lease/a/0", lease.to_owned()),
    ];
    service.registry().commit(&[], &writes).await.unwrap();
    until(&service, |view| view.proxies.contains_key("p1")).await;
    let view = service.view();
    assert!(view.problems.is_empty(), "{:?}", view.problems);
    assert_eq!(view.nodes.values().next().unwrap().applied["b/0"].stamp_ms, 5);
    assert_eq!(view.leases.len(), 1);
}

#[tokio::test]
async fn a_record_that_cannot_be_used_is_refused_and_never_believed() {
    let dir = tempfile::tempdir().unwrap();
    let service = demo(&dir).await;
    let mut holed = record();
    holed.primaries.clear();
    assert!(service.create_record(&holed).await.is_err());
    service.create_record(&record()).await.unwrap();
    until(&service, |view| view.record.is_some()).await;
    let held = service.view().record.clone();
    let text = serde_json::to_vec(&Record { format: 2, ..record() }).unwrap();
    let newer = Write { key: "services/demo/record".to_owned(), value: Some(text), ttl: None };
    service.registry().commit(&[], &[newer]).await.unwrap();
    until(&service, |view| view.problems.contains_key("record")).await;
    assert_eq!(service.view().record, held);
    assert!(service.read_record().await.unwrap_err().to_string().contains("upgrade"));
}

#[tokio::test]
async fn journals_are_kept_in_order_and_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let service = demo(&dir).await;
    for op in 0..JOURNALS_MAX + 3 {
        service.put_journal(&format!("op{op}"), &serde_json::json!({ "op": op })).await.unwrap();
    }
    service.put_journal("op7", &serde_json::json!({ "again": true })).await.unwrap();
    let journals = service.journals().await.unwrap();
    assert_eq!(journals.len(), JOURNALS_MAX);
    assert_eq!(journals[0].0, "op3");
    assert_eq!(journals.last().unwrap().0, "op7");
}

#[tokio::test]
async fn a_record_that_goes_back_is_not_followed_and_its_freeze_is_not_cancelled() {
    let dir = tempfile::tempdir().unwrap();
    let service = demo(&dir).await;
    let now = Record {
        epoch: Epoch(6),
        primaries: vec!["b/0".parse().unwrap(), "b/1".parse().unwrap()],
        ..record()
    };
    service.create_record(&now).await.unwrap();
    until(&service, |view| view.record.is_some()).await;
    let held = service.view().record.clone();
    let put = async |value: Option<&Record>| {
        let value = value.map(|record| serde_json::to_vec(record).unwrap());
        let write = Write { key: "services/demo/record".to_owned(), value, ttl: None };
        service.registry().commit(&[], &[write]).await.unwrap();
    };
    // An old backup; the same epoch with other primaries; none at all.
    let old = Record { epoch: Epoch(5), phase: Phase::Frozen(freeze(9)), ..record() };
    let other = Record { epoch: Epoch(6), ..record() };
    for (value, says) in [
        (Some(&old), "epoch 5 where epoch 6"),
        (Some(&other), "other primaries"),
        (None, "is gone"),
    ] {
        put(value).await;
        until(&service, |view| view.problems.get("record").is_some_and(|why| why.contains(says)))
            .await;
        assert_eq!(service.view().record, held, "{says}");
    }
    // A process that comes to know the service only now believes the old record, but ends no freeze
    // of it: that would take an epoch which others have taken.
    put(Some(&old)).await;
    let late = demo(&dir).await;
    assert_eq!(late.view().record(), Some(&old));
    late.put_node(&node("b/0", 6), Duration::from_secs(60)).await.unwrap();
    until(&late, |view| view.highest_epoch().is_some()).await;
    let refused = late.cancel(FreezeId(9)).await.unwrap_err().to_string();
    assert!(refused.contains("b/0 acts under epoch 6"), "{refused}");
    // A higher epoch is followed again.
    let next = Record { epoch: Epoch(7), ..now };
    put(Some(&next)).await;
    until(&service, |view| view.record() == Some(&next) && view.problems.is_empty()).await;
}

#[tokio::test]
async fn a_swap_that_is_still_on_its_way_comes_too_late_once_the_record_is_outdated() {
    let dir = tempfile::tempdir().unwrap();
    let service = demo(&dir).await;
    let made = service.create_record(&record()).await.unwrap();
    let Outcome::Committed(revision) = made else { panic!("{made:?}") };
    let now = service.outdate(revision).await.unwrap();
    assert!(now > revision);
    let late = Record { phase: Phase::Frozen(freeze(3)), ..record() };
    assert_eq!(service.swap_record(revision, &late).await.unwrap(), Outcome::Conflict);
    assert_eq!(service.outdate(revision).await.unwrap(), now, "it has another one already");
    assert_eq!(service.read_record().await.unwrap(), Some((record(), now)));
}
