//! Clients that do not behave.

use std::time::{Duration, Instant};

use crate::node::{Node, show};

/// Resident memory of the node as INFO says, in bytes.
fn resident(node: &Node) -> u64 {
    let info = node.client().ask("INFO memory");
    let line = info.lines().find_map(|line| line.strip_prefix("used_memory_rss:")).unwrap();
    line.trim().parse().unwrap()
}

#[test]
fn a_client_that_never_reads_costs_little_and_hurts_nobody() {
    let node = Node::new();
    let mut other = node.client();
    other.ask(&format!("SET big {}", "x".repeat(100_000)));
    let before = resident(&node);
    let greedy = std::net::TcpStream::connect(("127.0.0.1", node.port)).unwrap();
    greedy.set_nonblocking(true).unwrap();
    // It asks for gigabytes, until the node stops reading.
    let asking = b"GET big\r\n".repeat(1000);
    let (mut stuck_since, mut asked) = (None::<Instant>, 0);
    while stuck_since.is_none_or(|since| since.elapsed() < Duration::from_millis(500)) {
        match std::io::Write::write(&mut (&greedy), &asking) {
            Ok(count) => (stuck_since, asked) = (None, asked + count),
            Err(_) => stuck_since = stuck_since.or(Some(Instant::now())),
        }
        std::thread::yield_now();
    }
    assert_eq!(other.ask("PING"), "PONG");
    let grown = resident(&node).saturating_sub(before);
    assert!(grown < 200 << 20, "{asked} bytes of GETs made the node grow by {grown} bytes");
}

#[test]
fn clients_beyond_the_limit_are_told_so() {
    let node = Node::new();
    let mut first = node.client();
    assert_eq!(first.ask("CONFIG SET maxclients 1"), "OK");
    let answer = String::from_utf8(node.client().read_to_end()).unwrap();
    assert_eq!(answer, "-ERR max number of clients reached\r\n");
    assert_eq!(first.ask("PING"), "PONG");
}

#[test]
fn a_write_that_could_not_be_shipped_is_refused_and_costs_the_others_nothing() {
    let node = Node::new();
    let mut client = node.client();
    // Each field's record holds the key: 90 times 8 MiB.
    let key = format!("{{t}}{}", "k".repeat(8 << 20));
    let fields: Vec<String> = (0..90).map(|n| format!("f{n}")).collect();
    let mut hset: Vec<&[u8]> = vec![b"HSET", key.as_bytes()];
    fields.iter().for_each(|field| hset.extend([field.as_bytes(), b"v"]));
    let mut all = Vec::new();
    resp::command::write(&mut all, &[b"SET", b"{t}before", b"1"]);
    resp::command::write(&mut all, &hset);
    resp::command::write(&mut all, &[b"SET", b"{t}after", b"2"]);
    client.send(&all);
    assert_eq!(show(&client.read()), "OK");
    let refused = show(&client.read());
    assert!(refused.contains("more than 640 MiB"), "{refused}");
    assert_eq!(show(&client.read()), "OK");
    assert_eq!(client.ask("MGET {t}before {t}after"), "[1 2]");
    assert_eq!(client.ask("DBSIZE"), "2");
}
