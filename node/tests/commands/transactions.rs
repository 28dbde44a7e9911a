//! MULTI and its kin, as Redis answers them.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::node::{Node, show};

#[test]
fn a_transaction_is_queued_and_runs_whole() {
    let node = Node::new();
    let mut client = node.client();
    client.story(
        "EXEC => (ERR EXEC without MULTI)
         DISCARD => (ERR DISCARD without MULTI)
         MULTI => OK
         MULTI => (ERR MULTI calls can not be nested)
         WATCH k => (ERR WATCH inside MULTI is not allowed)
         SET k 1 => QUEUED
         INCR k => QUEUED
         LPUSH k x => QUEUED
         PING hello => QUEUED
         MGET k a b c => QUEUED
         CLIENT SETNAME me => QUEUED
         UNWATCH => QUEUED
         EXEC => [OK 2 (WRONGTYPE Operation against a key holding the wrong kind of value) hello [2 nil nil nil] OK OK]
         CLIENT GETNAME => me
         MULTI => OK
         EXEC => []
         MULTI => OK
         SET k 9 => QUEUED
         DISCARD => OK
         GET k => 2
         MULTI => OK
         NOPE => (ERR unknown command 'NOPE', with args beginning with: )
         SET k 9 => QUEUED
         EXEC => (EXECABORT Transaction discarded because of previous errors.)
         MULTI => OK
         GET => (ERR wrong number of arguments for 'get' command)
         EXEC => (EXECABORT Transaction discarded because of previous errors.)
         MULTI => OK
         SHUTDOWN => (ERR Command not allowed inside a transaction)
         EXEC => (EXECABORT Transaction discarded because of previous errors.)
         MULTI => OK
         SET k 9 => QUEUED
         RESET => RESET
         EXEC => (ERR EXEC without MULTI)
         GET k => 2",
    );
}

#[test]
fn a_transaction_reads_what_it_has_written() {
    let node = Node::new();
    let mut client = node.client();
    client.story(
        "HSET h a 1 c 3 => 2
         ZADD z 1 a 2 b 3 c => 3
         SET gone 1 => OK
         MULTI => OK
         HSET h b 2 => QUEUED
         HDEL h a => QUEUED
         HGETALL h => QUEUED
         ZADD z 5 a 2.5 d => QUEUED
         ZREM z b => QUEUED
         ZRANGE z 0 -1 => QUEUED
         ZRANGE z 0 -1 REV => QUEUED
         DEL gone => QUEUED
         SADD s x y => QUEUED
         SMEMBERS s => QUEUED
         DBSIZE => QUEUED
         RPUSH l 1 2 3 => QUEUED
         LRANGE l 0 -1 => QUEUED
         EXEC => [1 1 [c 3 b 2] 1 1 [d c a] [a c d] 1 2 [x y] 3 3 [1 2 3]]
         MULTI => OK
         SET a 1 => QUEUED
         FLUSHALL => QUEUED
         GET a => QUEUED
         HGETALL h => QUEUED
         SET b 2 => QUEUED
         HSET h z 9 => QUEUED
         HGETALL h => QUEUED
         KEYS * => QUEUED
         DBSIZE => QUEUED
         EXEC => [OK OK nil [] OK 1 [z 9] [b h] 2]
         KEYS * => [b h]
         DBSIZE => 2",
    );
}

