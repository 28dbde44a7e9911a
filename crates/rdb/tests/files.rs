//! Snapshots, as real servers wrote them: every key comes out, whole or in parts, and what cannot be
//! read is an error in words.

#![allow(clippy::unwrap_used)] // of tests, helpers too

use std::collections::BTreeMap;

use proptest::prelude::*;
use rdb::file::{Entry, Error, Item, Part, Reader};
use rdb::payload::{Dump, Load, seal};
use rdb::{Elements, Form, elements};

const PACKED: &[u8] = include_bytes!("fixtures/redis-7.0-packed.rdb");
const GENERAL: &[u8] = include_bytes!("fixtures/redis-7.0-general.rdb");

fn items(bytes: &[u8], part_bytes: usize) -> Result<Vec<Item>, Error> {
    let mut reader = Reader::with_parts(bytes, part_bytes)?;
    let mut items = Vec::new();
    loop {
        match reader.next_item()? {
            Item::End => return Ok(items),
            item => items.push(item),
        }
    }
}

/// What is in a snapshot's keys, with their parts put together; streams as they are.
fn contents(items: &[Item]) -> BTreeMap<String, Elements> {
    let mut contents: BTreeMap<String, Elements> = BTreeMap::new();
    for item in items {
        let Item::Entry(Entry { key, form, body, part, .. }) = item else { continue };
        let key = String::from_utf8(key.clone()).unwrap();
        let new = if form.is_stream() {
            Elements::String(body.clone())
        } else {
            elements(body).unwrap_or_else(|| panic!("{key} is a {form:?} that cannot be read"))
        };
        match (part, contents.get_mut(&key)) {
            (Part::Whole | Part::First, None) => drop(contents.insert(key, new)),
            (Part::Next | Part::Last, Some(before)) => match (before, new) {
                (Elements::List(all), Elements::List(new))
                | (Elements::Set(all), Elements::Set(new)) => all.extend(new),
                (Elements::Hash(all), Elements::Hash(new)) => all.extend(new),
                (Elements::Zset(all), Elements::Zset(new)) => all.extend(new),
                (before, new) => panic!("{before:?} goes on as {new:?}"),
            },
            (part, before) => panic!("{key} comes {part:?} after {before:?}"),
        }
    }
    // Neither sets nor hashes have an order.
    for value in contents.values_mut() {
        match value {
            Elements::Set(all) => all.sort(),
            Elements::Hash(all) => all.sort(),
            Elements::Zset(all) => all.sort(),
            Elements::String(_) | Elements::List(_) => {}
        }
    }
    contents
}

fn texts(all: &[&str]) -> Vec<Vec<u8>> {
    all.iter().map(|text| text.as_bytes().to_vec()).collect()
}

#[test]
fn a_real_server_s_snapshot_comes_out_whole() {
    for (name, bytes) in [("packed", PACKED), ("general", GENERAL)] {
        let items = items(bytes, rdb::file::PART_BYTES).unwrap();
        let contents = contents(&items);
        let has = |key: &str, value: Elements| assert_eq!(contents[key], value, "{name}: {key}");
        has("text", Elements::String(b"hello".to_vec()));
        has("number", Elements::String(b"12345".to_vec()));
        has("long", Elements::String(b"ab".repeat(200)));
        has("list", Elements::List(texts(&["a", "b", "3"])));
        has("ints", Elements::Set(texts(&["1", "2", "30000"])));
        has("set", Elements::Set(texts(&["a", "b", "c"])));
        let field = |field: &str, value: &str| (field.into(), value.into(), 0);
        has("hash", Elements::Hash(vec![field("f", "v"), field("g", "7")]));
        let member = |member: &str, score: &str| (member.into(), score.into());
        let zset = vec![member("a", "1.5"), member("b", "-inf"), member("c", "inf")];
        has("zset", Elements::Zset(zset));
        for (key, count) in [("biglist", 40), ("bigset", 40), ("bighash", 40), ("bigzset", 40)] {
            let found = match &contents[key] {
                Elements::List(all) | Elements::Set(all) => all.len(),
                Elements::Hash(all) => all.len(),
                Elements::Zset(all) => all.len(),
                Elements::String(_) => 0,
            };
            assert_eq!(found, count, "{name}: {key}");
        }
        let dying = items.iter().find_map(|item| match item {
            Item::Entry(entry) if entry.key == b"dying" => entry.expire_ms,
            _ => None,
        });
        assert_eq!(dying, Some(4_102_444_800_000), "{name}");
        let about = |what: &[u8]| items.iter().any(|i| matches!(i, Item::About(k, _) if k == what));
        assert!(about(b"redis-ver") && about(b"repl-stream-db") == about(b"repl-id"));
        let library = |i: &Item| matches!(i, Item::Library(t) if t.starts_with(b"#!lua name=lib"));
        assert!(items.iter().any(library), "{name}");
        let databases = items.iter().filter(|i| matches!(i, Item::Database(_)));
        assert_eq!(databases.count(), 2, "{name}");
    }
}

#[test]
fn parts_come_to_the_whole() {
    let whole = contents(&items(GENERAL, rdb::file::PART_BYTES).unwrap());
    for part_bytes in [1, 7, 64, 500] {
        let parts = items(GENERAL, part_bytes).unwrap();
        let parted = parts.iter().filter(|i| matches!(i, Item::Entry(e) if e.part == Part::Next));
        assert!(part_bytes > 10 || parted.count() > 100, "nothing came in parts");
        assert_eq!(contents(&parts), whole, "parts of {part_bytes} bytes");
    }
}

