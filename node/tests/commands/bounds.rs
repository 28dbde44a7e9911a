//! Clients that do not behave.

use std::time::{Duration, Instant};

use crate::node::Node;

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
