//! Golden vectors of `docs/formats.md`, "Streams", and properties of the encodings.

use keyspace::stream::{Consumer, Entry, Group, Header, Pending, StreamId, Subkey, write_entry};
use keyspace::{DecodeError, Hlc};
use proptest::prelude::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn encoded(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

const VERSION: Hlc = Hlc::new(1_700_000_000_000, 7);
const GOLDEN_HEADER: &str = "000000018bcfe568000000000000000003000000000000000100000000000000000000000000000002000000000000000503ac0201020781010202";
const GOLDEN_GROUP: &str = "00018bcfe5680000070000000000000005000000000000000100000000000000020000000000000000000000000000000500000000000000010002ac0204";
const ID: StreamId = StreamId::new(1, 2);

#[test]
fn a_header() {
    let header = Header {
        last: StreamId::new(1_700_000_000_000, 3),
        first: StreamId::new(1, 0),
        max_deleted: StreamId::new(2, 5),
        length: 3,
        added: 300,
        groups: 1,
        block: 2,
        block_entries: 7,
        block_bytes: 129,
        head_block: 2,
        head_entries: 2,
    };
    let bytes = encoded(|o| header.encode(o));
    assert_eq!(hex(&bytes), GOLDEN_HEADER);
    assert_eq!(Header::decode(&bytes), Ok(header));
    let mut later = bytes.clone();
    later[0] = 4;
    assert_eq!(Header::decode(&later), Err(DecodeError::Flags(4, "stream header")));
}

#[test]
fn an_entry() {
    let long = [b'x'; 130];
    let pairs: [(&[u8], &[u8]); 2] = [(b"field", b"value"), (b"", &long)];
    let bytes = encoded(|o| write_entry(200, pairs.into_iter(), o));
    assert_eq!(hex(&bytes), format!("c80102056669656c640576616c7565008201{}", "78".repeat(130)));
    let entry = Entry::decode(&bytes).unwrap();
    assert_eq!((entry.block, entry.fields), (200, 2));
    assert_eq!(entry.pairs().collect::<Result<Vec<_>, _>>(), Ok(pairs.to_vec()));
    // More than it says, and less.
    let longer = [&bytes[..], b"y"].concat();
    assert!(Entry::decode(&longer).unwrap().pairs().any(|pair| pair.is_err()));
    let shorter = Entry::decode(&bytes[..bytes.len() - 1]).unwrap();
    assert!(shorter.pairs().any(|pair| pair.is_err()));
    assert!(Entry::decode(&[1, 0xff, 0xff, 0xff, 0x7f]).is_err(), "more fields than bytes");
}

#[test]
fn a_group_its_consumers_and_pending_entries() {
    let group = Group {
        version: VERSION,
        last: StreamId::new(5, 1),
        read: None,
        consumers: 2,
        pending: 300,
        floor: StreamId::new(2, 0),
        top: StreamId::new(5, 1),
        acked: 4,
    };
    let bytes = encoded(|o| group.encode(o));
    assert_eq!(hex(&bytes), GOLDEN_GROUP);
    assert_eq!(Group::decode(&bytes), Ok(group));
    let consumer = Consumer { seen_ms: 1_700_000_000_000, active_ms: None, pending: 3 };
    let bytes = encoded(|o| consumer.encode(o));
    assert_eq!(hex(&bytes), "0080d095ffbc310003");
    assert_eq!(Consumer::decode(&bytes), Ok(consumer));
    let pending = Pending { delivered_ms: 1_700_000_000_000, deliveries: 2, consumer: b"alice" };
    let bytes = encoded(|o| pending.encode(o));
    assert_eq!(hex(&bytes), "0080d095ffbc3102616c696365");
    assert_eq!(Pending::decode(&bytes), Ok(pending));
}

#[test]
fn subkeys() {
    for (subkey, golden) in [
        (Subkey::Header, "00"),
        (Subkey::Entry(ID), "0100000000000000010000000000000002"),
        (Subkey::Group(b"g"), "0267"),
        (Subkey::Consumer(VERSION, b"alice"), "03018bcfe568000007616c696365"),
        (Subkey::Pending(VERSION, ID), "04018bcfe56800000700000000000000010000000000000002"),
        (
            Subkey::Owned(VERSION, b"alice", ID),
            "05018bcfe56800000700000005616c69636500000000000000010000000000000002",
        ),
    ] {
        assert_eq!(hex(&subkey.bytes()), golden);
        assert_eq!(Subkey::decode(&subkey.bytes()), Ok(subkey));
    }
    assert_eq!(Subkey::decode(&[9]), Err(DecodeError::Kind(9)));
    assert!(Subkey::decode(&[]).is_err() && Subkey::decode(&[0, 0]).is_err());
}

fn any_id() -> impl Strategy<Value = StreamId> {
    let number = || prop_oneof![any::<u64>(), 0..3u64, (u64::MAX - 2)..];
    (number(), number()).prop_map(|(ms, seq)| StreamId::new(ms, seq))
}

proptest! {
    #[test]
    fn ids_sort_as_their_bytes(a in any_id(), b in any_id()) {
        prop_assert_eq!(a.cmp(&b), a.bytes().cmp(&b.bytes()));
        prop_assert_eq!(StreamId::from_bytes(a.bytes()), a);
        if let Some(next) = a.next() {
            prop_assert!(next > a && next.previous() == Some(a));
        }
        prop_assert_eq!(a.next().is_none(), a == StreamId::MAX);
    }

    #[test]
    fn nothing_panics_and_what_decodes_encodes_to_the_same_bytes(
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), 0..6u8], 0..90),
    ) {
        if let Ok(header) = Header::decode(&bytes) {
            prop_assert_eq!(&encoded(|o| header.encode(o)), &bytes);
        }
        if let Ok(subkey) = Subkey::decode(&bytes) {
            prop_assert_eq!(&subkey.bytes(), &bytes);
        }
        if let Ok(group) = Group::decode(&bytes) {
            prop_assert_eq!(&encoded(|o| group.encode(o)), &bytes);
        }
        if let Ok(consumer) = Consumer::decode(&bytes) {
            prop_assert_eq!(&encoded(|o| consumer.encode(o)), &bytes);
        }
        if let Ok(pending) = Pending::decode(&bytes) {
            prop_assert_eq!(&encoded(|o| pending.encode(o)), &bytes);
        }
        if let Ok(entry) = Entry::decode(&bytes)
            && let Ok(pairs) = entry.pairs().collect::<Result<Vec<_>, _>>()
            && !pairs.is_empty()
        {
            prop_assert_eq!(&encoded(|o| write_entry(entry.block, pairs.into_iter(), o)), &bytes);
        }
    }

    #[test]
    fn what_is_written_reads_back(
        numbers in prop::array::uniform8(any::<u64>()),
        ids in (any_id(), any_id(), any_id()),
        pairs in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 0..9), prop::collection::vec(any::<u8>(), 0..200)),
            0..9,
        ),
        name in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let [length, added, groups, block, block_entries, block_bytes, head_block, head_entries] =
            numbers;
        let (last, first, max_deleted) = ids;
        let header = Header {
            last, first, max_deleted, length, added, groups, block, block_entries, block_bytes,
            head_block, head_entries,
        };
        prop_assert_eq!(Header::decode(&encoded(|o| header.encode(o))), Ok(header));
        let given: Vec<_> = pairs.iter().map(|(f, v)| (&f[..], &v[..])).collect();
        let bytes = encoded(|o| write_entry(block, given.iter().copied(), o));
        let entry = Entry::decode(&bytes).unwrap();
        prop_assert_eq!(entry.block, block);
        prop_assert_eq!(entry.pairs().collect::<Result<Vec<_>, _>>(), Ok(given));
        for subkey in [
            Subkey::Group(&name), Subkey::Consumer(VERSION, &name), Subkey::Pending(VERSION, last),
            Subkey::Owned(VERSION, &name, first),
        ] {
            let bytes = subkey.bytes();
            prop_assert_eq!(Subkey::decode(&bytes), Ok(subkey));
        }
    }

    #[test]
    fn a_consumers_entries_are_a_range(
        name in prop::collection::vec(any::<u8>(), 0..6),
        other in prop::collection::vec(any::<u8>(), 0..6),
        ids in (any_id(), any_id()),
    ) {
        let of = |name: &[u8], id| Subkey::Owned(VERSION, name, id).bytes();
        let range = of(&name, StreamId::MIN)..=of(&name, StreamId::MAX);
        prop_assert!(range.contains(&of(&name, ids.0)));
        prop_assert_eq!(range.contains(&of(&other, ids.1)), name == other);
    }
}
