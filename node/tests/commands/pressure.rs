//! A disk without room, and writes that RocksDB holds up.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::node::{Client, Node};

/// Long enough for a busy machine; nothing waits for it when all is well.
const PATIENCE: Duration = Duration::from_secs(20);

/// Asks again until the answer is what it should become.
fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < deadline, "gave up waiting: {what}");
        std::thread::yield_now();
    }
}

/// SET on a connection of its own; `None`: it was closed without an answer.
fn set(node: &Node, key: &str, value: &str) -> Option<String> {
    let mut connection = node.redis();
    let answer: redis::RedisResult<String> =
        redis::cmd("SET").arg(key).arg(value).query(&mut connection);
    match answer {
        Ok(answer) => Some(answer),
        Err(error) if error.code().is_some() => Some(error.to_string()),
        Err(_) => None,
    }
}

fn position(client: &mut Client) -> String {
    let info = client.ask("INFO persistence");
    let line = info.lines().find_map(|line| line.strip_prefix("godwit_position:"));
    line.unwrap().trim().to_owned()
}

#[test]
fn a_log_that_cannot_grow_costs_writes_until_it_can_and_no_read() {
    let node = Node::new();
    let mut reader = node.client();
    assert_eq!(set(&node, "first", "stays").as_deref(), Some("OK"));
    let before = position(&mut reader);
    node.limit_files(Some(256 << 10));
    let value = "x".repeat(16 << 10);
    let mut stored = Vec::new();
    until("the log takes no more", || {
        let key = format!("key:{}", stored.len());
        let done = set(&node, &key, &value).as_deref() == Some("OK");
        if done {
            stored.push(key);
        }
        !done
    });
    assert!(stored.len() > 4, "{}", stored.len());
    until("writes are refused in words", || {
        set(&node, "refused", "value").is_some_and(|answer| answer.contains("log of this node"))
    });
    // Reads go on, on connections old and new, for as long as it lasts.
    for key in &stored {
        assert_eq!(reader.ask(&format!("STRLEN {key}")), value.len().to_string());
    }
    assert_eq!(node.client().ask("GET first"), "stays");
    node.limit_files(None);
    until("writes go on by themselves", || set(&node, "later", "x").as_deref() == Some("OK"));
    let mut again = node.client();
    for key in &stored {
        assert_eq!(again.ask(&format!("STRLEN {key}")), value.len().to_string(), "{key}");
    }
    assert_eq!(again.ask("MGET first later refused"), "[stays x nil]");
    let (before, after) = (before.split('@').next(), position(&mut again));
    assert_ne!(before, after.split('@').next(), "a new timeline");
}

/// A file system of this size in memory; `None`: this user may not mount one.
fn mount(at: &Path, bytes: u64) -> Option<Mounted> {
    let size = format!("size={bytes}");
    let done = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "godwit"]).arg(at).output();
    done.is_ok_and(|done| done.status.success()).then(|| Mounted(at.to_owned()))
}

struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_refuses_writes_in_words_and_takes_them_again_when_there_is_room() {
    let scratch = tempfile::tempdir().unwrap();
    let Some(_mounted) = mount(scratch.path(), 256 << 20) else {
        // The limit on the size of files above says the same, and less.
        return;
    };
    let node = Node::open(&scratch.path().join("node"));
    let mut client = node.client();
    assert_eq!(client.ask("SET first stays"), "OK");
    let before = position(&mut client);
    let ballast = scratch.path().join("ballast");
    let fill = |leaves: u64| {
        let volume = rustix::fs::statvfs(scratch.path()).unwrap();
        let bytes = (volume.f_bavail * volume.f_frsize).saturating_sub(leaves);
        std::fs::write(&ballast, vec![1; bytes as usize]).unwrap();
    };
    fill(40 << 20);
    until("writes are refused in words", || {
        client.ask("SET tried value").starts_with("(MISCONF the disk")
    });
    assert_eq!(client.ask("GET first"), "stays");
    assert_eq!(client.ask("DEL first"), client.ask("SET refused value"));
    std::fs::remove_file(&ballast).unwrap();
    until("there is room", || client.ask("SET later x") == "OK");
    assert_eq!(client.ask("MGET first later refused"), "[stays x nil]");
    assert_eq!(before.split('@').next(), position(&mut client).split('@').next(), "no reopening");
    // All of it at once, to the last byte: then the log fails in the middle of a write.
    fill(0);
    let value = "x".repeat(64 << 10);
    until("writes are refused", || set(&node, "last", &value).is_some_and(|a| a != "OK"));
    assert_eq!(node.client().ask("GET first"), "stays");
    std::fs::remove_file(&ballast).unwrap();
    until("there is room again", || set(&node, "again", "y").as_deref() == Some("OK"));
    assert_eq!(node.client().ask("MGET first later again"), "[stays x y]");
}

