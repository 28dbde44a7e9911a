use proptest::collection::vec;
use proptest::prelude::*;
use wal::log::{BLOCK, Cause, Damage, LogDecoder};

use crate::make;

/// Every record until there are no more, and what stopped it.
fn read(chunks: &[&[u8]]) -> (Vec<Vec<u8>>, Option<Damage>, LogDecoder) {
    let mut decoder = LogDecoder::new();
    let mut records = Vec::new();
    for chunk in chunks {
        decoder.feed(chunk);
        loop {
            match decoder.next() {
                Ok(Some(record)) => records.push(record.bytes.to_vec()),
                Ok(None) => break,
                Err(damage) => return (records, Some(damage), decoder),
            }
        }
    }
    (records, None, decoder)
}

/// Records of all sizes, some of several blocks, some that end where a block does.
fn records() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let len = prop_oneof![
        4 => 0_usize..100,
        2 => BLOCK - 40..BLOCK + 10,
        1 => 2 * BLOCK..4 * BLOCK,
    ];
    vec((len, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]), 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_bytes_are_records_or_damage(bytes in vec(any::<u8>(), 0..2000), small in any::<bool>()) {
        // Small numbers make it past the header more often.
        let bytes: Vec<u8> = bytes.iter().map(|b| if small { b % 12 } else { *b }).collect();
        read(&[&bytes]);
    }

    #[test]
    fn records_read_back_however_they_arrive(
        records in records(),
        cuts in vec(any::<prop::sample::Index>(), 0..10),
    ) {
        let (file, ends) = make::log_file(&records);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(file.len() + 1)).collect();
        cuts.extend([0, file.len()]);
        cuts.sort_unstable();
        let chunks: Vec<_> = cuts.windows(2).map(|w| &file[w[0]..w[1]]).collect();
        let (found, damage, decoder) = read(&chunks);
        prop_assert_eq!((found == records, damage), (true, None));
        prop_assert_eq!(decoder.end(), ends.last().copied().unwrap_or(0) as u64);
        prop_assert_eq!((decoder.offset(), decoder.pending()), (file.len() as u64, 0));
    }

    #[test]
    fn a_cut_file_has_the_records_before_the_cut(
        records in records(),
        cuts in vec(any::<prop::sample::Index>(), 16),
    ) {
        let (file, ends) = make::log_file(&records);
        for cut in cuts.iter().map(|cut| cut.index(file.len() + 1)) {
            let (found, damage, decoder) = read(&[&file[..cut]]);
            let whole = ends.iter().filter(|&&end| end <= cut).count();
            prop_assert_eq!((found == records[..whole], damage), (true, None), "cut at {}", cut);
            let end = ends[..whole].last().copied().unwrap_or(0);
            prop_assert_eq!(decoder.pending(), (cut - end) as u64);
        }
    }

    #[test]
    fn a_flipped_bit_never_becomes_a_record(
        records in records(),
        bits in vec(any::<prop::sample::Index>(), 16),
    ) {
        let (file, _) = make::log_file(&records);
        prop_assume!(!file.is_empty());
        for bit in bits.iter().map(|bit| bit.index(file.len() * 8)) {
            let mut file = file.clone();
            file[bit / 8] ^= 1 << (bit % 8);
            let (found, _, _) = read(&[&file]);
            prop_assert!(records.starts_with(&found), "bit {}", bit);
        }
    }

    #[test]
    fn zeros_after_the_records_are_no_damage(records in records(), zeros in 0_usize..3 * BLOCK) {
        let (mut file, _) = make::log_file(&records);
        file.resize(file.len() + zeros, 0);
        let (found, damage, _) = read(&[&file]);
        prop_assert_eq!((found == records, damage), (true, None));
    }
}

#[test]
fn each_type_of_piece_is_read_ignored_or_refused() {
    let check = |kinds: &[u8], records: usize, expected: Option<(u64, Cause)>| {
        let mut file = Vec::new();
        for kind in kinds {
            make::log_piece(&mut file, *kind, b"abc");
        }
        let (found, damage, _) = read(&[&file]);
        assert_eq!(
            (found.len(), damage.map(|d| (d.offset, d.cause))),
            (records, expected),
            "{kinds:?}"
        );
    };
    check(&[1, 2, 3, 4, 1], 3, None);
    check(&[130, 1, 200, 1], 2, None);
    check(&[1, 3], 1, Some((10, Cause::NoStart)));
    check(&[1, 4], 1, Some((10, Cause::NoStart)));
    check(&[2, 1], 0, Some((10, Cause::NoEnd)));
    check(&[2, 2], 0, Some((10, Cause::NoEnd)));
    check(&[2, 130, 4], 0, Some((10, Cause::NoEnd)));
    check(&[9, 1], 0, Some((0, Cause::Compressed)));
    check(&[10, 1], 0, Some((0, Cause::Timestamps)));
    for kind in [5, 6, 7, 8, 11, 131] {
        check(&[1, kind], 1, Some((10, Cause::Recycled(kind))));
    }
    for kind in [0, 12, 127] {
        check(&[1, kind], 1, Some((10, Cause::Unknown(kind))));
    }
}

#[test]
fn damage_is_said_with_its_place_and_stays() {
    let (mut file, _) = make::log_file(&[b"one".to_vec(), b"two".to_vec()]);
    file[17] ^= 1;
    let mut decoder = LogDecoder::new();
    decoder.feed(&file);
    assert_eq!(decoder.next().unwrap().unwrap().bytes, b"one");
    let damage = decoder.next().unwrap_err();
    assert_eq!(damage.offset, 10);
    assert!(matches!(damage.cause, Cause::Length(_) | Cause::Checksum { .. }), "{damage}");
    decoder.feed(&file);
    assert_eq!(decoder.next(), Err(damage));

    let mut file = vec![0; 100];
    file[50] = 1;
    assert_eq!(read(&[&file]).1, Some(Damage { offset: 0, cause: Cause::Zeros }));
    let mut file = Vec::new();
    make::log_piece(&mut file, 2, b"begun");
    file.resize(BLOCK, 0);
    assert_eq!(read(&[&file]).1, Some(Damage { offset: 12, cause: Cause::NoEnd }));
    file.truncate(BLOCK - 1);
    assert_eq!(read(&[&file]).1, None, "more may come");
}

#[test]
fn an_empty_first_piece_at_the_end_of_a_block_is_begun_again() {
    let mut file = Vec::new();
    make::log_piece(&mut file, 1, &[7; BLOCK - 14]);
    make::log_piece(&mut file, 2, b"");
    make::log_piece(&mut file, 1, b"again");
    let (found, damage, _) = read(&[&file]);
    assert_eq!((found.len(), damage), (2, None));
    assert_eq!(found[1], b"again");
}
