//! What is in the registry is shown, what cannot be right is named, and what is safe is mended.

use serde_json::{Value, json};
use topology::record::{Phase, UnixMs};
use topology::{Epoch, FreezeId, Outcome, Record, Registry, ShardName, Write};

use super::fakes::{Clouds, seed};

async fn put(clouds: &Clouds, key: &str, value: &Value) {
    let value = Some(serde_json::to_vec(value).unwrap());
    let write = Write { key: format!("services/demo/{key}"), value, ttl: None };
    clouds.service.registry().commit(&[], &[write]).await.unwrap();
}

fn findings(report: &Value) -> String {
    report["findings"].to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_in_order_is_shown_and_nothing_is_wrong_with_it() {
    let clouds = Clouds::up(seed()).await;
    let (code, shown) = clouds.ask(&["registry", "show"]).await;
    assert_eq!(code, 0);
    let keys = shown["keys"].as_object().unwrap();
    assert_eq!(keys["services/demo/record"]["value"]["service"], "demo");
    assert!(keys["services/demo/member/a/0/node"]["revision"].as_u64().unwrap() > 0);
    let (code, checked) = clouds.ask(&["registry", "check"]).await;
    assert_eq!((code, findings(&checked).as_str()), (0, "[]"));
    let (code, repaired) = clouds.ask(&["registry", "repair", "--yes"]).await;
    assert_eq!((code, repaired["done"].as_array().map(Vec::len)), (0, Some(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn leftovers_are_named_and_mended_and_what_lives_is_left_alone() {
    let clouds = Clouds::up(seed()).await;
    let old = UnixMs::now().0 - 3_600_000;
    // A proxy whose key has no lease, a journal whose tool died, a key of nobody.
    put(&clouds, "proxy/ghost", &json!({"id": "ghost", "at": old})).await;
    let dead = json!({"operation": "switchover", "to": "b", "state": "running", "steps": [{"at_ms": old}]});
    let op = FreezeId(77).to_string();
    put(&clouds, &format!("journal/{op}"), &dead).await;
    put(&clouds, "odd", &json!(1)).await;
    let (code, checked) = clouds.ask(&["registry", "check"]).await;
    let found = findings(&checked);
    assert_eq!(code, 1);
    for says in ["proxy/ghost", "3600 s ago", "its tool died", "`odd`".trim_matches('`')] {
        assert!(found.contains(says), "{says}: {found}");
    }
    let (code, dry) = clouds.ask(&["registry", "repair", "--dry-run"]).await;
    assert_eq!((code, dry["done"].as_array().map(Vec::len)), (0, Some(2)));
    let (code, _) = clouds.ask(&["registry", "repair"]).await;
    assert_eq!(code, 3, "without --yes nothing is done");
    assert_eq!(
        clouds.ask(&["registry", "check"]).await.1["findings"].as_array().map(Vec::len),
        Some(3)
    );
    let (code, repaired) = clouds.ask(&["registry", "repair", "--yes"]).await;
    assert_eq!(
        (code, repaired["left"].as_array().map(Vec::len)),
        (1, Some(1)),
        "the odd key is left"
    );
    let (_, checked) = clouds.ask(&["registry", "check"]).await;
    assert_eq!(checked["findings"].as_array().map(Vec::len), Some(1), "{checked}");
    let journals = clouds.service.journals().await.unwrap();
    let (_, closed) = journals.iter().find(|(name, _)| *name == op).unwrap();
    assert_eq!(closed["state"], "rolled-back");
    assert!(journals.iter().any(|(_, about)| about["operation"] == "registry repair"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_was_set_back_goes_on_from_what_the_nodes_know() {
    let clouds = Clouds::up(seed()).await;
    let first = clouds.record().await;
    let run = ["run", "--to", "b", "--yes", "--no-wait-reverse"];
    assert_eq!(clouds.ask(&run).await.0, 0);
    clouds.settled().await;
    let now = clouds.record().await;
    assert_eq!((now.epoch, now.active()), (Epoch(2), Some("b")));
    // The backup of an hour ago. The fakes go on by the record that they have seen, as members do.
    put(&clouds, "record", &serde_json::to_value(&first).unwrap()).await;
    let (code, checked) = clouds.ask(&["registry", "check"]).await;
    let found = findings(&checked);
    assert_eq!(code, 1);
    assert!(found.contains("epoch 1") && found.contains("b/0 (2)"), "{found}");
    // No switch begins on such a record.
    let (code, refused) = clouds.ask(&["run", "--to", "b", "--yes"]).await;
    assert_eq!(code, 3, "{refused}");
    let (code, repaired) = clouds.ask(&["registry", "repair", "--yes"]).await;
    assert_eq!(code, 0, "{repaired}");
    let record = clouds.record().await;
    assert_eq!((record.epoch, record.active()), (Epoch(3), Some("b")));
    clouds.settled().await;
    assert_eq!(clouds.ask(&["registry", "check"]).await.0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_decided_while_those_who_knew_are_away() {
    let clouds = Clouds::up(seed()).await;
    let first = clouds.record().await;
    assert_eq!(clouds.ask(&["run", "--to", "b", "--yes", "--no-wait-reverse"]).await.0, 0);
    clouds.settled().await;
    clouds.fault("b/1").node_dead.store(true, std::sync::atomic::Ordering::SeqCst);
    let dead: ShardName = "b/1".parse().unwrap();
    clouds.until(|view| !view.nodes.contains_key(&dead)).await;
    put(&clouds, "record", &serde_json::to_value(&first).unwrap()).await;
    let (code, repaired) = clouds.ask(&["registry", "repair", "--yes"]).await;
    assert_eq!(code, 1, "{repaired}");
    let left = repaired["left"].to_string();
    assert!(left.contains("bring back the nodes that were primaries at epoch 2"), "{left}");
    assert_eq!(clouds.record().await, first, "nothing was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_cannot_be_read_is_named_and_left() {
    let clouds = Clouds::up(seed()).await;
    let holed = Record { primaries: Vec::new(), ..clouds.record().await };
    put(&clouds, "record", &serde_json::to_value(&holed).unwrap()).await;
    let (code, checked) = clouds.ask(&["registry", "check"]).await;
    assert_eq!(code, 1);
    assert!(findings(&checked).contains("the primaries"), "{checked}");
    assert_eq!(clouds.ask(&["registry", "repair", "--yes"]).await.0, 1);
    let (code, _) = clouds.ask(&["registry", "show", "--all"]).await;
    assert_eq!(code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_freeze_that_nobody_ended_is_named() {
    let clouds = Clouds::up(seed()).await;
    let (record, revision) = clouds.service.read_record().await.unwrap().unwrap();
    let past = UnixMs(UnixMs::now().0 - 60_000);
    let freeze = topology::record::Freeze {
        id: FreezeId(5),
        cause: topology::record::Cause::Switchover,
        shards: record.primaries.clone(),
        to: "b".to_owned(),
        deadline: past,
        since: past,
        rest: Default::default(),
    };
    let frozen = Record { phase: Phase::Frozen(freeze), ..record };
    let swapped = clouds.service.swap_record(revision, &frozen).await.unwrap();
    assert!(matches!(swapped, Outcome::Committed(_)));
    // A proxy may be quicker: either way it is over in the end, by one epoch.
    let (code, repaired) = clouds.ask(&["registry", "repair", "--yes"]).await;
    assert_eq!(code, 0, "{repaired}");
    clouds.until(|view| view.record().is_some_and(|r| r.freeze().is_none())).await;
    assert_eq!(clouds.record().await.epoch, Epoch(2));
}