#[test]
fn a_value_s_bytes_are_what_restore_takes() {
    for item in items(PACKED, rdb::file::PART_BYTES).unwrap() {
        let Item::Entry(entry) = item else { continue };
        let sealed = seal(entry.body.clone());
        let mut load = Load::new(&sealed).unwrap();
        assert_eq!(load.form(), Some(entry.form));
        assert_eq!(&sealed[..entry.body.len()], entry.body);
        assert_eq!(sealed[entry.body.len()..][..2], entry.form.version().to_le_bytes());
    }
}

#[test]
fn every_changed_byte_is_noticed() {
    for at in 0..PACKED.len() {
        let mut bytes = PACKED.to_vec();
        bytes[at] ^= 0x20;
        // A changed version may be one that has the same forms.
        let excused = (5..9).contains(&at);
        assert!(items(&bytes, 1 << 20).is_err() || excused, "byte {at} was not missed");
    }
    for end in 0..PACKED.len() {
        assert!(items(&PACKED[..end], 1 << 20).is_err(), "cut at {end}");
    }
}

fn snapshot(body: &[u8]) -> Vec<u8> {
    let mut bytes = b"REDIS0012".to_vec();
    bytes.extend_from_slice(body);
    bytes.push(255);
    bytes.extend_from_slice(&[0; 8]);
    bytes
}

#[test]
fn forms_of_redis_7_4_and_of_old_ones() {
    // A hash with fields that expire: 1000 is the earliest, `b` 5 ms later, `c` never.
    let mut dump = Dump::new(Form::HashFields);
    let key = |dump: &mut Dump| dump.string(b"key");
    key(&mut dump);
    dump.time(1000);
    dump.length(3);
    for (later, field) in [(1, "a"), (6, "b"), (0, "c")] {
        dump.length(later);
        dump.string(field.as_bytes());
        dump.string(b"v");
    }
    let want = |at: &[(&str, u64)]| {
        Elements::Hash(
            at.iter().map(|(f, at)| (f.as_bytes().to_vec(), b"v".to_vec(), *at)).collect(),
        )
    };
    for part_bytes in [1, 1 << 20] {
        let items = items(&snapshot(&dump_bytes(&dump)), part_bytes).unwrap();
        assert_eq!(items.len(), if part_bytes == 1 { 3 } else { 1 });
        let found = contents(&items);
        assert_eq!(found["key"], want(&[("a", 1000), ("b", 1005), ("c", 0)]));
    }
    // The same as a listpack: entries are a text, a text, a number.
    let mut dump = Dump::new(Form::HashListpackTimes);
    key(&mut dump);
    dump.time(100);
    dump.string(b"\x0f\0\0\0\x03\0\x81a\x02\x81v\x02\x64\x01\xff");
    let found = contents(&items(&snapshot(&dump_bytes(&dump)), 1).unwrap());
    assert_eq!(found["key"], want(&[("a", 100)]));
    // Scores as texts.
    let mut dump = Dump::new(Form::ZsetText);
    key(&mut dump);
    dump.length(2);
    dump.string(b"m");
    dump.bytes(b"\x031.5");
    dump.string(b"n");
    dump.bytes(&[254]);
    let found = contents(&items(&snapshot(&dump_bytes(&dump)), 1).unwrap());
    let zset = vec![(b"m".to_vec(), b"1.5".to_vec()), (b"n".to_vec(), b"inf".to_vec())];
    assert_eq!(found["key"], Elements::Zset(zset));
}

fn dump_bytes(dump: &Dump) -> Vec<u8> {
    let mut whole = Dump::part();
    whole.append(dump);
    whole.into_bytes()
}

#[test]
fn what_a_module_wrote_is_passed_over_and_named() {
    // `ReJSON-RL` in version 3, as its own characters say.
    let characters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let id = "ReJSON-RL".chars().fold(0u64, |id, c| id << 6 | characters.find(c).unwrap() as u64);
    let mut dump = Dump::part();
    dump.bytes(&[7]);
    dump.string(b"document");
    dump.length(id << 10 | 3);
    for (kind, bytes) in [(2, &b"\x05"[..]), (4, &[0; 8]), (5, b"\x02{}"), (3, &[0; 4])] {
        dump.length(kind);
        dump.bytes(bytes);
    }
    dump.bytes(b"\0\0\x01k\x01v");
    let found = items(&snapshot(&dump.into_bytes()), 1 << 20).unwrap();
    let of_module = Item::OfModule { key: b"document".to_vec(), kind: "ReJSON-RL".to_owned() };
    assert_eq!(found[0], of_module);
    assert!(matches!(&found[1], Item::Entry(entry) if entry.key == b"k"));
    let unknown = items(&snapshot(b"\x63\x01k"), 1 << 20).unwrap_err();
    assert!(matches!(unknown, Error::Unknown { number: 99, at: 9 }), "{unknown}");
    assert!(matches!(items(b"REDIS0099", 1), Err(Error::Version(99))));
    assert!(matches!(items(b"MONGO0009", 1), Err(Error::Magic)));
}

proptest! {
    #[test]
    fn no_bytes_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200), part_bytes in 1usize..64,
        form in 0usize..Form::ALL.len(),
    ) {
        let _ = items(&snapshot(&bytes), part_bytes);
        let mut keyed = vec![Form::ALL[form] as u8, 1, b'k'];
        keyed.extend_from_slice(&bytes);
        let _ = items(&snapshot(&keyed), part_bytes);
        let mut body = vec![Form::ALL[form] as u8];
        body.extend_from_slice(&bytes);
        let _ = elements(&body);
    }

    #[test]
    fn damage_never_panics(at in 0usize..10_000, byte in any::<u8>(), part_bytes in 1usize..64) {
        for original in [PACKED, GENERAL] {
            let mut bytes = original.to_vec();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = items(&bytes, part_bytes);
        }
    }
}
