//! HyperLogLog, with redis-server's replies and bytes.

use redis::Commands;

use crate::node::Node;

#[test]
fn sketches_count_merge_and_are_strings() {
    Node::new().client().story(
        "PFADD h a b c d e f g => 1
         PFADD h a b c => 0
         PFCOUNT h => 7
         PFDEBUG ENCODING h => sparse
         PFDEBUG DECODE h => Z:1646 v:1,1 Z:5645 v:1,1 Z:1085 v:2,1 z:57 v:1,1 Z:4274 v:2,1 Z:2445 v:1,1 Z:622 v:1,1 Z:603
         STRLEN h => 38
         PFADD i f g h i => 1
         PFCOUNT h i none => 9
         PFMERGE h i => OK
         PFCOUNT h => 9
         PFDEBUG TODENSE h => 1
         PFCOUNT h => 9
         STRLEN h => 12304
         PFMERGE j h i => OK
         PFDEBUG ENCODING j => dense
         PFCOUNT j => 9
         PFADD empty => 1
         PFADD empty => 0
         PFCOUNT empty none => 0
         EXPIRE j 100 => 1
         PFADD j z => 1
         TTL j => 100
         SET s HYLL => OK
         PFADD s a => (WRONGTYPE Key is not a valid HyperLogLog string value.)
         PFDEBUG ENCODING none => (ERR The specified key does not exist)
         APPEND i x => 31
         PFCOUNT i h => (INVALIDOBJ Corrupted HLL object detected)",
    );
}

const COUNTS: [(u32, u32); 6] =
    [(10, 10), (100, 100), (1000, 1001), (3000, 3005), (20000, 19891), (100000, 99562)];

/// Counts of Redis 7.0.15 for the numbers from 1 on, so that sketches of both mean the same.
#[test]
fn counts_are_those_of_redis() {
    let node = Node::new();
    let mut redis = node.redis();
    let mut last = 0;
    for (upto, expected) in COUNTS {
        let numbers: Vec<String> = (last + 1..=upto).map(|n: u32| n.to_string()).collect();
        last = upto;
        let _: bool = redis.pfadd("k", numbers).unwrap();
        let count: u32 = redis.pfcount("k").unwrap();
        assert_eq!(count, expected, "{upto}");
    }
}
