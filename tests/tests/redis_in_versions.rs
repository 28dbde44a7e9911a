//! Coming in from Redis 5 to 8: each version of the snapshot has forms of its own. Only one of these servers
//! is at hand, so the others are played: a source that knows PSYNC and sends a snapshot made here by hand
//! (Redis: `rdb.h`, `ziplist.c`, `listpack.c`, `intset.h`).

#![allow(clippy::unwrap_used)] // of tests, helpers too

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use resp::command::Limits;
use tests::client::Client;
use tests::clouds::ports::Ports;
use tests::clouds::{Process, binaries};
use tests::wait;

const LIMIT: Duration = Duration::from_secs(60);
/// 2100, in milliseconds.
const FAR: u64 = 4_102_444_800_000;

/// A text with its length before it.
fn text(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap();
    let [high, low] = length.to_be_bytes();
    let head = if length < 64 { vec![low] } else { vec![0x40 | high, low] };
    [&head, bytes].concat()
}

/// Texts of fewer than 64 bytes: total length, where the last begins, how many; each behind the length
/// of the one before.
fn ziplist(entries: &[&str]) -> Vec<u8> {
    let (mut body, mut before, mut last) = (Vec::new(), 0, 10);
    for entry in entries {
        last = 10 + body.len();
        let one = [&[before, entry.len() as u8], entry.as_bytes()].concat();
        before = one.len() as u8;
        body.extend(one);
    }
    let total = 10 + body.len() as u32 + 1;
    let head = [&total.to_le_bytes()[..], &(last as u32).to_le_bytes()].concat();
    text(&[&head, &(entries.len() as u16).to_le_bytes()[..], &body, &[0xff]].concat())
}

/// An element of a listpack, before its length.
enum Packed<'a> {
    Text(&'a str),
    Number(u64),
}

fn listpack_of(entries: &[Packed<'_>]) -> Vec<u8> {
    let mut body = Vec::new();
    for entry in entries {
        let one = match entry {
            Packed::Text(text) => [&[0x80 | text.len() as u8], text.as_bytes()].concat(),
            Packed::Number(number) => [&[0xf4], &number.to_le_bytes()[..]].concat(),
        };
        let back = one.len() as u8;
        body.extend(one);
        body.push(back);
    }
    let total = 6 + body.len() as u32 + 1;
    let count = (entries.len() as u16).to_le_bytes();
    text(&[&total.to_le_bytes()[..], &count, &body, &[0xff]].concat())
}

fn listpack(entries: &[&str]) -> Vec<u8> {
    listpack_of(&entries.iter().map(|text| Packed::Text(text)).collect::<Vec<_>>())
}

/// Two-byte numbers in order.
fn intset(numbers: &[i16]) -> Vec<u8> {
    let width = 2_u32.to_le_bytes();
    let numbers: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    text(&[&width[..], &(numbers.len() as u32 / 2).to_le_bytes(), &numbers].concat())
}

/// Forms and values of five keys as the first server with this version writes them.
fn values(version: u16) -> Vec<(&'static str, u8, Vec<u8>)> {
    let set = match version {
        ..=10 => (11, intset(&[1, 2])),
        _ => (20, listpack(&["1", "2"])),
    };
    // Lengths, ids and counts of a stream that is empty again; as of 7.0 the first id, the last that was
    // deleted and how many there were; no groups.
    let stream = match version {
        9 => (15, vec![0, 0, 5, 1, 0]),
        10 => (19, vec![0, 0, 5, 1, 0, 0, 5, 1, 1, 0]),
        _ => (21, vec![0, 0, 5, 1, 0, 0, 5, 1, 1, 0]),
    };
    let (list, hash, zset) = match version {
        9 => (
            (14, [&[1][..], &ziplist(&["a", "b"])].concat()),
            (13, ziplist(&["f", "v"])),
            (12, ziplist(&["m", "1.5"])),
        ),
        10 | 11 => (
            (18, [&[1, 2][..], &listpack(&["a", "b"])].concat()),
            (16, listpack(&["f", "v"])),
            (17, listpack(&["m", "1.5"])),
        ),
        _ => (
            (18, [&[1, 2][..], &listpack(&["a", "b"])].concat()),
            // The earliest time, then a time behind each value.
            (25, {
                let times = [Packed::Text("f"), Packed::Text("v"), Packed::Number(FAR)];
                [&FAR.to_le_bytes()[..], &listpack_of(&times)].concat()
            }),
            (17, listpack(&["m", "1.5"])),
        ),
    };
    let named = [("set", set), ("stream", stream), ("list", list), ("hash", hash), ("zset", zset)];
    named.into_iter().map(|(name, (form, value))| (name, form, value)).collect()
}

/// A snapshot of this version; without a checksum.
fn snapshot(version: u16) -> Vec<u8> {
    let mut bytes = format!("REDIS{version:04}").into_bytes();
    // Database 0.
    bytes.extend([254, 0]);
    for (name, form, value) in values(version) {
        bytes.push(form);
        bytes.extend(text(name.as_bytes()));
        bytes.extend(value);
    }
    // One that expires, in milliseconds.
    bytes.push(252);
    bytes.extend(FAR.to_le_bytes());
    bytes.push(0);
    bytes.extend([text(b"text"), text(b"hello")].concat());
    bytes.push(255);
    bytes.extend([0; 8]);
    bytes
}

/// Answers a replica until it goes: the snapshot, one command behind it, and then nothing.
fn play(mut replica: TcpStream, version: u16) -> std::io::Result<()> {
    let (mut bytes, mut ranges) = (Vec::new(), Vec::new());
    let mut piece = [0; 4096];
    loop {
        let parsed = resp::command::parse(&mut bytes, &Limits::default(), &mut ranges).unwrap();
        let Some(length) = parsed else {
            match replica.read(&mut piece)? {
                0 => return Ok(()),
                count => bytes.extend_from_slice(&piece[..count]),
            }
            continue;
        };
        let name = bytes[ranges[0].clone()].to_ascii_lowercase();
        let acknowledges = bytes[..length].windows(3).any(|word| word == b"ACK");
        bytes.drain(..length);
        match &name[..] {
            b"ping" => replica.write_all(b"+PONG\r\n")?,
            b"psync" => {
                let (id, snapshot) = ("0123456789".repeat(4), snapshot(version));
                write!(replica, "+FULLRESYNC {id} 0\r\n${}\r\n", snapshot.len())?;
                replica.write_all(&snapshot)?;
                let mut stream = Vec::new();
                resp::command::write(&mut stream, &[b"SET", b"streamed", b"behind it"]);
                replica.write_all(&stream)?;
            }
            // Which has no answer.
            _ if acknowledges => {}
            _ => replica.write_all(b"+OK\r\n")?,
        }
    }
}

/// A source of this version; where it listens. It ends with the test.
fn source(version: u16) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for replica in listener.incoming().flatten() {
            // One that hangs up is gone, that is all.
            std::thread::spawn(move || drop(play(replica, version)));
        }
    });
    address
}

