use keyspace::{Cf, Slot, SlotSet};
use proptest::collection::vec;
use proptest::prelude::*;
use wal::Sequence;
use wal::batch::{BatchBuilder, BatchError, BatchRef, Projection, Record, project};

use crate::make::{self, Op};

fn records(bytes: &[u8]) -> Vec<Op> {
    let batch = BatchRef::parse(bytes).unwrap();
    batch
        .records()
        .map(|record| match record {
            Record::Put { cf, key, value } => Op::Put(cf, key.to_vec(), value.to_vec()),
            Record::Delete { cf, key } => Op::Delete(cf, key.to_vec()),
            Record::DeleteRange { cf, begin, end } => {
                Op::DeleteRange(cf, begin.to_vec(), end.to_vec())
            }
            Record::LogData(bytes) => {
                let tag = wal::Tag::decode(bytes).unwrap();
                Op::Tag(tag.epoch, tag.stamp.0)
            }
            other => panic!("nobody wrote {other:?}"),
        })
        .collect()
}

/// Whether the last operation on this key of this family, if any, was of these operations.
fn state(ops: &[Op], cf: Cf, key: &[u8]) -> Option<Option<Vec<u8>>> {
    ops.iter().rev().find_map(|op| match op {
        Op::Put(f, k, v) if *f == cf && k == key => Some(Some(v.clone())),
        Op::Delete(f, k) if *f == cf && k == key => Some(None),
        Op::DeleteRange(f, a, b) if *f == cf && &a[..] <= key && key < &b[..] => Some(None),
        _ => None,
    })
}

proptest! {
    #[test]
    fn any_bytes_are_a_batch_or_an_error(bytes in vec(any::<u8>(), 0..300)) {
        if let Ok(batch) = BatchRef::parse(&bytes) {
            let _ = batch.tags().count() + batch.records().count();
        }
    }

    #[test]
    fn what_is_built_reads_back(ops in vec(make::ops(), 0..12), sequence in 1_u64..1 << 50) {
        let bytes = make::batch(sequence, &ops);
        let batch = BatchRef::parse(&bytes).unwrap();
        prop_assert_eq!(batch.sequence(), Sequence(sequence));
        prop_assert_eq!(batch.end(), Sequence(sequence + u64::from(batch.count()) - 1));
        prop_assert_eq!(format!("{:?}", records(&bytes)), format!("{ops:?}"));
    }

    #[test]
    fn a_cut_batch_is_an_error(ops in vec(make::ops(), 1..6), cut in any::<prop::sample::Index>()) {
        let bytes = make::batch(1, &ops);
        let cut = &bytes[..cut.index(bytes.len())];
        // Only a cut before log data at the end leaves a batch, which says as many as it has.
        if let Ok(batch) = BatchRef::parse(cut) {
            let whole = BatchRef::parse(&bytes).unwrap();
            prop_assert!(batch.count() == whole.count());
        }
    }

    #[test]
    fn a_projection_does_to_kept_slots_what_the_batch_does_and_nothing_to_others(
        ops in vec(make::ops(), 0..12),
        keep in make::slot_sets(),
        probes in vec((make::families(), make::keys()), 32),
    ) {
        let bytes = make::batch(9, &ops);
        let mut out = b"before".to_vec();
        let projection = project(&BatchRef::parse(&bytes).unwrap(), &keep, &mut out).unwrap();
        prop_assert_eq!(&out[..6], b"before");
        let projected = BatchRef::parse(&out[6..]).unwrap();
        prop_assert_eq!(projected.sequence(), Sequence(9));
        prop_assert_eq!(projection.emptied, projected.count() == 0);
        prop_assert_eq!(projection.whole, out[6..] == bytes[..]);
        prop_assert!(!projected.touches(Cf::System));
        let left = records(&out[6..]);
        let named = ops.iter().filter_map(|op| match op {
            Op::Put(f, k, _) | Op::Delete(f, k) | Op::DeleteRange(f, k, _) => Some((*f, k.clone())),
            Op::Tag(..) => None,
        });
        for (cf, key) in named.chain(probes) {
            let slot = Slot::of_encoded(&key).unwrap();
            let expected =
                if cf.is_shipped() && keep.contains(slot) { state(&ops, cf, &key) } else { None };
            prop_assert_eq!(state(&left, cf, &key), expected, "{:?} {:?}", cf, key);
        }
        let tags = |ops: &[Op]| ops.iter().filter(|op| matches!(op, Op::Tag(..))).count();
        prop_assert_eq!(tags(&left), tags(&ops));
    }
}

