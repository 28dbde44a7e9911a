//! One suite for both servers: ours, and the real Toxiproxy where the environment offers it
//! (`TOXIPROXY_URL`, or `toxiproxy-server` on the PATH).

#![allow(clippy::unwrap_used)]

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tests::toxi::Toxiproxy;

/// A server that sends back what it gets, on a port of its own.
fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            thread::spawn(move || {
                let mut out = socket.try_clone().unwrap();
                let _ = std::io::copy(&mut socket, &mut out);
                let _ = out.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    address
}

/// A proxy to an echo server, and a connection through it.
struct Story {
    toxi: Toxiproxy,
    name: &'static str,
    listen: String,
}

impl Story {
    fn new(name: &'static str) -> Self {
        let toxi = Toxiproxy::open().unwrap();
        let listen = toxi.proxy(name, "127.0.0.1:0", &echo()).unwrap();
        Self { toxi, name, listen }
    }

    fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(&self.listen).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket.set_nodelay(true).unwrap();
        socket
    }

    fn toxic(&self, kind: &str, stream: &str, attributes: serde_json::Value) {
        self.toxi.toxic(self.name, kind, stream, attributes).unwrap();
    }
}

impl Drop for Story {
    fn drop(&mut self) {
        let _ = self.toxi.remove(self.name);
    }
}

/// Sends bytes and reads as many back; answers how long that took.
fn round_trip(socket: &mut TcpStream, bytes: usize) -> std::io::Result<Duration> {
    let start = Instant::now();
    let mut out = socket.try_clone()?;
    let sender = thread::spawn(move || out.write_all(&vec![7; bytes]));
    let mut back = vec![0; bytes];
    socket.read_exact(&mut back)?;
    sender.join().unwrap()?;
    assert!(back.iter().all(|b| *b == 7));
    Ok(start.elapsed())
}

#[test]
fn without_toxics_bytes_pass_unchanged() {
    let story = Story::new("plain");
    round_trip(&mut story.connect(), 1_000_000).unwrap();
}

#[test]
fn latency_delays_and_does_not_throttle() {
    let story = Story::new("latency");
    story.toxic("latency", "downstream", json!({"latency": 150}));
    let mut socket = story.connect();
    let took = round_trip(&mut socket, 1).unwrap();
    assert!(took >= Duration::from_millis(150), "took {took:?}");
    let took = round_trip(&mut socket, 4_000_000).unwrap();
    assert!(
        took < Duration::from_secs(4),
        "4 MB are some 120 chunks, each late by the same: {took:?}"
    );
    story.toxi.heal("latency", "latency", "downstream").unwrap();
    let took = round_trip(&mut socket, 1).unwrap();
    assert!(took < Duration::from_millis(150), "healed, and still took {took:?}");
}

#[test]
fn bandwidth_throttles_one_direction() {
    let story = Story::new("bandwidth");
    story.toxic("bandwidth", "upstream", json!({"rate": 100}));
    let took = round_trip(&mut story.connect(), 50_000).unwrap();
    assert!(took >= Duration::from_millis(300), "50 kB at 100 kB/s took {took:?}");
}

#[test]
fn timeout_zero_is_dead_but_open_until_it_is_removed() {
    let story = Story::new("dead");
    let mut socket = story.connect();
    round_trip(&mut socket, 10).unwrap();
    story.toxic("timeout", "upstream", json!({"timeout": 0}));
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let error = round_trip(&mut socket, 10).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    socket.write_all(b"still open").unwrap();
    story.toxi.heal("dead", "timeout", "upstream").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    // What was dropped cannot be had again: the connection ends, and a new one works.
    let ended = socket.read(&mut [0; 10]);
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    round_trip(&mut story.connect(), 10).unwrap();
}