fn program(name: &str, program: &str, args: &[&str], dir: &Path) -> Process {
    let args = args.iter().map(|&arg| arg.to_owned()).collect();
    let path = binaries::path(program).unwrap();
    let mut process = Process::new(name.to_owned(), path, args, dir.join(format!("{name}.log")));
    process.start().unwrap();
    process
}

#[test]
fn snapshots_of_redis_5_to_8_come_in() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let mut ports = Ports::reserve().unwrap();
    let at = ports.next_address().unwrap();
    let own = dir.join("node").display().to_string();
    let _node = program("node", "godwit-node", &["--dir", &own, "--listen", &at], dir);
    let mut target = wait::until("the node", LIMIT, || {
        let mut client = Client::connect(&at)?;
        client.call(&["PING"])?;
        Ok(client)
    })
    .unwrap();
    for version in 9..=12 {
        // Each is another source with a snapshot of its own, which replaces what there was.
        let (from, to) = (format!("redis://{}", source(version)), format!("redis://{at}"));
        let state = dir.join(format!("state-{version}")).display().to_string();
        let name = format!("redis-in-{version}");
        target.call(&["FLUSHALL"]).unwrap();
        let args = ["redis-in", "--from", &from, "--to", &to, "--state", &state];
        let mut sidecar = program(&name, "godwit-replicator", &args, dir);
        wait::until("the stream behind the snapshot", LIMIT, || {
            ensure!(sidecar.alive(), "the sidecar has ended");
            ensure!(target.text(&["GET", "streamed"])? == "behind it");
            Ok(())
        })
        .unwrap_or_else(|e| panic!("version {version}: {e:#}\n{}", sidecar.tail(30)));
        let mut has = |args: &[&str], wanted: &[&str]| {
            let reply = target.call(args).unwrap();
            let found: Vec<_> = match reply.as_array() {
                Some(all) => all.iter().filter_map(|one| one.as_text()).collect(),
                None => reply.as_text().into_iter().collect(),
            };
            assert_eq!(found, wanted, "version {version}: {args:?}");
        };
        has(&["GET", "text"], &["hello"]);
        has(&["LRANGE", "list", "0", "-1"], &["a", "b"]);
        has(&["SORT", "set"], &["1", "2"]);
        has(&["HGETALL", "hash"], &["f", "v"]);
        has(&["ZRANGE", "zset", "0", "-1", "WITHSCORES"], &["m", "1.5"]);
        has(&["TYPE", "stream"], &["stream"]);
        let mut number = |args: &[&str]| target.call(args).unwrap().as_integer();
        assert_eq!(number(&["PEXPIRETIME", "text"]), Some(FAR as i64), "version {version}");
        assert_eq!(number(&["XLEN", "stream"]), Some(0), "version {version}");
        assert_eq!(number(&["DBSIZE"]), Some(8), "version {version}: these and the position");
        let times = target.call(&["HPEXPIRETIME", "hash", "FIELDS", "1", "f"]).unwrap();
        let time = times.as_array().and_then(|times| times.first()?.as_integer());
        let wanted = if version == 12 { FAR as i64 } else { -1 };
        assert_eq!(time, Some(wanted), "version {version}");
        let id = target.call(&["XADD", "stream", "5-*", "f", "v"]).unwrap();
        assert_eq!(id.as_text(), Some("5-2"), "version {version}: it knows its last id");
        sidecar.end();
    }
}
