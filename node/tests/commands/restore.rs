//! RESTORE of what every Redis dumps, in its packed forms.

use crate::node::{Client, Node};

/// What was dumped, in hexadecimal digits, and how it is shown. Those of Redis 7.0 are from its own
/// DUMP; it restores the older ones to the same.
const DUMPED: [(&str, &str, &str); 13] = [
    (
        "a compressed string of Redis 7.0",
        "00c310405008616263646566676861e03c070167680a000db0c4745d888f3c",
        "GETRANGE k 0 9 => abcdefghab",
    ),
    (
        "an intset",
        "0b140400000003000000ffffffff05000000701101000a00efdab8fb74444e88",
        "SORT k => [-1 5 70000]",
    ),
    (
        "a hash in a listpack of Redis 7.0",
        "101d1d0000000400856669656c640601018474657874058576616c756506ff0a009515ae0196328998",
        "HGETALL k => [field 1 text value]",
    ),
    (
        "a sorted set in a listpack of Redis 7.0",
        "111d1d0000000600816102842d696e660581620283322e35048163020301ff0a003d6ff896e00372e1",
        "ZRANGE k 0 -1 WITHSCORES => [a -inf b 2.5 c 3]",
    ),
    (
        "a list of listpacks of Redis 7.0",
        "1203020d0d0000000200816102dffb02ff02111100000002008363636304f2a0860104ff020a0a0000000100816502ff0a008adcb63874777f39",
        "LRANGE k 0 -1 => [a -5 ccc 100000 e]",
    ),
    (
        "a set in a listpack of Redis 7.2",
        "140c0c00000002008161020501ff0b0098347b5d798dab9c",
        "SMEMBERS k => [5 a]",
    ),
    (
        "a hash with times in a listpack of Redis 7.4",
        "1900409452a30300001f1f0000000600816602817602f400409452a3030000098167028177020001ff0c00920dea8ea4f54062",
        "HPEXPIRETIME k FIELDS 2 f g => [4000000000000 -1]",
    ),
    (
        "a zipmap",
        "09100201660100760167020377772d2d2dff09006cb2c792be2617d8",
        "HGETALL k => [f v g ww]",
    ),
    (
        "a list in a ziplist",
        "0a14140000000f000000030000016103f302c0d4feff0900fbcd68afbc76befe",
        "LRANGE k 0 -1 => [a 2 -300]",
    ),
    (
        "a sorted set in a ziplist",
        "0c18180000001500000004000001610303312e3505016203f4ff090051d2ba65f8f6c318",
        "ZRANGE k 0 -1 WITHSCORES => [a 1.5 b 3]",
    ),
    (
        "a hash in a ziplist",
        "0d171700000013000000040000016603017603016e03feffff090075587fa6285ba4a7",
        "HGETALL k => [f v n -1]",
    ),
    (
        "a list of ziplists",
        "0e0211110000000d0000000200000161030162ff0e0e0000000a0000000100000163ff0900a3d1643a21af14e9",
        "LRANGE k 0 -1 => [a b c]",
    ),
    (
        "a sorted set with scores as texts",
        "03030161ff016203312e350163fe0900f679292c17fc2b6c",
        "ZRANGE k 0 -1 WITHSCORES => [a -inf b 1.5 c inf]",
    ),
];

fn bytes(digits: &str) -> Vec<u8> {
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}

fn restore(client: &mut Client, payload: &[u8]) -> String {
    let mut request = Vec::new();
    resp::command::write(&mut request, &[&b"RESTORE"[..], b"k", b"0", payload, b"REPLACE"]);
    client.send(&request);
    crate::node::show(&client.read())
}

#[test]
fn every_form_of_every_redis_is_restored() {
    let node = Node::new();
    let mut client = node.client();
    for (what, dumped, shown) in DUMPED {
        assert_eq!(restore(&mut client, &bytes(dumped)), "OK", "{what}");
        client.story(shown);
    }
}

#[test]
fn what_is_damaged_or_from_later_is_refused() {
    let node = Node::new();
    let mut client = node.client();
    let mut payload = bytes(DUMPED[2].1);
    payload[4] ^= 1;
    let wrong = "(ERR DUMP payload version or checksum are wrong)";
    assert_eq!(restore(&mut client, &payload), wrong);
    assert_eq!(restore(&mut client, &bytes("00c30a00000000")), wrong);
    client.story("EXISTS k => 0");
}
