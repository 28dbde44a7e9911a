//! Commands that several workers have a part in.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::node::{Node, show};

#[test]
fn answers_come_in_the_order_of_the_commands() {
    let node = Node::new();
    let mut client = node.client();
    let mut bytes = Vec::new();
    for n in 0..5000 {
        let (key, value) = (format!("key:{n}"), n.to_string());
        resp::command::write(&mut bytes, &[b"SET", key.as_bytes(), value.as_bytes()]);
        resp::command::write(&mut bytes, &[b"ECHO", value.as_bytes()]);
        resp::command::write(&mut bytes, &[b"GET", key.as_bytes()]);
        if n % 100 == 0 {
            resp::command::write(&mut bytes, &[b"MGET", key.as_bytes(), b"other", b"another"]);
        }
    }
    client.send_beside(bytes);
    for n in 0..5000 {
        assert_eq!(show(&client.read()), "OK");
        assert_eq!(show(&client.read()), n.to_string());
        assert_eq!(show(&client.read()), n.to_string());
        if n % 100 == 0 {
            assert_eq!(show(&client.read()), format!("[{n} nil nil]"));
        }
    }
}

#[test]
fn mset_over_several_workers_is_seen_whole() {
    let node = Node::new();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for name in 0..2 {
            let (node, done) = (&node, &done);
            scope.spawn(move || {
                let mut client = node.client();
                let mut n = name;
                while !done.load(Ordering::Relaxed) {
                    n += 2;
                    assert_eq!(client.ask(&format!("MSET a {n} b {n} c {n} d {n}")), "OK");
                    // Only one slot, between those of several.
                    client.ask("INCR a-counter");
                }
            });
        }
        let mut client = node.client();
        for _ in 0..500 {
            let seen = client.ask("MGET a b c d");
            let values: Vec<_> = seen.trim_matches(['[', ']']).split(' ').collect();
            assert!(values.iter().all(|v| *v == values[0]), "{seen}");
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn flushall_leaves_nothing_and_later_writes_stay() {
    let node = Node::new();
    let mut client = node.client();
    let mut bytes = Vec::new();
    for n in 0..1000 {
        resp::command::write(&mut bytes, &[b"SET", format!("key:{n}").as_bytes(), b"v"]);
    }
    resp::command::write(&mut bytes, &[b"FLUSHALL"]);
    resp::command::write(&mut bytes, &[b"SET", b"key:1", b"w"]);
    resp::command::write(&mut bytes, &[b"DBSIZE"]);
    client.send(&bytes);
    (0..1002).for_each(|_| assert_eq!(show(&client.read()), "OK"));
    assert_eq!(show(&client.read()), "1");
}

#[test]
fn dbsize_counts_what_came_before_it_while_others_write() {
    let node = Node::new();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (node, done) = (&node, &done);
        scope.spawn(move || {
            let mut client = node.client();
            while !done.load(Ordering::Relaxed) {
                client.ask("INCR counter");
            }
        });
        let mut client = node.client();
        client.ask("INCR counter");
        for n in 0..50 {
            let mut bytes = Vec::new();
            let (key, other) = (format!("key:{n}"), format!("other:{n}"));
            resp::command::write(&mut bytes, &[b"SET", key.as_bytes(), b"v"]);
            resp::command::write(&mut bytes, &[b"DBSIZE"]);
            resp::command::write(&mut bytes, &[b"SET", other.as_bytes(), b"v"]);
            resp::command::write(&mut bytes, &[b"MGET", key.as_bytes(), other.as_bytes(), b"none"]);
            resp::command::write(&mut bytes, &[b"DBSIZE"]);
            resp::command::write(&mut bytes, &[b"ECHO", b"end"]);
            client.send(&bytes);
            let answers: Vec<_> = (0..6).map(|_| show(&client.read())).collect();
            let counts = [2 * n + 2, 2 * n + 3].map(|count: i32| count.to_string());
            assert_eq!(answers, ["OK", &counts[0], "OK", "[v v nil]", &counts[1], "end"]);
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn dbsize_of_many_clients_at_once_is_exact() {
    let node = Node::new();
    let mut client = node.client();
    (0..100).for_each(|n| assert_eq!(client.ask(&format!("SET key:{n} v")), "OK"));
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let mut client = node.client();
                (0..20).for_each(|_| assert_eq!(client.ask("DBSIZE"), "100"));
            });
        }
    });
}

#[test]
fn info_shows_a_count_of_keys_only_if_it_is_exact() {
    let node = Node::new();
    let mut client = node.client();
    (0..3000).for_each(|n| assert_eq!(client.ask(&format!("SET key:{} v", n % 13)), "OK"));
    assert_eq!(client.ask("EXPIRE key:0 1000"), "1");
    let info = client.ask("INFO keyspace");
    assert!(info.contains("db0:keys=13,expires=1,avg_ttl="), "{info}");
    (0..1001).for_each(|n| assert_eq!(client.ask(&format!("SET more:{n} v")), "OK"));
    let info = client.ask("INFO keyspace");
    assert!(!info.contains("db0") && info.contains("ask DBSIZE"), "{info}");
    assert_eq!(client.ask("DBSIZE"), "1014");
}

#[test]
fn a_batch_that_was_not_written_is_run_again_and_takes_effect_once() {
    let node = Node::failing("batch-refused:every=3");
    let mut client = node.client();
    for n in 1..=50 {
        assert_eq!(client.ask("INCR counter"), n.to_string());
    }
    // Many in one batch, and reads that saw its writes.
    let mut bytes = Vec::new();
    for _ in 0..200 {
        resp::command::write(&mut bytes, &[b"INCR", b"counter"]);
        resp::command::write(&mut bytes, &[b"GET", b"counter"]);
    }
    client.send_beside(bytes);
    for n in 51..=250 {
        assert_eq!((show(&client.read()), show(&client.read())), (n.to_string(), n.to_string()));
    }
}