#[test]
fn a_write_that_is_held_up_holds_up_its_own_connection_only() {
    // No write is let through.
    let node = Node::failing("write-stalled");
    let (mut writer, mut reader) = (node.client(), node.client());
    writer.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n");
    writer.send(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
    for _ in 0..200 {
        assert_eq!(reader.ask("GET k"), "nil");
    }
    writer.send(b"*2\r\n$3\r\nGET\r\n$5\r\nother\r\n");
    assert_eq!(reader.ask("STRLEN k"), "0");
}

#[test]
fn writes_that_are_held_up_now_and_then_lose_no_order() {
    let node = Node::failing("write-stalled:every=2");
    let writers = (0..4).map(|number| {
        let mut client = node.client();
        std::thread::spawn(move || {
            for round in 0..30 {
                // One write of many bytes: the node reads it in as many pieces as it likes.
                let mut bytes = Vec::new();
                for i in 0..20 {
                    let value = (round * 20 + i).to_string();
                    let key = format!("list:{number}");
                    resp::command::write(&mut bytes, &[b"RPUSH", key.as_bytes(), value.as_bytes()]);
                    resp::command::write(&mut bytes, &[b"LINDEX", key.as_bytes(), b"-1"]);
                    resp::command::write(&mut bytes, &[b"INCR", b"{all}"]);
                }
                client.send(&bytes);
                for i in 0..20 {
                    let at = round * 20 + i;
                    assert_eq!(crate::node::show(&client.read()), (at + 1).to_string());
                    assert_eq!(crate::node::show(&client.read()), at.to_string());
                    client.read();
                }
            }
        })
    });
    writers.collect::<Vec<_>>().into_iter().for_each(|writer| writer.join().unwrap());
    let mut client = node.client();
    assert_eq!(client.ask("GET {all}"), (4 * 30 * 20).to_string());
    let expected: Vec<_> = (0..600).map(|i| i.to_string()).collect();
    for number in 0..4 {
        let list = client.ask(&format!("LRANGE list:{number} 0 -1"));
        assert_eq!(list, format!("[{}]", expected.join(" ")));
    }
}

#[test]
fn a_stall_of_rocksdb_itself_is_seen_and_holds_up_no_read() {
    // Flushes write far less than clients: memtables wait, and no more of them may be begun.
    let node = Node::with(&["--memory", "32MiB", "--background-rate", "128KiB"]);
    let (mut writer, mut reader) = (node.client(), node.client());
    assert_eq!(reader.ask("SET before v"), "OK");
    // Files are compressed, so no two pieces of the values are alike.
    let mut value = vec![0; 16 << 10];
    let mut bytes = Vec::new();
    for number in 0..6000 {
        let key = format!("stalled:{number}");
        rand::fill(&mut value[..]);
        resp::command::write(&mut bytes, &[b"SET", key.as_bytes(), &value]);
    }
    // Until the node is gone.
    std::thread::spawn(move || writer.try_send(&bytes));
    // RocksDB lets fewer bytes a second in, then none.
    let stalls = |client: &mut Client| {
        let info = client.ask("INFO persistence");
        let delayed = !info.contains("godwit_write_delayed_bytes_per_second:0\r\n");
        delayed || info.contains("godwit_write_stopped:1")
    };
    until("96 MiB to stall", || stalls(&mut reader));
    for _ in 0..500 {
        assert_eq!(reader.ask("GET before"), "v");
        assert_eq!(reader.ask("GET none"), "nil");
    }
    assert!(stalls(&mut reader), "it was over before the reads");
    // A write waits, and its own connection with it; another one still reads.
    let mut held = node.client();
    held.say("SET before w");
    held.say("GET before");
    assert_eq!(reader.ask("GET none"), "nil");
}

#[test]
fn what_is_held_up_is_written_before_what_is_of_several_workers_behind_it() {
    // No write is let through that will not wait.
    let node = Node::failing("write-stalled");
    let (mut writer, mut reader) = (node.client(), node.client());
    writer.say("SET a 1");
    // Long enough that it is kept; these are keys of three workers.
    for _ in 0..200 {
        assert_eq!(reader.ask("GET a"), "nil");
    }
    writer.say("MSET a 2 three 2 foo 2");
    writer.say("MGET a three foo");
    assert_eq!([writer.hear(), writer.hear(), writer.hear()], ["OK", "OK", "[2 2 2]"]);
    assert_eq!(reader.ask("MGET a three foo"), "[2 2 2]");
}

#[test]
fn a_write_of_several_workers_that_is_held_up_holds_up_nobody_who_reads() {
    // Nothing is let through once it has been looked at.
    let node = Node::failing("writes-stopped");
    let (mut writer, mut other, mut reader) = (node.client(), node.client(), node.client());
    until("the stall is seen", || {
        reader.ask("INFO persistence").contains("godwit_write_stopped:1")
    });
    // Keys of all workers.
    let keys: Vec<String> = (0..20).map(|n| format!("key:{n}")).collect();
    writer.say(&format!(
        "MSET {}",
        keys.iter().map(|key| format!("{key} v")).collect::<Vec<_>>().join(" ")
    ));
    writer.say("GET key:1");
    for line in ["MULTI", "SET key:1 x", "SET key:2 x", "SET key:3 x"] {
        other.ask(line);
    }
    other.say("EXEC");
    reader.see_waiting(2);
    for key in keys.iter().cycle().take(200) {
        assert_eq!(reader.ask(&format!("GET {key}")), "nil");
    }
    assert_eq!(reader.ask(&format!("MGET {} {}", keys[0], keys[1])), "[nil nil]");
}

#[test]
fn writes_of_several_workers_go_on_when_a_stall_is_over() {
    let node = Node::failing("writes-stopped:every=2");
    let writers = (0..3).map(|number| {
        let mut client = node.client();
        std::thread::spawn(move || {
            for round in 0..8 {
                let pairs = (0..10).map(|n| format!("{number}:{n} {round}"));
                client.say(&format!("MSET {}", pairs.collect::<Vec<_>>().join(" ")));
                client.say(&format!("MGET {number}:0 {number}:9"));
                assert_eq!(client.hear(), "OK");
                assert_eq!(client.hear(), format!("[{round} {round}]"));
            }
        })
    });
    writers.collect::<Vec<_>>().into_iter().for_each(|writer| writer.join().unwrap());
}
