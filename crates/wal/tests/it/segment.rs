use proptest::collection::vec;
use proptest::prelude::*;
use wal::frame::Codec;
use wal::segment::{SegmentError, SegmentHeader, Tail, scan};

use crate::make::{self, Op};

fn frames() -> impl Strategy<Value = Vec<Vec<Vec<u8>>>> {
    vec(vec(make::ops(), 0..4), 1..8)
        .prop_map(|all| make::run(&all).chunks(2).map(<[_]>::to_vec).collect())
}

proptest! {
    #[test]
    fn any_bytes_are_a_segment_or_an_error(bytes in vec(any::<u8>(), 0..300)) {
        let _ = scan(&bytes);
        let (file, _) = make::segment(&[], Codec::None);
        let _ = scan(&[file, bytes].concat());
    }

    #[test]
    fn a_cut_segment_keeps_its_whole_frames(runs in frames(), codec in make::codecs()) {
        let (file, ends) = make::segment(&runs, codec);
        for cut in 0..=file.len() {
            let scanned = scan(&file[..cut]);
            let whole = ends.iter().filter(|&&end| end <= cut).count();
            if whole == 0 {
                prop_assert_eq!(scanned, Err(SegmentError::Short(cut)));
                continue;
            }
            let scanned = scanned.unwrap();
            prop_assert_eq!((scanned.frames as usize, scanned.valid), (whole - 1, ends[whole - 1]));
            let torn = cut - scanned.valid;
            let tail = if torn == 0 { Tail::Clean } else { Tail::Torn { len: torn } };
            prop_assert_eq!(scanned.tail, tail);
        }
    }

    #[test]
    fn a_flipped_bit_ends_a_segment_before_its_frame(
        runs in frames(),
        codec in make::codecs(),
        bits in vec(any::<prop::sample::Index>(), 64),
    ) {
        let (file, ends) = make::segment(&runs, codec);
        for bit in bits.into_iter().map(|bit| bit.index(file.len() * 8)) {
            let mut file = file.clone();
            file[bit / 8] ^= 1 << (bit % 8);
            let whole = ends.iter().filter(|&&end| end <= bit / 8).count();
            match scan(&file) {
                Err(_) => prop_assert_eq!(whole, 0),
                Ok(scanned) => {
                    prop_assert_eq!(scanned.frames as usize, whole - 1);
                    prop_assert!(matches!(scanned.tail, Tail::Damaged(_)), "{:?}", scanned.tail);
                }
            }
        }
    }
}

#[test]
fn what_a_power_cut_leaves_is_torn_and_a_frame_that_does_not_follow_is_a_gap() {
    let batches =
        make::run(&[vec![Op::Tag(1, 1)], vec![Op::Delete(keyspace::Cf::Data, vec![0, 1])]]);
    let (file, ends) = make::segment(&[vec![batches[1].clone()]], Codec::None);
    let zeros = [&file[..], &[0; 500]].concat();
    let scanned = scan(&zeros).unwrap();
    assert_eq!((scanned.frames, scanned.tail), (1, Tail::Torn { len: 500 }));

    let again = [&file[..], &file[ends[0]..]].concat();
    let scanned = scan(&again).unwrap();
    let gap = Tail::Gap { expected: make::position(1), found: make::position(0) };
    assert_eq!((scanned.frames, scanned.valid, scanned.tail), (1, file.len(), gap));
}

#[test]
fn a_header_reads_back_and_a_long_name_is_refused() {
    let header = SegmentHeader {
        service: 1,
        source: "eu-west/12".to_owned(),
        start: make::position(99),
        chain: wal::Chain(5),
    };
    let bytes = header.encode().unwrap();
    assert_eq!(SegmentHeader::decode(&bytes), Ok((header.clone(), bytes.len())));
    let long = SegmentHeader { source: "x".repeat(256), ..header };
    assert_eq!(long.encode(), Err(SegmentError::SourceTooLong(256)));
}
