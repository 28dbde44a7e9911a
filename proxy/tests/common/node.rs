//! A node that does as the story says: it answers, refuses, is silent, or breaks off.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use resp::Version;
use resp::command::{Limits, parse};
use resp::reply::Writer;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Answer,
    /// Refuses writes as a frozen node does; sticky where the connection asked for it.
    Refuse,
    /// Takes commands and says nothing.
    Silent,
    /// Runs the next write and closes the connection without an answer.
    BreakAtWrite,
    /// Closes the connection at the next read, once.
    BreakAtRead,
    /// Refuses reads as a node does that is being filled.
    Loading,
}

pub struct State {
    pub mode: Mode,
    pub data: BTreeMap<String, String>,
    /// Each command that ran, and `GODWIT.RESUME`, in order.
    pub ran: Vec<String>,
    /// How many writes it refused.
    pub refused: usize,
    /// How far a standby says that it is behind.
    pub lag_ms: Option<i64>,
}

#[derive(Clone)]
pub struct Node {
    pub port: u16,
    pub state: Arc<Mutex<State>>,
}

impl Node {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = State {
            mode: Mode::Answer,
            data: BTreeMap::new(),
            ran: Vec::new(),
            refused: 0,
            lag_ms: None,
        };
        let node = Self { port, state: Arc::new(Mutex::new(state)) };
        let serving = node.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let node = serving.clone();
                std::thread::spawn(move || node.serve(stream));
            }
        });
        node
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn mode(&self, mode: Mode) {
        self.state.lock().unwrap().mode = mode;
    }

    pub fn ran(&self) -> Vec<String> {
        self.state.lock().unwrap().ran.clone()
    }

    fn serve(&self, mut stream: TcpStream) {
        let (mut buf, mut args) = (Vec::new(), Vec::new());
        let (mut sticky, mut refusing) = (false, false);
        let mut chunk = [0; 65536];
        loop {
            match stream.read(&mut chunk) {
                Ok(read) if read > 0 => buf.extend_from_slice(&chunk[..read]),
                _ => return,
            }
            let mut out = Vec::new();
            while let Some(length) = parse(&mut buf, &Limits::default(), &mut args).unwrap() {
                let text = |r: &std::ops::Range<usize>| {
                    String::from_utf8_lossy(&buf[r.clone()]).into_owned()
                };
                let words: Vec<String> = args.iter().map(text).collect();
                buf.drain(..length);
                match words[0].as_str() {
                    "GODWIT.HOLD" => {
                        sticky = true;
                        out.extend_from_slice(b"+OK\r\n");
                        continue;
                    }
                    "GODWIT.RESUME" => {
                        refusing = false;
                        self.state.lock().unwrap().ran.push(words.join(" "));
                        out.extend_from_slice(b"+OK\r\n");
                        continue;
                    }
                    // The proxy's own questions are no part of a story.
                    "GODWIT.PROBE" => {
                        self.probed(&mut out);
                        continue;
                    }
                    "READONLY" => {
                        out.extend_from_slice(b"+OK\r\n");
                        continue;
                    }
                    "EXISTS" if words[1].starts_with("godwit:probe:") => {
                        out.extend_from_slice(b":0\r\n");
                        continue;
                    }
                    _ => {}
                }
                if !self.one(&words, sticky, &mut refusing, &mut out) {
                    return;
                }
            }
            if stream.write_all(&out).is_err() {
                return;
            }
        }
    }

    /// What a standby says of itself; a node from before probes says nothing.
    fn probed(&self, out: &mut Vec<u8>) {
        let mut out = Writer::new(out, Version::V2);
        match self.state.lock().unwrap().lag_ms {
            None => out.error("ERR unknown command 'GODWIT.PROBE'"),
            Some(lag_ms) => {
                out.array(4);
                out.bulk(b"mode");
                out.bulk(b"standby");
                out.bulk(b"lag-ms");
                out.integer(lag_ms);
            }
        }
    }

    /// One command; `false`: close the connection.
    fn one(&self, words: &[String], sticky: bool, refusing: &mut bool, out: &mut Vec<u8>) -> bool {
        let write = matches!(words[0].as_str(), "SET" | "MSET" | "DEL" | "INCR" | "FLUSHALL");
        let mut state = self.state.lock().unwrap();
        let state = &mut *state;
        let mut out = Writer::new(out, Version::V2);
        match state.mode {
            Mode::Silent => return true,
            Mode::Loading => {
                state.refused += 1;
                out.error("LOADING it is being filled");
                return true;
            }
            Mode::Refuse if write => *refusing = true,
            Mode::BreakAtRead if !write => {
                state.mode = Mode::Answer;
                return false;
            }
            _ => {}
        }
        if write && *refusing {
            *refusing = sticky;
            state.refused += 1;
            out.error("READONLY this shard is frozen");
            return true;
        }
        state.ran.push(words.join(" "));
        let data = &mut state.data;
        match words[0].as_str() {
            "GET" => match data.get(&words[1]) {
                Some(value) => out.bulk(value.as_bytes()),
                None => out.null(),
            },
            "MGET" => {
                out.array(words.len() - 1);
                for key in &words[1..] {
                    match data.get(key) {
                        Some(value) => out.bulk(value.as_bytes()),
                        None => out.null(),
                    }
                }
            }
            "SET" | "MSET" => {
                for pair in words[1..].chunks(2) {
                    data.insert(pair[0].clone(), pair[1].clone());
                }
                out.simple("OK");
            }
            "INCR" => {
                let value = data.entry(words[1].clone()).or_insert_with(|| "0".to_owned());
                *value = (value.parse::<i64>().unwrap() + 1).to_string();
                out.integer(value.parse().unwrap());
            }
            "DEL" => {
                let gone = words[1..].iter().filter(|key| data.remove(*key).is_some()).count();
                out.integer(gone as i64);
            }
            "FLUSHALL" => {
                data.clear();
                out.simple("OK");
            }
            "DBSIZE" => out.integer(data.len() as i64),
            "KEYS" => {
                out.array(data.len());
                data.keys().for_each(|key| out.bulk(key.as_bytes()));
            }
            "SCAN" => {
                out.array(2);
                let at: usize = words[1].parse().unwrap();
                let next = if at + 2 < data.len() { at + 2 } else { 0 };
                out.bulk(next.to_string().as_bytes());
                let keys: Vec<_> = data.keys().skip(at).take(2).collect();
                out.array(keys.len());
                keys.iter().for_each(|key| out.bulk(key.as_bytes()));
            }
            other => out.error(&format!("ERR unknown command '{other}'")),
        }
        !(write && state.mode == Mode::BreakAtWrite)
    }
}
