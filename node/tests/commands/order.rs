//! SORT, with redis-server's replies.

use crate::node::Node;

#[test]
fn sort_orders_by_numbers_bytes_and_other_keys() {
    Node::new().client().story(
        "RPUSH l 3 1 10 2 => 4
         SORT l => [1 2 3 10]
         SORT l DESC LIMIT 1 2 => [3 2]
         SORT l ALPHA => [1 10 2 3]
         SORT l BY nosort => [3 1 10 2]
         SORT l BY nosort DESC LIMIT 0 3 => [2 10 1]
         SORT_RO l LIMIT -5 2 => [1 2]
         SORT l LIMIT 9 9 => []
         MSET w1 30 w2 20 w3 10 => OK
         HSET h1 name one rank 9 => 2
         HSET h3 name three rank 7 => 2
         SORT l BY w* => [10 3 2 1]
         SORT l BY h*->rank GET # GET h*->name => [10 nil 2 nil 3 three 1 one]
         SORT l BY h*->name ALPHA GET # => [10 2 1 3]
         SORT l GET none => [nil nil nil nil]
         SORT l BY w* GET w* STORE l => 4
         LRANGE l 0 -1 => [ 10 20 30]
         SORT l => [ 10 20 30]
         ZADD z 1 c 2 b 3 a => 3
         SORT z ALPHA => [a b c]
         SORT z BY nosort DESC LIMIT 0 2 => [a b]
         SORT z => (ERR One or more scores can't be converted into double)
         SADD s 3 20 100 => 3
         SORT s BY nosort STORE t => 3
         LRANGE t 0 -1 => [100 20 3]
         SORT none STORE t => 0
         EXISTS t => 0
         SORT h1 => (WRONGTYPE Operation against a key holding the wrong kind of value)
         SORT_RO s STORE t => (ERR syntax error)
         SORT s LIMIT 1 => (ERR syntax error)
         COMMAND GETKEYS SORT a STORE b BY store STORE c => [a c]",
    );
}

#[test]
fn sort_sees_the_transaction_that_it_is_in() {
    Node::new().client().story(
        "RPUSH l a b => 2
         MSET w_a 1 w_b 2 => OK
         MULTI => OK
         SET w_a 9 => QUEUED
         SORT l BY w_* => QUEUED
         RPUSH l c => QUEUED
         SORT l BY w_* STORE l => QUEUED
         EXEC => [OK [b a] 3 3]
         LRANGE l 0 -1 => [c b a]",
    );
}
