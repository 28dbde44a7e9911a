//! The wire: both versions, pipelines, pieces, and what is not the protocol.

use crate::node::{Node, show};

#[test]
fn a_pipeline_split_at_every_byte_has_the_same_answers() {
    let node = Node::new();
    let mut pipeline = Vec::new();
    for command in ["SET k 1", "INCR k", "GET k", "PING", "MGET k none a b c", "NOPE x", "DEL k"] {
        let words: Vec<_> = command.split(' ').map(str::as_bytes).collect();
        resp::command::write(&mut pipeline, &words);
    }
    pipeline.extend_from_slice(b"PING inline\r\n");
    let expected = b"+OK\r\n:2\r\n$1\r\n2\r\n+PONG\r\n*5\r\n$1\r\n2\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n\
        -ERR unknown command 'NOPE', with args beginning with: 'x' \r\n:1\r\n$6\r\ninline\r\n+OK\r\n";
    for at in 0..=pipeline.len() {
        let mut client = node.client();
        client.send(&pipeline[..at]);
        client.send(&pipeline[at..]);
        client.send(b"QUIT\r\n");
        let answers = client.read_to_end();
        assert_eq!(String::from_utf8_lossy(&answers), String::from_utf8_lossy(expected), "{at}");
    }
}

#[test]
fn what_is_not_the_protocol_is_told_so_and_what_came_before_is_answered() {
    let node = Node::new();
    for (bad, sentence) in [
        (&b"*1\r\n:1\r\n"[..], "Protocol error: expected '$', got ':'"),
        (b"*x\r\n", "Protocol error: invalid multibulk length"),
        (b"*1\r\n$-5\r\n", "Protocol error: invalid bulk length"),
        (b"*1\r\n$999999999999\r\n", "Protocol error: invalid bulk length"),
        (b"*99999999\r\n", "Protocol error: invalid multibulk length"),
        (b"GET \"k\r\n", "Protocol error: unbalanced quotes in request"),
    ] {
        let mut client = node.client();
        client.send(b"SET kept 1\r\n");
        client.send(bad);
        let answers = String::from_utf8(client.read_to_end()).unwrap();
        assert_eq!(answers, format!("+OK\r\n-ERR {sentence}\r\n"), "{bad:?}");
    }
    assert_eq!(node.client().ask("GET kept"), "1");
}

#[test]
fn random_bytes_never_hurt_the_node() {
    let node = Node::new();
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut rng = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(seed);
    for _ in 0..200 {
        let mut client = node.client();
        let mut bytes: Vec<u8> = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n".repeat(3);
        for _ in 0..3 {
            let at = rand::Rng::random_range(&mut rng, 0..bytes.len());
            bytes[at] = rand::Rng::random(&mut rng);
        }
        client.send(&bytes);
    }
    assert_eq!(node.client().ask("PING"), "PONG");
}

#[test]
fn connections_say_who_they_are() {
    let node = Node::new();
    let mut client = node.client();
    client.story(
        "CLIENT SETNAME me => OK
         CLIENT GETNAME => me
         CLIENT SETNAME a\tb => (ERR Client names cannot contain spaces, newlines or special characters.)
         SELECT 0 => OK
         SELECT 1 => (ERR DB index is out of range)
         HELLO 4 => (NOPROTO unsupported protocol version)
         AUTH secret => (ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?)
         GET => (ERR wrong number of arguments for 'get' command)
         CONFIG GET save => [save ]
         CONFIG SET maxclients 500 => OK
         CONFIG GET maxclients => [maxclients 500]
         COMMAND GETKEYS MSET a 1 b 2 => [a b]
         CLUSTER KEYSLOT foo => 12182
         READONLY => (ERR This instance has cluster support disabled)
         RESET => RESET",
    );
    let mut other = node.client();
    let id = other.ask("CLIENT ID");
    assert_eq!(client.ask(&format!("CLIENT KILL ID {id}")), "1");
    assert!(other.read_to_end().is_empty());
    client.send(b"CLIENT REPLY SKIP\r\nSET a 1\r\nCLIENT REPLY OFF\r\nSET a 2\r\nCLIENT REPLY ON\r\nGET a\r\n");
    assert_eq!(show(&client.read()), "OK");
    assert_eq!(show(&client.read()), "2");
}

#[test]
fn a_write_survives_kill_9() {
    let mut node = Node::new();
    let mut client = node.client();
    for n in 0..100 {
        assert_eq!(client.ask(&format!("RPUSH l {n}")), (n + 1).to_string());
    }
    node.crash();
    let mut client = node.client();
    assert_eq!(client.ask("LLEN l"), "100");
    assert_eq!(client.ask("LINDEX l -1"), "99");
    assert_eq!(client.ask("RPUSH l 100"), "101");
}
