//! The proxy before a real redis-server: what any client sees.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Client, Process, Proxy, bulk, eventually, free_port, ok};
use resp::reply::Reply;

struct Pair {
    proxy: Proxy,
    port: u16,
    redis: Process,
}

fn redis(port: u16) -> Process {
    let child = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--save", "", "--bind", "127.0.0.1"])
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server: apt-get install redis-server");
    eventually("redis listens", || TcpStream::connect(("127.0.0.1", port)).ok());
    Process(child)
}

fn pair() -> Pair {
    let port = free_port();
    let redis = redis(port);
    let proxy = Proxy::start(&["--backend", &format!("127.0.0.1:{port}")]).ready();
    Pair { proxy, port, redis }
}

#[test]
fn clients_in_both_versions_get_what_redis_answers() {
    let pair = pair();
    let mut direct = Client::connect(pair.port);
    let mut through = pair.proxy.client();
    for version in ["2", "3"] {
        let mut all = Vec::new();
        for client in [&mut direct, &mut through] {
            assert_eq!(client.ask("FLUSHALL"), ok());
            client.ask(&format!("HELLO {version}"));
            all.push(LINES.map(|line| client.ask(line)));
        }
        for (n, line) in LINES.iter().enumerate() {
            assert_eq!(all[1][n], all[0][n], "{line} in RESP{version}");
        }
    }
}

/// Commands whose answers are the same each time that they run on an empty database.
const LINES: [&str; 45] = [
    "SET k v",
    "GET k",
    "GET none",
    "INCR n",
    "INCR k",
    "HSET h a 1 b 2",
    "HGETALL h",
    "HGET h a",
    "ZADD z 1.5 m 2 n",
    "ZRANGE z 0 -1 WITHSCORES",
    "ZSCORE z m",
    "SADD s a",
    "SMEMBERS s",
    "RPUSH l a b c",
    "LRANGE l 0 -1",
    "LPOP l 5",
    "LRANGE none 0 -1",
    "MSET a 1 b 2",
    "MGET a b none",
    "EXISTS a b none",
    "TYPE h",
    "TTL k",
    "PEXPIREAT k 1",
    "EXISTS k",
    "OBJECT ENCODING n",
    "EVAL return{1,2} 0",
    "GETDEL n",
    "DEL a b",
    "GET",
    "HINCRBY h a x",
    "XADD x 1-1 f v",
    "XREAD STREAMS x 0",
    "XADD x MAXLEN ~ 10 1-2 f w",
    "XLEN x",
    "XREVRANGE x + - COUNT 1",
    "XGROUP CREATE x g 0",
    "XREADGROUP GROUP g streams COUNT 1 STREAMS x >",
    "XREADGROUP GROUP streams g STREAMS x >",
    "XPENDING x g",
    "XACK x g 1-1",
    "XINFO GROUPS x",
    "XINFO HELP",
    "XTRIM x MAXLEN 1",
    "DBSIZE",
    "SCAN 0 MATCH h COUNT 1000",
];

#[test]
fn replies_leave_in_the_order_of_the_commands_however_they_arrive() {
    let pair = pair();
    let mut client = pair.proxy.client();
    let mut bytes = Vec::new();
    for n in 0..300 {
        let text = n.to_string();
        resp::command::write(&mut bytes, &[b"SET", b"k", text.as_bytes()]);
        resp::command::write(&mut bytes, &[b"PING"]);
        bytes.extend_from_slice(b"GET \"k\"\r\n");
    }
    for chunk in bytes.chunks(7) {
        client.send_bytes(chunk);
    }
    for n in 0..300 {
        assert_eq!(client.reply(), ok());
        assert_eq!(client.reply(), Reply::Simple("PONG".to_owned()));
        assert_eq!(client.reply(), bulk(&n.to_string()));
    }
}

#[test]
fn malformed_bytes_end_that_client_and_no_other() {
    let pair = pair();
    let mut other = pair.proxy.client();
    for (bytes, expected) in [
        (&b"*1\r\n:1\r\n"[..], "ERR Protocol error: expected '$', got ':'"),
        (b"*x\r\n", "ERR Protocol error: invalid multibulk length"),
        (b"*2\r\n$3\r\nGET\r\n$-5\r\n", "ERR Protocol error: invalid bulk length"),
        (b"SET \"k\r\n", "ERR Protocol error: unbalanced quotes in request"),
    ] {
        let mut client = pair.proxy.client();
        client.send("PING");
        client.send_bytes(bytes);
        assert_eq!(client.reply(), Reply::Simple("PONG".to_owned()));
        assert_eq!(client.reply().as_error(), Some(expected));
        assert_eq!(client.next(), None);
    }
    assert_eq!(other.ask("PING"), Reply::Simple("PONG".to_owned()));
}

