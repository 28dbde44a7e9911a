//! Each family's commands, with redis-server's replies.

use redis::Commands;

use crate::node::Node;

#[test]
fn strings() {
    Node::new().client().story(
        "SET k v => OK
         GET k => v
         GET none => nil
         SET k w NX => nil
         SET k w XX GET => v
         SET n 1 EX 0 => (ERR invalid expire time in 'set' command)
         SET n 1 EX 10 PX 10 => (ERR syntax error)
         SET n 10 EX 100 => OK
         TTL n => 100
         INCRBY n 5 => 15
         TTL n => 100
         SET n 16 KEEPTTL => OK
         PERSIST n => 1
         TTL n => -1
         DECR n => 15
         INCR k => (ERR value is not an integer or out of range)
         INCRBYFLOAT n 0.1 => 15.1
         APPEND k xyz => 4
         STRLEN k => 4
         GETRANGE k 1 -2 => xy
         SETRANGE k 6 ! => 7
         GETDEL n => 15.1
         GETSET k new => wxyz\0\0!
         MSET a 1 b 2 c 3 => OK
         MGET a k none c => [1 new nil 3]
         MSETNX d 4 a 5 => 0
         EXISTS d a b a => 3
         MSET a => (ERR wrong number of arguments for 'mset' command)
         LPUSH k x => (WRONGTYPE Operation against a key holding the wrong kind of value)",
    );
}

#[test]
fn small_hashes_show_their_fields_in_the_order_in_which_they_were_written() {
    let node = Node::new();
    let mut client = node.client();
    client.story(
        "HSET h name Ann surname Bee age 7 => 3
         HGETALL h => [name Ann surname Bee age 7]
         HKEYS h => [name surname age]
         HVALS h => [Ann Bee 7]
         HSET h born 1990 => 1
         HSET h name Eve => 0
         HGETALL h => [surname Bee age 7 born 1990 name Eve]
         MULTI => OK
         HSET h a 1 => QUEUED
         HKEYS h => QUEUED
         EXEC => [1 [surname age born name a]]",
    );
    // Beyond 128 fields it is the order of their bytes.
    let fields: Vec<_> = (0..129).rev().map(|n| format!("f{n:03} x")).collect();
    client.ask(&format!("HSET big {}", fields.join(" ")));
    assert!(client.ask("HKEYS big").starts_with("[f000 f001 f002 "));
    client.ask("HDEL big f000");
    assert!(client.ask("HKEYS big").starts_with("[f128 f127 f126 "));
}

#[test]
fn hashes() {
    Node::new().client().story(
        "HSET h a 1 b 2 a 3 => 2
         HGET h a => 3
         HMGET h a none b => [3 nil 2]
         HGETALL h => [a 3 b 2]
         HSETNX h a 9 => 0
         HINCRBY h a 4 => 7
         HINCRBYFLOAT h f 1.5 => 1.5
         HLEN h => 3
         HSTRLEN h f => 3
         HEXISTS h none => 0
         HKEYS h => [b a f]
         HSCAN h 0 => [0 [a 7 b 2 f 1.5]]
         HSCAN h 0 MATCH [ab] => [0 [a 7 b 2]]
         HDEL h a b f none => 3
         EXISTS h => 0
         HSET h x 1 => 1
         HGETALL h => [x 1]
         TYPE h => hash
         READONLY => (ERR This instance has cluster support disabled)",
    );
}