#[test]
fn a_watch_fails_what_it_should_and_nothing_else() {
    let node = Node::new();
    let (mut client, mut other) = (node.client(), node.client());
    let mut exec = |before: &[&str], between: &[&str], mine: &[&str]| {
        before.iter().for_each(|command| drop(client.ask(command)));
        between.iter().for_each(|command| drop(other.ask(command)));
        mine.iter().for_each(|command| drop(client.ask(command)));
        assert_eq!(client.ask("MULTI"), "OK");
        assert_eq!(client.ask("PING"), "QUEUED");
        client.ask("EXEC")
    };
    let (null, ran) = ("nil", "[PONG]");
    assert_eq!(exec(&["SET x 1", "WATCH x y z"], &["SET y 1"], &[]), null);
    assert_eq!(exec(&[], &["SET y 1"], &[]), ran);
    assert_eq!(exec(&["WATCH x"], &["SET other 1"], &[]), ran);
    assert_eq!(exec(&["WATCH x"], &["SET x 1"], &["UNWATCH"]), ran);
    assert_eq!(exec(&["WATCH x"], &["SET x 1"], &["MULTI", "DISCARD"]), ran);
    assert_eq!(exec(&["WATCH x"], &[], &["SET x 2"]), null, "its own write counts");
    assert_eq!(exec(&["HSET h f 1", "WATCH h"], &["HSET h f 2"], &[]), null);
    assert_eq!(exec(&["WATCH h"], &["HGETALL h", "DEL none"], &[]), ran);
    assert_eq!(exec(&["WATCH x"], &["FLUSHALL"], &[]), null);
    assert_eq!(exec(&["WATCH none"], &["FLUSHALL"], &[]), ran);
    assert_eq!(exec(&["WATCH none"], &["MSET a 1 none 2 b 3"], &[]), null);
    // Expiry counts as a change, unless it came before the watch.
    assert_eq!(exec(&["SET e 1 PX 1", "DEBUG SLEEP 0.01", "WATCH e"], &[], &[]), ran);
    assert_eq!(exec(&["SET e 1 PX 20", "WATCH e", "DEBUG SLEEP 0.05"], &[], &[]), null);
    assert_eq!(exec(&["SET k 1", "WATCH k"], &["EXPIRE k 100"], &[]), null);
    assert_eq!(exec(&["WATCH k", "WATCH k"], &["DEL k"], &[]), null);
    let mut v3 = node.client();
    v3.ask("HELLO 3");
    v3.story("WATCH k => OK\nSET k 2 => OK\nMULTI => OK\nGET k => QUEUED\nEXEC => nil");
    v3.send(b"MULTI\r\nHGETALL h\r\nCLIENT SETNAME a\r\nHELLO 2\r\nEXEC\r\nHGETALL nokey\r\n");
    let replies: Vec<_> = (0..6).map(|_| show(&v3.read())).collect();
    assert!(replies[4].starts_with("[{} OK ["), "{}", replies[4]);
    assert_eq!(replies[5], "[]", "the protocol of after the transaction");
}

#[test]
fn optimistic_increments_of_many_clients_are_all_counted() {
    let node = Node::new();
    let (clients, rounds) = (4, 50);
    std::thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let mut client = node.client();
                let mut done = 0;
                while done < rounds {
                    client.ask("WATCH counter mirror");
                    let value: i64 = client.ask("GET counter").parse().unwrap_or(0);
                    let next = value + 1;
                    let text =
                        format!("MULTI\r\nSET counter {next}\r\nSET mirror {next}\r\nEXEC\r\n");
                    client.send(text.as_bytes());
                    (0..3).for_each(|_| drop(client.read()));
                    done += i32::from(show(&client.read()) == "[OK OK]");
                }
            });
        }
    });
    let expected = (clients * rounds).to_string();
    assert_eq!(node.client().ask("MGET counter mirror"), format!("[{expected} {expected}]"));
}

#[test]
fn nobody_sees_half_a_transaction_and_a_crash_keeps_whole_ones() {
    let mut node = Node::new();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (shared, done) = (&node, &done);
        scope.spawn(move || {
            let mut client = shared.client();
            let mut n = 0;
            while !done.load(Ordering::Relaxed) {
                n += 1;
                let text = format!(
                    "MULTI\r\nSET a {n}\r\nSET b {n}\r\nHSET {{a}}h f {n}\r\nHGETALL {{a}}h\r\nSET c {n}\r\nEXEC\r\n"
                );
                client.send(text.as_bytes());
                (0..6).for_each(|_| drop(client.read()));
                assert!(show(&client.read()).contains(&format!("[f {n}]")));
            }
        });
        let mut client = shared.client();
        for _ in 0..300 {
            let seen = client.ask("MGET a b c");
            let values: Vec<_> = seen.trim_matches(['[', ']']).split(' ').collect();
            assert!(values.iter().all(|v| *v == values[0]), "{seen}");
        }
        done.store(true, Ordering::Relaxed);
    });
    let before = node.client().ask("MGET a b c");
    node.crash();
    assert_eq!(node.client().ask("MGET a b c"), before);
}

#[test]
fn a_pipelined_transaction_is_answered_in_order() {
    let node = Node::new();
    let mut client = node.client();
    let mut bytes = Vec::new();
    for n in 0..500 {
        let text = format!(
            "SET before {n}\r\nWATCH before\r\nMULTI\r\nGET before\r\nINCR total\r\nECHO {n}\r\nEXEC\r\nGET total\r\nPING\r\n"
        );
        bytes.extend_from_slice(text.as_bytes());
    }
    client.send_beside(bytes);
    for n in 0..500 {
        let expected = ["OK", "OK", "OK", "QUEUED", "QUEUED", "QUEUED"];
        expected.iter().for_each(|reply| assert_eq!(show(&client.read()), *reply));
        assert_eq!(show(&client.read()), format!("[{n} {} {n}]", n + 1));
        assert_eq!(show(&client.read()), (n + 1).to_string());
        assert_eq!(show(&client.read()), "PONG");
    }
}
