//! Bits of strings, with redis-server's replies.

use crate::node::Node;

#[test]
fn bits_are_counted_found_and_combined() {
    Node::new().client().story(
        "SET k foobar => OK
         BITCOUNT k => 26
         BITCOUNT k 0 0 => 4
         BITCOUNT k 5 30 BIT => 17
         BITCOUNT k -1 -2 => 0
         BITCOUNT k 0 => (ERR syntax error)
         BITCOUNT k 0 1 WORD => (ERR syntax error)
         BITCOUNT none => 0
         BITPOS k 0 => 0
         BITPOS k 1 => 1
         BITPOS k 1 2 -1 BYTE => 17
         BITPOS k 1 7 15 BIT => 9
         BITPOS k 2 => (ERR The bit argument must be 1 or 0.)
         BITPOS none 0 => 0
         BITPOS none 1 => -1
         SETBIT one 7 1 => 0
         BITPOS one 1 => 7
         BITPOS one 0 7 7 BIT => -1
         SET a abc => OK
         SET b ab => OK
         BITOP AND d a b => 3
         GET d => ab\0
         BITOP XOR d a a => 3
         BITCOUNT d => 0
         BITOP OR d b a none => 3
         GET d => abc
         BITOP NOT d none => 0
         EXISTS d => 0
         BITOP NOT d a b => (ERR BITOP NOT must be called with a single source key.)
         BITOP NAND d a b => (ERR syntax error)
         LPUSH l x => 1
         BITOP AND d a l => (WRONGTYPE Operation against a key holding the wrong kind of value)",
    );
}

#[test]
fn bitfields_are_integers_of_any_width() {
    Node::new().client().story(
        "BITFIELD b INCRBY i5 100 1 GET u4 0 => [1 0]
         STRLEN b => 14
         BITFIELD b SET u8 #1 255 INCRBY u8 #1 2 => [0 1]
         BITFIELD b OVERFLOW SAT INCRBY u8 #1 900 OVERFLOW FAIL INCRBY u8 #1 1 GET u8 #1 => [255 nil 255]
         BITFIELD b OVERFLOW SAT SET i8 0 -200 GET i8 0 => [0 -128]
         BITFIELD b SET i64 0 -1 SET i64 0 5 => [-9151595917793558528 -1]
         BITFIELD_RO b GET i64 0 GET u63 1 GET u8 100000 => [5 5 0]
         BITFIELD_RO b SET u8 0 1 => (ERR BITFIELD_RO only supports the GET subcommand)
         BITFIELD b GET u64 0 => (ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.)
         BITFIELD b GET u8 -1 => (ERR bit offset is not an integer or out of range)
         BITFIELD b SET u8 4294967296 1 => (ERR bit offset is not an integer or out of range)
         BITFIELD b OVERFLOW some => (ERR Invalid OVERFLOW type specified)
         BITFIELD b => []",
    );
}
