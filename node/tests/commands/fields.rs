//! Fields of hashes that expire, as Redis 7.4 has them.

use std::time::{Duration, Instant};

use crate::node::Node;

#[test]
fn fields_have_times_of_their_own() {
    Node::new().client().story(
        "HSET h a 1 b 2 c 3 => 3
         HEXPIRE h 100 FIELDS 2 a none => [1 -2]
         HTTL h FIELDS 3 a b none => [100 -1 -2]
         HEXPIREAT h 4000000000 NX FIELDS 2 a b => [0 1]
         HPEXPIREAT h 5000000000123 GT FIELDS 3 a b c => [1 1 0]
         HEXPIRETIME h FIELDS 3 a b c => [5000000001 5000000001 -1]
         HPEXPIREAT h 4000000000000 LT FIELDS 3 a b c => [1 1 1]
         HPEXPIREAT h 4000000000001 LT FIELDS 1 a => [0]
         HPEXPIRETIME h FIELDS 1 b => [4000000000000]
         HEXPIRE h 0 XX FIELDS 2 a b => [2 2]
         HGETALL h => [c 3]
         HLEN h => 1
         HPERSIST h FIELDS 3 a c c => [-2 1 -1]
         HPTTL h FIELDS 1 c => [-1]
         HEXPIREAT h 4000000000 FIELDS 1 c => [1]
         HINCRBY h c 4 => 7
         HINCRBYFLOAT h c 0.5 => 7.5
         HEXPIRETIME h FIELDS 1 c => [4000000000]
         COPY h i => 1
         HSET h c 9 => 0
         HEXPIRETIME h FIELDS 1 c => [-1]
         HEXPIRETIME i FIELDS 1 c => [4000000000]
         RENAME i j => OK
         HEXPIRETIME j FIELDS 1 c => [4000000000]
         HEXPIREAT h 1 FIELDS 1 c => [2]
         EXISTS h => 0
         HTTL none FIELDS 2 a b => [-2 -2]
         HEXPIRE none 1 FIELDS 1 a => [-2]
         SET s x => OK
         HTTL s FIELDS 1 a => (WRONGTYPE Operation against a key holding the wrong kind of value)
         HEXPIRE j -1 FIELDS 1 a => (ERR invalid expire time, must be >= 0)
         HEXPIRE j 999999999999999 FIELDS 1 a => (ERR invalid expire time in 'hexpire' command)
         HEXPIRE j 1 FIELDS 0 a => (ERR Parameter `numFields` should be greater than 0)
         HEXPIRE j 1 FIELDS 2 a => (ERR The `numfields` parameter must match the number of arguments)
         HEXPIRE j 1 NX 1 FIELDS a => (ERR Mandatory argument FIELDS is missing or not at the right position)
         HTTL j FIELDS x a => (ERR Number of fields must be a positive integer)",
    );
}

/// Waits until the answer is this one.
fn until(client: &mut crate::node::Client, command: &str, answer: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while client.ask(command) != answer {
        assert!(Instant::now() < deadline, "{command} => {answer}");
        std::thread::yield_now();
    }
}

#[test]
fn an_expired_field_is_gone_for_every_command_and_then_deleted() {
    let node = Node::new();
    let mut client = node.client();
    // Whether it has been deleted by then or not, nobody can tell but by HLEN. What expires last is
    // waited for.
    client.story(
        "HSET h a 1 b 2 c 3 => 3
         HSET all x 1 => 1
         HPEXPIRE all 30 FIELDS 1 x => [1]
         HPEXPIRE h 30 FIELDS 2 a b => [1 1]",
    );
    until(&mut client, "HGET h a", "nil");
    client.story(
        "HMGET h a b c => [nil nil 3]
         HGETALL h => [c 3]
         HKEYS h => [c]
         HVALS h => [3]
         HEXISTS h a => 0
         HSTRLEN h a => 0
         HSCAN h 0 => [0 [c 3]]
         HRANDFIELD h 5 WITHVALUES => [c 3]
         HRANDFIELD all => nil
         HRANDFIELD all -3 => []
         HTTL h FIELDS 2 a c => [-2 -1]
         HPERSIST h FIELDS 1 a => [-2]
         HDEL h a => 0
         HSETNX h b 5 => 1
         HINCRBY h a 1 => 1
         HPEXPIRETIME h FIELDS 2 a b => [-1 -1]
         HGETALL h => [c 3 b 5 a 1]",
    );
    until(&mut client, "EXISTS all", "0");
    client.story("HLEN h => 3");
}

#[test]
fn all_expired_fields_of_a_large_hash_are_deleted() {
    let node = Node::new();
    let (mut client, mut redis) = (node.client(), node.redis());
    let fields: Vec<String> = (0..10_000).map(|n| format!("f{n}")).collect();
    let mut set = redis::cmd("HSET");
    set.arg("h");
    fields.iter().for_each(|field| {
        set.arg(field).arg("v");
    });
    set.exec(&mut redis).unwrap();
    let kept = "HPEXPIREAT h 4000000000000 FIELDS 1 f7777 => [1]";
    let gone: Vec<_> = fields.iter().filter(|field| !field.ends_with('7')).collect();
    let mut expire = redis::cmd("HPEXPIRE");
    expire.arg("h").arg(20).arg("FIELDS").arg(gone.len()).arg(&gone).exec(&mut redis).unwrap();
    client.story(kept);
    until(&mut client, "HLEN h", "1000");
    client.story("HPEXPIRETIME h FIELDS 2 f7777 f7 => [4000000000000 -1]");
}

#[test]
fn a_dump_keeps_the_times_of_fields() {
    let node = Node::new();
    let (mut client, mut redis) = (node.client(), node.redis());
    client.story(
        "HSET h a 1 b 2 c 3 => 3
         HPEXPIREAT h 4000000000000 FIELDS 1 a => [1]
         HPEXPIREAT h 4000000000005 FIELDS 1 b => [1]",
    );
    let bytes: Vec<u8> = redis::cmd("DUMP").arg("h").query(&mut redis).unwrap();
    assert_eq!(bytes[0], 24, "Redis 7.4's hash with times");
    redis::cmd("RESTORE").arg("i").arg(0).arg(&bytes).exec(&mut redis).unwrap();
    client.story(
        "HPEXPIRETIME i FIELDS 3 a b c => [4000000000000 4000000000005 -1]
         HGETALL i => [a 1 b 2 c 3]",
    );
    let again: Vec<u8> = redis::cmd("DUMP").arg("i").query(&mut redis).unwrap();
    assert_eq!(bytes, again);
}