#[test]
fn sorted_sets() {
    Node::new().client().story(
        "ZADD z 1 a 2 b 3 c => 3
         ZADD z CH 5 a 2 b => 1
         ZADD z NX 9 a => 0
         ZADD z GT 4 a => 0
         ZADD z XX INCR 1 a => 6
         ZRANGE z 0 -1 WITHSCORES => [b 2 c 3 a 6]
         ZRANGE z (2 6 BYSCORE => [c a]
         ZRANGE z 6 (2 BYSCORE REV LIMIT 0 1 => [a]
         ZREVRANGE z 0 0 => [a]
         ZRANK z a => 2
         ZREVRANK z a WITHSCORE => [0 6]
         ZCOUNT z -inf +inf => 3
         ZSCORE z c => 3
         ZMSCORE z a none => [6 nil]
         ZINCRBY z -0.5 c => 2.5
         ZADD l 0 a 0 b 0 c 0 d => 4
         ZRANGE l [b (d BYLEX => [b c]
         ZLEXCOUNT l - + => 4
         ZREMRANGEBYLEX l (a [b => 1
         ZREMRANGEBYRANK l -1 -1 => 1
         ZPOPMIN z => [b 2]
         ZPOPMAX z 5 => [a 6 c 2.5]
         EXISTS z => 0
         ZADD z nan a => (ERR value is not a valid float)
         ZADD z inf a => 1
         ZINCRBY z -inf a => (ERR resulting score is not a number (NaN))
         READONLY => (ERR This instance has cluster support disabled)",
    );
}

#[test]
fn resp3_has_maps_sets_doubles_and_nulls() {
    let node = Node::new();
    let mut client = node.client();
    assert!(client.ask("HELLO 3").starts_with("{server redis version 7.2."));
    client.story(
        "HSET h x 1 => 1
         HGETALL h => {x 1}
         ZADD z inf a 1.5 b => 2
         ZSCORE z b => ,1.5
         ZRANGE z 0 -1 WITHSCORES => [[b ,1.5] [a ,inf]]
         ZPOPMIN z => [b ,1.5]
         SADD s m => 1
         SMEMBERS s => ~[m]
         GET none => nil
         CONFIG GET save => {save }",
    );
}

#[test]
fn sets() {
    Node::new().client().story(
        "SADD s a b c a => 3
         SISMEMBER s a => 1
         SMISMEMBER s a x => [1 0]
         SMEMBERS s => [a b c]
         SADD t b c d => 3
         SINTER s t => [b c]
         SUNION s t => [a b c d]
         SDIFF s t => [a]
         SINTERCARD 2 s t LIMIT 1 => 1
         SUNIONSTORE u s t none => 4
         SINTERSTORE u s none => 0
         EXISTS u => 0
         SMOVE s t a => 1
         SCARD t => 4
         SREM t a b c d => 4
         TYPE t => none
         SPOP s 0 => []
         SSCAN s 0 => [0 [b c]]
         SREM s b => 1
         SRANDMEMBER s -3 => [c c c]
         SPOP s => c
         EXISTS s => 0",
    );
}

#[test]
fn lists() {
    Node::new().client().story(
        "RPUSH l a b c => 3
         LPUSH l z => 4
         LRANGE l 0 -1 => [z a b c]
         LINDEX l -1 => c
         LSET l 1 A => OK
         LINSERT l BEFORE b x => 5
         LRANGE l 0 -1 => [z A x b c]
         LPOS l b => 3
         LREM l 1 x => 1
         LTRIM l 1 -1 => OK
         LRANGE l 0 9 => [A b c]
         LPOP l => A
         RPOP l 5 => [c b]
         EXISTS l => 0
         LPOP l => nil
         LPUSHX l a => 0
         RPUSH l 1 2 3 => 3
         LMOVE l m LEFT RIGHT => 1
         RPOPLPUSH l m => 3
         LRANGE m 0 -1 => [3 1]
         LLEN l => 1",
    );
}

#[test]
fn keys_and_expiry() {
    let node = Node::new();
    let mut client = node.client();
    client.story(
        "HSET h a 1 => 1
         RENAME h i => OK
         HGETALL i => [a 1]
         COPY i j => 1
         HSET j b 2 => 1
         HGETALL i => [a 1]
         RENAME none x => (ERR no such key)
         MOVE i 0 => (ERR source and destination objects are the same)
         MOVE i 1 => (ERR DB index is out of range)
         EXPIRE i 100 => 1
         EXPIRE i 50 GT => 0
         EXPIRE i 50 LT => 1
         TTL i => 50
         TTL none => -2
         EXPIRE i -1 => 1
         EXISTS i => 0
         SET s v PX 1 => OK
         DEL j => 1
         UNLINK j => 0
         OBJECT ENCODING none => nil",
    );
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while client.ask("DBSIZE") != "0" {
        assert!(std::time::Instant::now() < deadline, "s does not expire");
    }
    client.story("GET s => nil\nSET s w => OK\nKEYS * => [s]\nFLUSHALL => OK\nDBSIZE => 0");
}

#[test]
fn a_new_collection_does_not_show_the_entries_of_a_deleted_one() {
    Node::new().client().story(
        "RPUSH l a b c => 3
         DEL l => 1
         RPUSH l x => 1
         LRANGE l 0 -1 => [x]
         SET l now-a-string => OK
         SADD l m => (WRONGTYPE Operation against a key holding the wrong kind of value)
         DEL l => 1
         SADD l m => 1
         SMEMBERS l => [m]",
    );
}

#[test]
fn scan_shows_every_key_once_whatever_the_page() {
    let node = Node::new();
    let mut redis = node.redis();
    let mut names: Vec<String> = (0..500).map(|n| format!("key:{n}")).collect();
    names.extend((0..300).map(|n| format!("{{one-slot}}:{n}")));
    let mut pipe = redis::pipe();
    for name in &names {
        pipe.set(name, 1).ignore();
    }
    pipe.exec(&mut redis).unwrap();
    let mut found: Vec<String> = redis.scan().unwrap().map(Result::unwrap).collect();
    found.sort();
    names.sort();
    assert_eq!(found, names);
    let matched: Vec<String> = redis.scan_match("key:1?").unwrap().map(Result::unwrap).collect();
    assert_eq!(matched.len(), 10);
}
