//! Replies: what the writer writes, the scanner measures and the client reads.

#![allow(clippy::unwrap_used, reason = "a test")]

use proptest::prelude::*;
use resp::Version;
use resp::reply::{Reply, Scanner, Writer, scan};

fn written(version: Version, reply: &Reply) -> Vec<u8> {
    let mut out = Vec::new();
    reply.write(&mut Writer::new(&mut out, version));
    out
}

fn reply() -> impl Strategy<Value = Reply> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..20);
    let leaf = prop_oneof![
        "[A-Za-z ]{0,12}".prop_map(Reply::Simple),
        "ERR [a-z ]{0,12}".prop_map(Reply::Error),
        any::<i64>().prop_map(Reply::Integer),
        bytes().prop_map(Reply::Bulk),
        Just(Reply::Null),
        any::<bool>().prop_map(Reply::Boolean),
        proptest::num::f64::NORMAL.prop_map(Reply::Double),
        bytes().prop_map(|text| Reply::Verbatim(*b"txt", text)),
        "[1-9][0-9]{0,30}".prop_map(Reply::BigNumber),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        let many = || proptest::collection::vec(inner.clone(), 0..5);
        prop_oneof![
            many().prop_map(Reply::Array),
            many().prop_map(Reply::Set),
            many().prop_map(Reply::Push),
            proptest::collection::vec((inner.clone(), inner.clone()), 0..4).prop_map(Reply::Map),
        ]
    })
}

#[test]
fn each_version_has_its_shapes() {
    let check = |reply: Reply, v2: &str, v3: &str| {
        assert_eq!(String::from_utf8(written(Version::V2, &reply)).unwrap(), v2);
        assert_eq!(String::from_utf8(written(Version::V3, &reply)).unwrap(), v3);
    };
    let one = || Reply::Integer(1);
    check(Reply::Null, "$-1\r\n", "_\r\n");
    check(Reply::Boolean(true), ":1\r\n", "#t\r\n");
    check(Reply::Double(0.5), "$3\r\n0.5\r\n", ",0.5\r\n");
    check(Reply::Map(vec![(one(), one())]), "*2\r\n:1\r\n:1\r\n", "%1\r\n:1\r\n:1\r\n");
    check(Reply::Set(vec![one()]), "*1\r\n:1\r\n", "~1\r\n:1\r\n");
    check(Reply::Push(vec![one()]), "*1\r\n:1\r\n", ">1\r\n:1\r\n");
    check(Reply::Verbatim(*b"txt", b"a".to_vec()), "$1\r\na\r\n", "=5\r\ntxt:a\r\n");
    check(Reply::BigNumber("12".to_owned()), "$2\r\n12\r\n", "(12\r\n");
    check(Reply::Error("ERR a\r\nb".to_owned()), "-ERR a  b\r\n", "-ERR a  b\r\n");
}

#[test]
fn an_attribute_belongs_to_the_reply_after_it() {
    let bytes = b"|1\r\n+ttl\r\n:3600\r\n*2\r\n:1\r\n$-1\r\n+next\r\n";
    assert_eq!(scan(bytes), Ok(Some(bytes.len() - 7)));
    let (reply, _) = Reply::parse(bytes).unwrap().unwrap();
    assert_eq!(reply, Reply::Array(vec![Reply::Integer(1), Reply::Null]));
}

#[test]
fn what_no_server_sends_is_refused() {
    for bad in [
        "?\r\n",
        "$x\r\n",
        "$-2\r\n",
        "%-1\r\n",
        "$99999999999\r\n",
        "*99999999999\r\n",
        "+a\rb\r\n",
    ] {
        assert!(scan(bad.as_bytes()).is_err(), "{bad:?}");
        assert!(Reply::parse(bad.as_bytes()).is_err(), "{bad:?}");
    }
    for bad in [":x\r\n", "#x\r\n", ",x\r\n", "=1\r\na\r\n", "_x\r\n"] {
        assert!(Reply::parse(bad.as_bytes()).is_err(), "{bad:?}");
    }
    // Measuring needs no stack; building has a bound.
    let deep = "*1\r\n".repeat(100_000) + ":1\r\n";
    assert_eq!(scan(deep.as_bytes()), Ok(Some(deep.len())));
    assert!(Reply::parse(deep.as_bytes()).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Reply::parse(&bytes);
        let length = scan(&bytes);
        if let Ok(Some(length)) = length {
            prop_assert!(length <= bytes.len());
        }
    }

    #[test]
    fn a_reply_reads_back_wherever_it_is_split(reply in reply()) {
        let mut bytes = written(Version::V3, &reply);
        let length = bytes.len();
        bytes.extend_from_slice(b"+next");
        prop_assert_eq!(Reply::parse(&bytes), Ok(Some((reply, length))));
        let mut scanner = Scanner::new();
        for cut in 0..length {
            prop_assert_eq!(scan(&bytes[..cut]), Ok(None));
            prop_assert_eq!(scanner.next(&bytes[..cut]), Ok(None));
        }
        prop_assert_eq!(scanner.next(&bytes), Ok(Some(length)));
    }

    #[test]
    fn resp2_has_one_reply_for_each(reply in reply()) {
        let bytes = written(Version::V2, &reply);
        prop_assert_eq!(scan(&bytes), Ok(Some(bytes.len())));
    }
}
