//! Each form as Redis writes it, and any bytes at all.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use packed::{Malformed, intset, listpack, lzf, ziplist, zipmap};
use proptest::prelude::*;

fn texts(entries: Result<packed::Entries<'_>, Malformed>) -> Vec<String> {
    let entries = entries.unwrap().into_iter();
    entries.map(|entry| String::from_utf8(entry.into_owned()).unwrap()).collect()
}

fn with_end(mut body: Vec<u8>) -> Vec<u8> {
    body.push(0xff);
    body
}

/// Of entries without the length that stands behind each.
fn listpack_of(entries: &[&[u8]]) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend_from_slice(&(entries.len() as u16).to_le_bytes());
    for entry in entries {
        body.extend_from_slice(entry);
        match entry.len() {
            length @ 0..0x80 => body.push(length as u8),
            length => body.extend_from_slice(&[(length >> 7) as u8, length as u8 | 0x80]),
        }
    }
    let mut bytes = with_end(body);
    let length = bytes.len() as u32;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes
}

/// Of entries without the length of the one before each.
fn ziplist_of(entries: &[&[u8]]) -> Vec<u8> {
    let mut body = vec![0; 8];
    body.extend_from_slice(&(entries.len() as u16).to_le_bytes());
    let (mut before, mut last) = (0, body.len());
    for entry in entries {
        last = body.len();
        match before {
            length @ 0..0xfe => body.push(length as u8),
            length => {
                body.push(0xfe);
                body.extend_from_slice(&(length as u32).to_le_bytes());
            }
        }
        body.extend_from_slice(entry);
        before = body.len() - last;
    }
    let mut bytes = with_end(body);
    let length = bytes.len() as u32;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes[4..8].copy_from_slice(&(last as u32).to_le_bytes());
    bytes
}

#[test]
fn listpacks_have_texts_and_numbers() {
    let long = [&[0xe0 | 1, 0x2c][..], &[b'x'; 300]].concat();
    let longer = [&[0xf0, 3, 0, 0, 0][..], b"abc"].concat();
    let bytes = listpack_of(&[
        b"\x81a",
        &[127],
        &[0xdf, 0xff],
        &[0xcf, 0xff],
        &[0xf1, 0, 0x80],
        &[0xf2, 0xff, 0xff, 0x7f],
        &[0xf3, 0, 0, 0, 0x80],
        &[0xf4, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        &long,
        &longer,
    ]);
    let numbers = ["127", "-1", "4095", "-32768", "8388607", "-2147483648", "9223372036854775807"];
    let mut expected = vec!["a".to_owned()];
    expected.extend(numbers.map(str::to_owned));
    expected.extend(["x".repeat(300), "abc".to_owned()]);
    assert_eq!(texts(listpack(&bytes)), expected);
    // Redis 7.0: RPUSH l a 1 with `list-max-listpack-size 8`.
    let golden = [13, 0, 0, 0, 2, 0, 0x81, b'a', 2, 1, 1, 0xff];
    assert_eq!(listpack(&golden), Err(Malformed("listpack")), "its length is 12");
    let mut golden = golden;
    golden[0] = 12;
    assert_eq!(texts(listpack(&golden)), ["a", "1"]);
}

#[test]
fn ziplists_have_texts_and_numbers() {
    let long = [&[0x40 | 1, 0x2c][..], &[b'x'; 300]].concat();
    let longer = [&[0x80, 0, 0, 0, 3][..], b"abc"].concat();
    let bytes = ziplist_of(&[
        b"\x01a",
        &[0xf1],
        &[0xfd],
        &[0xfe, 0x80],
        &[0xc0, 0, 0x80],
        &[0xf0, 0xff, 0xff, 0x7f],
        &[0xd0, 0, 0, 0, 0x80],
        &[0xe0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        &long,
        &longer,
    ]);
    let numbers = ["0", "12", "-128", "-32768", "8388607", "-2147483648", "9223372036854775807"];
    let mut expected = vec!["a".to_owned()];
    expected.extend(numbers.map(str::to_owned));
    expected.extend(["x".repeat(300), "abc".to_owned()]);
    assert_eq!(texts(ziplist(&bytes)), expected);
    assert_eq!(texts(ziplist(&ziplist_of(&[]))), Vec::<String>::new());
    let mut wrong = bytes;
    wrong[13] ^= 1;
    assert!(ziplist(&wrong).is_err(), "the length of the entry before");
}

#[test]
fn zipmaps_intsets_and_lzf() {
    assert_eq!(texts(zipmap(b"\x02\x01f\x01\x00v\x01g\x02\x03ww---\xff")), ["f", "v", "g", "ww"]);
    assert!(zipmap(b"\x01\x01f\x01\x00v").is_err());
    assert_eq!(texts(intset(b"\x02\0\0\0\x02\0\0\0\xff\xff\x05\0")), ["-1", "5"]);
    assert!(intset(b"\x02\0\0\0\x02\0\0\0\x05\0\xff\xff").is_err(), "not in order");
    assert!(intset(b"\x03\0\0\0\x01\0\0\0\x05\0\0").is_err(), "a width that there is not");
    // One byte, then a copy of it eleven times.
    assert_eq!(lzf(b"\x00a\xe0\x02\x00", 12), Ok(b"aaaaaaaaaaaa".to_vec()));
    assert!(lzf(b"\x00a\xe0\x02\x01", 12).is_err(), "from before the start");
    assert!(lzf(b"\x00a", 1 << 40).is_err(), "nothing is allocated for such a length");
}

type Read = for<'a> fn(&'a [u8]) -> Result<packed::Entries<'a>, Malformed>;

proptest! {
    #[test]
    fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), length in 0usize..4000) {
        let _ = (listpack(&bytes), ziplist(&bytes), zipmap(&bytes), intset(&bytes));
        if let Ok(text) = lzf(&bytes, length) {
            prop_assert_eq!(text.len(), length);
        }
    }

    /// Bytes that are nearly right get further than those that are not.
    #[test]
    fn a_changed_byte_does_not_panic(at in 0usize..400, byte: u8) {
        let listpack_bytes = listpack_of(&[b"\x83abc", &[5], &[0xf1, 1, 2], &[0xf0, 1, 0, 0, 0, b'x']]);
        let ziplist_bytes = ziplist_of(&[b"\x03abc", &[0xf5], &[0xc0, 1, 2], &[0x80, 0, 0, 0, 1, b'x']]);
        for (mut bytes, read) in [
            (listpack_bytes, listpack as Read),
            (ziplist_bytes, ziplist),
            (b"\x02\x01f\x01\x00v\x01g\x02\x03ww---\xff".to_vec(), zipmap),
        ] {
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = read(&bytes);
        }
    }
}
