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
