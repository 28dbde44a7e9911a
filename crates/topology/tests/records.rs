//! Records of other versions: what is not known of one is passed over and written back, and one that
//! asks for more than this version knows is refused in words.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use proptest::prelude::*;
use serde_json::{Map, Value};
use topology::record::{FreezeId, UnixMs};
use topology::service::Cancelled;
use topology::{Record, Registry, Service, Write, open};

const OLDER: &str = include_str!("fixtures/records/older.json");
const NEWER: &str = include_str!("fixtures/records/newer.json");
const DEMANDING: &str = include_str!("fixtures/records/demanding.json");

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn again(record: &Record) -> Value {
    serde_json::to_value(record).unwrap()
}

#[test]
fn a_record_of_an_older_version_reads_and_is_written_as_it_was() {
    let record = Record::parse(OLDER.as_bytes()).unwrap();
    assert_eq!((record.level, record.reads.len()), (0, 0));
    assert_eq!(again(&record), value(OLDER), "an older version reads it still");
}

#[test]
fn what_a_later_version_says_is_passed_over_and_kept() {
    let record = Record::parse(NEWER.as_bytes()).unwrap();
    assert_eq!(again(&record), value(NEWER));
    assert_eq!(record.rest.names().collect::<Vec<_>>(), ["placement"]);
    assert_eq!(record.active(), Some("a"));
    let after = again(&record.committed("b", Vec::new()));
    let before = value(NEWER);
    for name in ["placement", "clusters", "forks", "reads"] {
        assert_eq!(after[name], before[name], "a commit keeps `{name}`");
    }
    assert_eq!(after["phase"], serde_json::json!({"state": "steady"}), "the freeze is over");
}

#[test]
fn a_record_that_asks_for_more_is_refused_in_words() {
    // Even where its fields have other kinds than here.
    let why = Record::parse(DEMANDING.as_bytes()).unwrap_err();
    assert!(why.contains("level 900") && why.contains("Upgrade this program"), "{why}");
    let mut record = Record::parse(NEWER.as_bytes()).unwrap();
    record.level = Record::LEVEL + 1;
    assert!(record.validate().unwrap_err().contains("level"), "and none is written");
    assert!(Record::parse(b"{}").unwrap_err().contains("cannot be read"));
}

/// Puts a record into a registry as a later version would have.
async fn put(service: &Service, text: &str) {
    let key = "services/demo/record".to_owned();
    let write = Write { key, value: Some(text.as_bytes().to_vec()), ttl: None };
    service.registry().commit(&[], &[write]).await.unwrap();
}

#[tokio::test]
async fn a_swap_by_this_version_drops_nothing_of_a_later_one() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(&format!("file:{}", dir.path().display())).unwrap();
    let service = Service::open(registry, "demo").await.unwrap();
    put(&service, NEWER).await;
    // As a proxy or a node does it whose freeze is past its deadline.
    let ended = service.cancel(FreezeId(0x2a)).await.unwrap();
    assert!(matches!(ended, Cancelled::Ended(_)));
    let held = service.registry().get("services/demo/record").await.unwrap().unwrap();
    let held: Value = serde_json::from_slice(&held.value).unwrap();
    let before = value(NEWER);
    for name in ["placement", "clusters", "forks", "reads"] {
        assert_eq!(held[name], before[name], "{name}");
    }
    assert_eq!(held["epoch"], 8);

    put(&service, DEMANDING).await;
    let why = service.read_record().await.unwrap_err().to_string();
    assert!(why.contains("level 900"), "{why}");
    let why = service.cancel(FreezeId(0x2a)).await.unwrap_err().to_string();
    assert!(why.contains("Upgrade this program"), "nobody swaps what he does not know: {why}");
}

/// What JSON may hold and comes back exact.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((".{0,6}", inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn fields() -> impl Strategy<Value = Map<String, Value>> {
    let field = ("x-.{0,8}", any_value());
    prop::collection::vec(field, 0..3).prop_map(|fields| fields.into_iter().collect())
}

/// The objects of a record that a later version may say more of.
const PLACES: [&str; 6] =
    ["", "/phase", "/clusters/a", "/clusters/a/shards/1", "/forks/0", "/reads/west"];

proptest! {
    #[test]
    fn unknown_fields_come_back_wherever_they_are(more in prop::collection::vec(fields(), 6)) {
        let mut text = value(NEWER);
        for (place, fields) in PLACES.iter().zip(more) {
            text.pointer_mut(place).unwrap().as_object_mut().unwrap().extend(fields);
        }
        let record = Record::parse(&serde_json::to_vec(&text).unwrap()).unwrap();
        prop_assert_eq!(again(&record), text.clone());
        // Every kind of change that is made to a record by whoever reads it.
        let mut routed = record.clone();
        routed.reads.entry("west".to_owned()).and_modify(|reads| reads.max_lag_ms += 1);
        let mut retired = record.clone();
        retired.forks.retain(|fork| fork.at.sequence.0 > 0);
        for next in [record.cancelled(), record.committed("b", Vec::new()), routed, retired] {
            let next = again(&next);
            for (name, was) in text.as_object().unwrap() {
                let known = ["epoch", "primaries", "phase", "reads"].contains(&name.as_str());
                prop_assert!(known || next[name] == *was, "{}", name);
            }
            for (name, was) in text["reads"]["west"].as_object().unwrap() {
                prop_assert!(name == "max-lag-ms" || next["reads"]["west"][name] == *was, "{}", name);
            }
        }
    }

    #[test]
    fn bytes_of_any_kind_are_refused_and_no_more(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Record::parse(&bytes);
        let mut text = NEWER.as_bytes().to_vec();
        for (n, byte) in bytes.iter().enumerate().take(4) {
            let at = (n * 7919 + usize::from(*byte) * 31) % text.len();
            text[at] = *byte;
        }
        if let Ok(record) = Record::parse(&text) {
            prop_assert_eq!(record.validate(), Ok(()));
            let _ = record.cancelled().freeze().map(|f| f.deadline > UnixMs(0));
        }
    }
}
