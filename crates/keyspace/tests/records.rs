//! Golden vectors of `docs/formats.md`, "Keys and values", and properties of the encodings.

use keyspace::data::{DataKey, DataValue};
use keyspace::library::{self, LibraryValue};
use keyspace::meta::{self, Body, Collection, Meta, Type};
use keyspace::score::{Score, ScoreKey};
use keyspace::{DecodeError, Hlc, Slot};
use proptest::prelude::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn encoded(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

const STAMP: Hlc = Hlc::new(1_700_000_000_000, 7);

#[test]
fn a_string() {
    let slot = Slot::of_key(b"foo");
    assert_eq!(hex(&encoded(|o| meta::encode_key(slot, b"foo", o))), "2f96666f6f");
    let record = Meta { stamp: STAMP, expire_ms: 1_700_000_060_000, body: Body::String(b"bar") };
    let bytes = encoded(|o| record.encode(o));
    assert_eq!(hex(&bytes), "1100018bcfe5680000070000018bcfe65260626172");
    assert_eq!(Meta::decode(&bytes), Ok(record));
    assert!(record.is_live(1_700_000_059_999) && !record.is_live(1_700_000_060_000));
}

#[test]
fn a_list() {
    let mut list = Collection::new(Type::List, STAMP);
    (list.size, list.tail) = (2, list.head + 2);
    let record = Meta { stamp: STAMP, expire_ms: 0, body: Body::Collection(list) };
    let bytes = encoded(|o| record.encode(o));
    assert_eq!(
        hex(&bytes),
        "3100018bcfe5680000070000000000000000018bcfe568000007000000000000000280000000000000008000000000000002"
    );
    assert_eq!(Meta::decode(&bytes), Ok(record));
}

#[test]
fn a_hash_with_and_without_fields_that_expire() {
    let mut hash = Collection::new(Type::Hash, STAMP);
    hash.size = 3;
    let record = |hash| Meta { stamp: STAMP, expire_ms: 0, body: Body::Collection(hash) };
    let bytes = encoded(|o| record(hash).encode(o));
    assert_eq!(hex(&bytes), "2100018bcfe5680000070000000000000000018bcfe5680000070000000000000003");
    assert!(!hash.may_have_expired(u64::MAX));
    hash.fields_expire_ms = 1_700_000_060_000;
    let bytes = encoded(|o| record(hash).encode(o));
    assert_eq!(
        hex(&bytes),
        "2101018bcfe5680000070000000000000000018bcfe56800000700000000000000030000018bcfe65260"
    );
    assert_eq!(Meta::decode(&bytes), Ok(record(hash)));
    assert!(hash.may_have_expired(1_700_000_060_000) && !hash.may_have_expired(1_700_000_059_999));
    // One way to say one thing: the flag is there for a time that is.
    let mut never = bytes[..34].to_vec();
    never.extend_from_slice(&[0; 8]);
    assert!(Meta::decode(&never).is_err());
}

#[test]
fn a_field_and_its_value() {
    let key = DataKey { slot: Slot::of_key(b"foo"), key: b"foo", version: STAMP, subkey: b"field" };
    let bytes = encoded(|o| key.encode(o));
    assert_eq!(hex(&bytes), "2f9600000003666f6f018bcfe5680000076669656c64");
    assert_eq!(DataKey::decode(&bytes), Ok(key));
    let value = DataValue::new(STAMP, b"v");
    assert_eq!(hex(&encoded(|o| value.encode(o))), "00018bcfe56800000776");
    assert!(value.is_live(u64::MAX));
    let value = DataValue { expire_ms: 9, ..value };
    assert!(value.is_live(8) && !value.is_live(9));
    assert_eq!(hex(&encoded(|o| value.encode(o))), "01018bcfe568000007000000000000000976");
}

#[test]
fn a_score() {
    let score = Score::new(1.5).unwrap();
    let key =
        ScoreKey { slot: Slot::of_key(b"foo"), key: b"foo", version: STAMP, score, member: b"m" };
    let bytes = encoded(|o| key.encode(o));
    assert_eq!(hex(&bytes), "2f9600000003666f6f018bcfe568000007bff80000000000006d");
    assert_eq!(ScoreKey::decode(&bytes), Ok(key));
    assert_eq!(Score::new(-0.0), Score::new(0.0));
    assert_eq!(Score::new(f64::NAN), None);
    assert!(Score::decode(&[0xff; 8]).is_err());
}

#[test]
fn what_later_versions_write_is_refused_by_name() {
    let good = encoded(|o| {
        Meta { stamp: STAMP, expire_ms: 0, body: Body::String(b"") }.encode(o);
    });
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        Meta::decode(&bytes).unwrap_err()
    };
    assert_eq!(with(0, 0xf1), DecodeError::Type(15));
    assert_eq!(with(0, 0x12), DecodeError::Version(2));
    assert_eq!(with(1, 0x04), DecodeError::Flags(4, "meta record"));
    assert_eq!(DataValue::decode(&[2; 9]), Err(DecodeError::Flags(2, "data value")));
    assert_eq!(meta::decode_key(&[0x40, 0]), Err(DecodeError::Slot("meta key")));
    for cut in 0..good.len() {
        assert!(Meta::decode(&good[..cut]).is_err(), "{cut}");
    }
}

