//! What the stories share: the proxy as a process, a raw client, a node that does as it is told.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "tests; not each story uses everything"
)]

pub mod node;
pub mod service;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use resp::reply::Reply;

/// A port that nobody used a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Asks until it is so; fails with the story's words after ten seconds.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within ten seconds: {what}");
        std::thread::yield_now();
        pause();
    }
}

#[allow(clippy::disallowed_methods, reason = "between two questions, not as synchronisation")]
fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}

/// A process that ends with the story.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A proxy as a user starts it.
pub struct Proxy {
    pub process: Process,
    pub port: u16,
    pub metrics: u16,
}

impl Proxy {
    /// Starts one with these flags and waits until it listens.
    pub fn start(flags: &[&str]) -> Self {
        Self::start_with(flags, "")
    }

    /// The same with failpoints.
    pub fn start_with(flags: &[&str], failpoints: &str) -> Self {
        let (port, metrics) = (free_port(), free_port());
        let child = Command::new(env!("CARGO_BIN_EXE_godwit-proxy"))
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .args(["--metrics", &format!("127.0.0.1:{metrics}"), "--threads", "2"])
            .args(flags)
            .env("GODWIT_FAILPOINTS", failpoints)
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let proxy = Self { process: Process(child), port, metrics };
        eventually("the proxy listens", || TcpStream::connect(("127.0.0.1", port)).ok());
        proxy
    }

    pub fn client(&self) -> Client {
        Client::connect(self.port)
    }

    /// The body of a page of its metrics port.
    pub fn page(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.metrics)).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    /// Waits until it is ready.
    pub fn ready(self) -> Self {
        eventually("the proxy is ready", || (self.page("/readyz") == "ok\n").then_some(()));
        self
    }
}

/// A client that says exactly what it is told to.
pub struct Client {
    pub stream: TcpStream,
    buf: Vec<u8>,
}

impl Client {
    pub fn connect(port: u16) -> Self {
        let stream =
            eventually("a client connects", || TcpStream::connect(("127.0.0.1", port)).ok());
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buf: Vec::new() }
    }

    /// Sends a command, its words apart by spaces.
    pub fn send(&mut self, line: &str) {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let mut out = Vec::new();
        resp::command::write(&mut out, &words);
        self.stream.write_all(&out).unwrap();
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next reply.
    pub fn reply(&mut self) -> Reply {
        self.next().expect("a reply, not the end of the connection")
    }

    /// The next reply; `None` at the end of the connection.
    pub fn next(&mut self) -> Option<Reply> {
        loop {
            if let Some((reply, length)) = Reply::parse(&self.buf).unwrap() {
                self.buf.drain(..length);
                return Some(reply);
            }
            let mut chunk = [0; 4096];
            let read = self.stream.read(&mut chunk).expect("a reply within ten seconds");
            if read == 0 {
                return None;
            }
            self.buf.extend_from_slice(&chunk[..read]);
        }
    }

    /// Whether a reply comes within this time. There is none in the buffer.
    pub fn is_answered_within(&mut self, time: Duration) -> bool {
        assert!(self.buf.is_empty());
        self.stream.set_read_timeout(Some(time)).unwrap();
        let answered = self.stream.peek(&mut [0]).is_ok();
        self.stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        answered
    }

    /// Sends a command and reads its reply.
    pub fn ask(&mut self, line: &str) -> Reply {
        self.send(line);
        self.reply()
    }
}

pub fn ok() -> Reply {
    Reply::Simple("OK".to_owned())
}

pub fn bulk(text: &str) -> Reply {
    Reply::Bulk(text.as_bytes().to_vec())
}