#[test]
fn timeout_closes_after_a_while() {
    let story = Story::new("timeout");
    story.toxic("timeout", "downstream", json!({"timeout": 200}));
    let mut socket = story.connect();
    let start = Instant::now();
    let _ = socket.write_all(b"hello");
    let ended = socket.read(&mut [0; 10]);
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    assert!(start.elapsed() >= Duration::from_millis(150));
}

#[test]
fn reset_peer_resets() {
    let story = Story::new("reset");
    let mut socket = story.connect();
    round_trip(&mut socket, 10).unwrap();
    story.toxic("reset_peer", "downstream", json!({"timeout": 0}));
    let error = round_trip(&mut socket, 10).unwrap_err();
    let reset = [ErrorKind::ConnectionReset, ErrorKind::UnexpectedEof, ErrorKind::BrokenPipe];
    assert!(reset.contains(&error.kind()), "{error}");
}

#[test]
fn limit_data_closes_after_so_much() {
    let story = Story::new("limit");
    story.toxic("limit_data", "downstream", json!({"bytes": 1000}));
    let mut socket = story.connect();
    socket.write_all(&[7; 5000]).unwrap();
    let mut back = Vec::new();
    let _ = socket.read_to_end(&mut back);
    assert_eq!(back.len(), 1000);
}

#[test]
fn slicer_and_slow_close_change_no_byte() {
    let story = Story::new("slices");
    story.toxic(
        "slicer",
        "downstream",
        json!({"average_size": 64, "size_variation": 32, "delay": 10}),
    );
    story.toxic("slow_close", "downstream", json!({"delay": 100}));
    round_trip(&mut story.connect(), 20_000).unwrap();
}

#[test]
fn a_disabled_proxy_refuses_and_cuts() {
    let story = Story::new("cut");
    let mut socket = story.connect();
    round_trip(&mut socket, 10).unwrap();
    story.toxi.enable("cut", false).unwrap();
    let ended = socket.read(&mut [0; 10]);
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    assert!(TcpStream::connect(&story.listen).is_err());
    story.toxi.enable("cut", true).unwrap();
    round_trip(&mut story.connect(), 10).unwrap();
}

#[test]
fn the_api_answers_in_its_words() {
    let story = Story::new("api");
    let toxi = &story.toxi;
    let ask = |method: &str, path: &str, body| toxi.request(method, path, body).unwrap();
    assert_eq!(ask("GET", "/version", None).0, 200);
    let (status, error) = ask("GET", "/proxies/nobody", None);
    assert_eq!((status, error["error"].as_str()), (404, Some("proxy not found")));
    let again = json!({"name": "api", "listen": "127.0.0.1:0", "upstream": "127.0.0.1:1"});
    assert_eq!(ask("POST", "/proxies", Some(again)).0, 409);
    let wrong = json!({"type": "gremlin"});
    assert_eq!(ask("POST", "/proxies/api/toxics", Some(wrong)).0, 400);
    assert_eq!(ask("DELETE", "/proxies/api/toxics/none", None).0, 404);
    story.toxic("latency", "upstream", json!({"latency": 5, "jitter": 1}));
    let (status, toxic) = ask("GET", "/proxies/api/toxics/latency_upstream", None);
    assert_eq!(status, 200);
    assert_eq!(toxic["attributes"], json!({"latency": 5, "jitter": 1}));
    assert_eq!(
        (toxic["type"].as_str(), toxic["stream"].as_str()),
        (Some("latency"), Some("upstream"))
    );
    let (status, changed) = ask(
        "POST",
        "/proxies/api/toxics/latency_upstream",
        Some(json!({"attributes": {"latency": 9, "jitter": 1}})),
    );
    assert_eq!((status, &changed["attributes"]["latency"]), (200, &json!(9)));
    let (_, shown) = ask("GET", "/proxies", None);
    assert_eq!(shown["api"]["toxics"][0]["name"], "latency_upstream");
    assert_eq!(ask("DELETE", "/proxies/api/toxics/latency_upstream", None).0, 204);
}