#[test]
fn libraries_are_behind_all_slots() {
    let key = encoded(|out| library::encode_key("mylib", out));
    assert_eq!(key, b"\xff\xffFmylib");
    let value = LibraryValue { stamp: Hlc(0x0102), text: b"#!lua name=mylib\n" };
    let bytes = encoded(|out| value.encode(out));
    assert_eq!(bytes, b"\x01\0\0\0\0\0\0\x01\x02#!lua name=mylib\n");
    assert_eq!(LibraryValue::decode(&bytes), Ok(value));
    let (lower, upper) = library::bounds();
    assert!(key[..] >= lower[..] && key[..] < upper[..]);
    assert!(keyspace::shard::is_of_shard(&key) && Slot::of_encoded(&key).is_none());
    assert_eq!(LibraryValue::decode(b"\x02"), Err(DecodeError::Version(2)));
    assert!(LibraryValue::decode(b"").is_err() && LibraryValue::decode(b"\x01\0").is_err());
}

proptest! {
    #[test]
    fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = Meta::decode(&bytes);
        let _ = meta::decode_key(&bytes);
        let _ = DataKey::decode(&bytes);
        let _ = DataValue::decode(&bytes);
        let _ = ScoreKey::decode(&bytes);
    }

    #[test]
    fn what_decodes_encodes_to_the_same_bytes(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        if let Ok(record) = Meta::decode(&bytes) {
            prop_assert_eq!(encoded(|o| record.encode(o)), bytes.clone());
        }
        if let Ok(key) = DataKey::decode(&bytes) {
            prop_assert_eq!(encoded(|o| key.encode(o)), bytes);
        }
    }

    #[test]
    fn keys_read_back(key in prop::collection::vec(any::<u8>(), 0..40), version: u64,
                      sub in prop::collection::vec(any::<u8>(), 0..40), number: f64) {
        let slot = Slot::of_key(&key);
        let data = DataKey { slot, key: &key, version: Hlc(version), subkey: &sub };
        let bytes = encoded(|o| data.encode(o));
        prop_assert_eq!(DataKey::decode(&bytes), Ok(data));
        if let Some(score) = Score::new(number) {
            prop_assert_eq!(score.number(), number);
            let score = ScoreKey { slot, key: &key, version: Hlc(version), score, member: &sub };
            let bytes = encoded(|o| score.encode(o));
            prop_assert_eq!(ScoreKey::decode(&bytes), Ok(score));
        }
    }

    #[test]
    fn scores_sort_as_numbers(a: f64, b: f64) {
        let (Some(x), Some(y)) = (Score::new(a), Score::new(b)) else { return Ok(()) };
        prop_assert_eq!(Some(x.cmp(&y)), a.partial_cmp(&b));
    }
}
