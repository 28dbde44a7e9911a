//! Many clients, slow ones, and those who mean harm: memory is bounded, others go on.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::node::Node;

fn closed(stream: &mut TcpStream, within: Duration) -> Vec<u8> {
    stream.set_read_timeout(Some(within)).unwrap();
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Ok(_) => all,
        Err(why) if why.kind() == std::io::ErrorKind::ConnectionReset => all,
        Err(why) => panic!("the node did not close: {why}"),
    }
}

#[test]
fn strangers_are_let_say_little() {
    let node = Node::new();
    let mut admin = node.client();
    admin.ask("CONFIG SET requirepass secret");
    let say = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(("127.0.0.1", node.port)).unwrap();
        stream.write_all(bytes).unwrap();
        String::from_utf8(closed(&mut stream, Duration::from_secs(20))).unwrap()
    };
    assert_eq!(say(b"*100\r\n"), "-ERR Protocol error: unauthenticated multibulk length\r\n");
    assert_eq!(say(b"*1\r\n$100000\r\n"), "-ERR Protocol error: unauthenticated bulk length\r\n");
    // Those who were here before, and those who say the word, go on.
    assert_eq!(admin.ask("PING"), "PONG");
    node.client().story(
        "HELLO 3 => (NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time)
         AUTH wrong => (WRONGPASS invalid username-password pair or user is disabled.)
         AUTH secret => OK
         SET a b => OK",
    );
}

#[test]
fn an_argument_beyond_the_limit_is_refused_before_it_is_sent() {
    let node = Node::new();
    let mut stream = TcpStream::connect(("127.0.0.1", node.port)).unwrap();
    stream.write_all(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870913\r\n").unwrap();
    let said = closed(&mut stream, Duration::from_secs(20));
    assert_eq!(said, b"-ERR Protocol error: invalid bulk length\r\n");
    assert_eq!(node.client().ask("PING"), "PONG");
}

#[test]
fn who_says_nothing_for_long_is_closed_and_a_subscriber_is_not() {
    let node = Node::new();
    let (mut admin, mut ear) = (node.client(), node.client());
    ear.ask("SUBSCRIBE news");
    let mut silent = TcpStream::connect(("127.0.0.1", node.port)).unwrap();
    admin.ask("CONFIG SET timeout 1");
    assert_eq!(closed(&mut silent, Duration::from_secs(20)), b"");
    let deadline = Instant::now() + Duration::from_secs(20);
    while node.client().ask("PUBLISH news x") != "1" {
        assert!(Instant::now() < deadline, "the subscriber is gone");
    }
}

#[test]
fn a_client_beyond_its_output_limit_is_closed() {
    let node = Node::new();
    let mut other = node.client();
    other.story(
        "CONFIG SET client-output-buffer-limit normal/1mb/0/0 => (ERR CONFIG SET failed (possibly related to argument 'client-output-buffer-limit') - Wrong number of arguments in buffer limit configuration.)",
    );
    let mut set = Vec::new();
    let words = ["CONFIG", "SET", "client-output-buffer-limit", "normal 1mb 0 0"];
    resp::command::write(&mut set, &words.map(str::as_bytes));
    other.send(&set);
    assert_eq!(crate::node::show(&other.read()), "OK");
    other.ask(&format!("SET big {}", "x".repeat(200_000)));
    let mut greedy = TcpStream::connect(("127.0.0.1", node.port)).unwrap();
    greedy.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    let asking = b"GET big\r\n".repeat(100);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !other.ask("INFO stats").contains("client_output_buffer_limit_disconnections:1") {
        // It may have been closed already.
        let _ = greedy.write(&asking);
        assert!(Instant::now() < deadline, "it is still there");
    }
    assert_eq!(other.ask("PING"), "PONG");
}

#[test]
fn two_thousand_silent_clients_cost_little() {
    let node = Node::new();
    let mut other = node.client();
    let resident = |client: &mut crate::node::Client| -> u64 {
        let info = client.ask("INFO memory");
        let line = info.lines().find_map(|line| line.strip_prefix("used_memory_rss:")).unwrap();
        line.trim().parse().unwrap()
    };
    let before = resident(&mut other);
    // Each of them has begun to say something.
    let silent: Vec<TcpStream> = (0..2000)
        .map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", node.port)).unwrap();
            stream.write_all(b"*2\r\n$3\r\nGET\r\n$100000000\r\nxx").unwrap();
            stream
        })
        .collect();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !other.ask("INFO clients").contains("connected_clients:2001") {
        assert!(Instant::now() < deadline, "they are not all there");
    }
    let grown = resident(&mut other).saturating_sub(before);
    assert!(grown < 2000 * (64 << 10), "each of 2000 clients costs {} bytes", grown / 2000);
    assert_eq!(other.ask("SET a b"), "OK");
    drop(silent);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !other.ask("INFO clients").contains("connected_clients:1\r") {
        assert!(Instant::now() < deadline, "they are not all gone");
    }
}
