//! Sorted sets out of several, pops of many keys, subsequences, bits, and what OBJECT calls things.

use super::node::Node;

#[test]
fn sorted_sets_are_combined_and_stored() {
    Node::new().client().story(
        "ZADD a 1 x 2 y => 2
         ZADD b 10 y 20 z => 2
         SADD s y q => 2
         ZUNION 2 a b WITHSCORES => [x 1 y 12 z 20]
         ZINTER 3 a b s WEIGHTS 1 2 3 WITHSCORES => [y 25]
         ZUNION 2 a b AGGREGATE MIN WITHSCORES => [x 1 y 2 z 20]
         ZDIFF 2 a b WITHSCORES => [x 1]
         ZINTERCARD 2 a b LIMIT 0 => 1
         ZUNIONSTORE t 2 a b => 3
         ZRANGESTORE u t 1 -1 => 2
         ZRANGE u 0 -1 WITHSCORES => [y 12 z 20]
         ZDIFFSTORE t 1 none => 0
         EXISTS t => 0
         ZUNION 0 a => (ERR at least 1 input key is needed for 'zunion' command)
         ZUNION 3 a b => (ERR syntax error)
         SET text t => OK
         ZINTER 2 a text => (WRONGTYPE Operation against a key holding the wrong kind of value)",
    );
}

#[test]
fn many_keys_are_popped_in_order() {
    Node::new().client().story(
        "ZADD z 1 a 2 b 3 c => 3
         ZMPOP 2 none z MAX COUNT 2 => [z [[c 3] [b 2]]]
         ZMPOP 1 none MIN => nil
         ZMPOP 0 z MIN => (ERR numkeys should be greater than 0)
         RPUSH l a b c => 3
         LMPOP 2 none l LEFT COUNT 5 => [l [a b c]]
         LMPOP 1 l LEFT => nil
         LMPOP 1 l MIDDLE => (ERR syntax error)",
    );
}

#[test]
fn strings_have_subsequences_and_bits() {
    Node::new().client().story(
        "MSET a ohmytext b mynewtext => OK
         LCS a b => mytext
         LCS a b LEN => 6
         LCS a b IDX MINMATCHLEN 4 WITHMATCHLEN => [matches [[[4 7] [5 8] 4]] len 6]
         SETBIT bits 9 1 => 0
         GETBIT bits 9 => 1
         GETBIT bits 10000 => 0
         STRLEN bits => 2
         SETBIT bits 4294967296 1 => (ERR bit offset is not an integer or out of range)",
    );
}

#[test]
fn encodings_follow_their_thresholds() {
    Node::new().client().story(
        "HSET h f v => 1
         OBJECT ENCODING h => listpack
         HSET h g 12345678901234567890123456789012345678901234567890123456789012345 => 1
         OBJECT ENCODING h => hashtable
         SADD s 1 2 => 2
         OBJECT ENCODING s => intset
         ZADD z 1 m => 1
         OBJECT ENCODING z => listpack
         CONFIG GET zset-max-ziplist-entries => [zset-max-ziplist-entries 128]
         CONFIG SET zset-max-ziplist-entries 0 => OK
         OBJECT ENCODING z => skiplist
         CONFIG SET zset-max-listpack-entries 128 => OK",
    );
}

#[test]
fn what_is_dumped_is_restored() {
    let node = Node::new();
    let mut redis = node.redis();
    node.client().story(
        "SET string value => OK
         RPUSH list a b a => 3
         SADD set a b => 2
         HSET hash f v g w => 2
         ZADD zset 1.5 a -inf b => 2
         DUMP none => nil
         RESTORE k 0 junk => (ERR DUMP payload version or checksum are wrong)",
    );
    for key in ["string", "list", "set", "hash", "zset"] {
        let bytes: Vec<u8> = redis::cmd("DUMP").arg(key).query(&mut redis).unwrap();
        let copy = format!("{key}-copy");
        let restore = |ttl: u64| redis::cmd("RESTORE").arg(&copy).arg(ttl).arg(&bytes).clone();
        restore(0).exec(&mut redis).unwrap();
        let again: Vec<u8> = redis::cmd("DUMP").arg(&copy).query(&mut redis).unwrap();
        assert_eq!(bytes, again, "{key}");
        let taken = restore(0).exec(&mut redis).unwrap_err().to_string();
        assert!(taken.contains("BUSYKEY"), "{taken}");
        restore(100_000).arg("REPLACE").exec(&mut redis).unwrap();
    }
    node.client().story(
        "LRANGE list-copy 0 -1 => [a b a]
         ZRANGE zset-copy 0 -1 WITHSCORES => [b -inf a 1.5]
         HGETALL hash-copy => [f v g w]
         TTL set-copy => 100",
    );
}