#[test]
fn every_tag_of_rocksdb_is_known_or_refused_by_name() {
    for tag in 0..=255_u8 {
        let mut bytes = vec![0; 12];
        bytes[8] = u8::from(tag != 3);
        // A column family, a key and a value, whichever of them the record has.
        bytes.extend_from_slice(&[tag, 1, 2, 0, 7, 1, b'v']);
        let answer = BatchRef::parse(&bytes);
        let refused = matches!(answer, Err(BatchError::Unsupported { .. }));
        let unknown = matches!(answer, Err(BatchError::Unknown { .. }));
        let expected = match tag {
            0x00..=0x08 | 0x0E | 0x0F => (false, false),
            0x09..=0x0D | 0x10..=0x19 => (true, false),
            0x1A.. => (false, true),
        };
        assert_eq!((refused, unknown), expected, "tag {tag:#x}: {answer:?}");
    }
}

#[test]
fn a_batch_that_lies_is_refused() {
    let good = {
        let mut batch = BatchBuilder::new(Sequence(5));
        batch.put(Cf::Data, b"\0\x07key", b"value").delete(Cf::Meta, b"\0\x07key");
        batch.finish()
    };
    let check = |change: &dyn Fn(&mut Vec<u8>), expected: BatchError| {
        let mut bytes = good.clone();
        change(&mut bytes);
        assert_eq!(BatchRef::parse(&bytes), Err(expected));
    };
    assert!(BatchRef::parse(&good).is_ok());
    check(&|b| b.truncate(11), BatchError::Short(11));
    check(&|b| b[8] = 1, BatchError::Count { said: 1, found: 2 });
    check(&|b| b[13] = 4, BatchError::Family { id: 4, offset: 12 });
    check(&|b| b[14] = 0xff, BatchError::Cut { offset: 12 });
    check(&|b| b[7] = 1, BatchError::Sequence { sequence: 5 + (1 << 56), count: 2 });
    // A length of more than 32 bits.
    let long = |b: &mut Vec<u8>| {
        b.splice(14..15, [0xff, 0xff, 0xff, 0xff, 0x7f]);
    };
    check(&long, BatchError::Cut { offset: 12 });
}

#[test]
fn a_projection_of_all_slots_is_the_batch_itself_and_a_foreign_key_is_refused() {
    let ops = [
        Op::Put(Cf::Meta, vec![0x3f, 0xff, 1], vec![1]),
        Op::DeleteRange(Cf::Score, vec![0, 0], vec![0x40, 0]),
        Op::Tag(1, 1),
    ];
    let bytes = make::batch(1, &ops);
    let mut out = Vec::new();
    let projection = project(&BatchRef::parse(&bytes).unwrap(), &SlotSet::all(), &mut out).unwrap();
    assert_eq!((projection, &out), (Projection { emptied: false, whole: true }, &bytes));

    let foreign = make::batch(1, &[ops[0].clone(), Op::Delete(Cf::Data, vec![0x40, 0])]);
    out.clear();
    let answer = project(&BatchRef::parse(&foreign).unwrap(), &SlotSet::all(), &mut out);
    assert_eq!((answer, out.len()), (Err(BatchError::NoSlot { record: 1 }), 0));
}

#[test]
fn records_of_a_shard_go_to_every_target() {
    let mut library = Vec::new();
    keyspace::library::encode_key("mine", &mut library);
    let bytes = make::batch(1, &[Op::Put(Cf::Data, library, vec![1])]);
    let mut out = Vec::new();
    let none = SlotSet::default();
    let projection = project(&BatchRef::parse(&bytes).unwrap(), &none, &mut out).unwrap();
    assert_eq!((projection, &out), (Projection { emptied: false, whole: true }, &bytes));
}

#[test]
fn a_batch_of_node_local_records_is_emptied_and_keeps_its_tag() {
    let bytes = make::batch(3, &[Op::Put(Cf::System, b"x".to_vec(), vec![]), Op::Tag(4, 5)]);
    let batch = BatchRef::parse(&bytes).unwrap();
    assert!(batch.is_local());
    let mut out = Vec::new();
    let projection = project(&batch, &SlotSet::all(), &mut out).unwrap();
    assert_eq!(projection, Projection { emptied: true, whole: false });
    let left = BatchRef::parse(&out).unwrap();
    assert_eq!((left.sequence(), left.count()), (Sequence(3), 0));
    assert_eq!(left.tags().map(|tag| tag.unwrap().epoch).collect::<Vec<_>>(), [4]);
}