#[test]
fn what_cannot_be_carried_says_so_and_the_connection_goes_on() {
    let pair = pair();
    let mut client = pair.proxy.client();
    for line in [
        "MULTI",
        "BLPOP k 0",
        "SUBSCRIBE c",
        "SHUTDOWN",
        "XREAD BLOCK 0 STREAMS s $",
        "SELECT 1",
        "NOSUCH",
    ] {
        let reply = client.ask(line);
        assert!(reply.as_error().is_some(), "{line}: {reply:?}");
    }
    assert_eq!(client.ask("SELECT 0"), ok());
    assert_eq!(client.ask("CLUSTER KEYSLOT foo"), Reply::Integer(12182));
    let slots = client.ask("CLUSTER SLOTS");
    let node = slots.as_array().unwrap()[0].as_array().unwrap()[2].as_array().unwrap();
    assert_eq!(node[1], Reply::Integer(pair.proxy.port.into()));
    assert_eq!(client.ask("CLIENT SETNAME me"), ok());
    assert_eq!(client.ask("CLIENT GETNAME"), bulk("me"));
    assert_eq!(client.ask("QUIT"), ok());
    assert_eq!(client.next(), None);
}

#[test]
fn a_backend_that_comes_back_is_used_again() {
    let Pair { proxy, port, redis } = pair();
    let mut client = proxy.client();
    assert_eq!(client.ask("SET k 1"), ok());
    drop(redis);
    let mut waiting = proxy.client();
    waiting.send("SET k 2");
    assert!(!waiting.is_answered_within(Duration::from_millis(100)));
    let _redis = self::redis(port);
    assert_eq!(waiting.reply(), ok());
    assert_eq!(client.ask("GET k"), bulk("2"));
}

#[test]
fn big_values_and_clients_that_do_not_read_are_carried() {
    let pair = pair();
    let mut client = pair.proxy.client();
    let big = "x".repeat(8 << 20);
    assert_eq!(client.ask(&format!("SET big {big}")), ok());
    for _ in 0..4 {
        client.send("GET big");
    }
    for _ in 0..4 {
        assert_eq!(client.reply(), bulk(&big));
    }
}

#[test]
fn a_stop_is_quick_and_answers_what_is_in_flight() {
    let mut pair = pair();
    let mut client = pair.proxy.client();
    assert_eq!(client.ask("PING"), Reply::Simple("PONG".to_owned()));
    let pid = pair.proxy.process.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let start = Instant::now();
    let status = pair.proxy.process.0.wait().unwrap();
    assert!(status.success());
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(client.next(), None);
}

#[test]
fn the_client_library_and_the_benchmark_work() {
    let pair = pair();
    let client = redis::Client::open(format!("redis://127.0.0.1:{}/", pair.proxy.port)).unwrap();
    let mut connection = client.get_connection().unwrap();
    let answers: (String, i64, Vec<String>) = redis::pipe()
        .cmd("SET")
        .arg("a")
        .arg("1")
        .cmd("INCR")
        .arg("n")
        .cmd("MGET")
        .arg("a")
        .arg("n")
        .query(&mut connection)
        .unwrap();
    assert_eq!(answers, ("OK".to_owned(), 1, vec!["1".to_owned(), "1".to_owned()]));
    let port = pair.proxy.port.to_string();
    let output = Command::new("redis-benchmark")
        .args(["-p", &port, "-q", "-P", "16", "-n", "5000"])
        .args(["-t", "set,get,incr,hset,zadd,mset,lpush"])
        .output()
        .expect("redis-benchmark: apt-get install redis-tools");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text.matches("requests per second").count(), 7, "{text}");
    assert!(!text.contains("rror"), "{text}");
}

#[test]
fn wrong_settings_and_a_taken_port_say_what_to_do() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let run = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_godwit-proxy")).args(args).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, text) = run(&["--listen", &address, "--backend", "127.0.0.1:1"]);
    assert!(code == 1 && text.contains(&address) && text.contains("port in use"), "{text}");
    let (code, text) = run(&["--listen", &address]);
    assert!(code == 2 && text.contains("--backend HOST:PORT"), "{text}");
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/godwit-proxy.toml");
    let (code, text) = run(&["--config", sample, "--check-config"]);
    assert_eq!(code, 0, "{text}");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("proxy.toml");
    std::fs::write(&path, "bakend = '127.0.0.1:1'\n").unwrap();
    let (code, text) = run(&["--config", path.to_str().unwrap(), "--check-config"]);
    assert!(code == 2 && text.contains("did you mean `backend`?"), "{text}");
}
