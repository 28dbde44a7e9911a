//! A stock redis-server, and what is in a server: to compare two of them, whatever they are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use resp::reply::Reply;

use crate::client::Client;
use crate::clouds::Process;
use crate::clouds::ports::Ports;
use crate::wait;

/// How long a server may take to serve.
const READY_MAX: Duration = Duration::from_secs(20);

/// A redis-server of its own (`scripts/deps.sh tests` installs it).
#[derive(Debug)]
pub struct Redis {
    /// Where it listens.
    pub address: String,
    /// The process.
    pub process: Process,
    dir: PathBuf,
}

impl Redis {
    /// Starts one with its files in a directory of this name under `dir`. What it has is saved only by
    /// SAVE, and read again at a start.
    pub fn start(name: &str, dir: &Path, ports: &mut Ports, more: &[&str]) -> Self {
        let address = ports.next_address().expect("there are free ports");
        let own = dir.join(name);
        std::fs::create_dir_all(&own).expect("a directory can be made");
        let port = address.rsplit(':').next().unwrap_or_default().to_owned();
        let mut args = vec!["--port".to_owned(), port];
        let own_text = own.display().to_string();
        let fixed = ["--bind", "127.0.0.1", "--save", "", "--dir", &own_text];
        // A snapshot is sent at once, not five seconds later in case more replicas come.
        let at_once = ["--repl-diskless-sync-delay", "0", "--enable-debug-command", "local"];
        args.extend(fixed.into_iter().chain(at_once).map(str::to_owned));
        args.extend(more.iter().map(|&arg| arg.to_owned()));
        let log = dir.join(format!("{name}.log"));
        let program = PathBuf::from("redis-server");
        let process = Process::new(name.to_owned(), program, args, log);
        let mut redis = Self { address, process, dir: own };
        redis.serve();
        redis
    }

    /// Starts it and waits until it serves.
    pub fn serve(&mut self) {
        self.process.start().expect("redis-server runs (scripts/deps.sh tests installs it)");
        let served = wait::until("redis-server to serve", READY_MAX, || {
            Client::connect(&self.address)?.call(&["PING"])
        });
        served.unwrap_or_else(|error| panic!("{error:#}\n{}", self.process.tail(10)));
    }

    /// Removes what it has saved: its next start begins with nothing.
    pub fn forget(&self) {
        // There is none if it never saved.
        let _ = std::fs::remove_file(self.dir.join("dump.rdb"));
    }

    /// A client.
    pub fn client(&self) -> Client {
        Client::connect(&self.address).expect("redis-server takes connections")
    }

    /// Its address as the programs have it.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }
}

/// A number from one of INFO's lines.
pub fn info(client: &mut Client, name: &str) -> Result<u64> {
    let text = client.text(&["INFO", "everything"])?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let value = line.with_context(|| format!("INFO has no {name}"))?;
    value.trim().parse().with_context(|| format!("{name} is {value}"))
}

/// What is in a server: by key, its type, when it expires, and what is in it.
pub type Contents = BTreeMap<String, (String, i64, Vec<String>)>;

/// Reads all of it; keys that begin with `skip` are not looked at.
pub fn contents(client: &mut Client, skip: &str) -> Result<Contents> {
    let (mut contents, mut cursor) = (Contents::new(), "0".to_owned());
    loop {
        let page = client.call(&["SCAN", &cursor, "COUNT", "1000"])?;
        let page = page.as_array().unwrap_or_default();
        let (Some(next), Some(keys)) = (page.first(), page.get(1).and_then(Reply::as_array)) else {
            anyhow::bail!("SCAN answered {page:?}");
        };
        for key in keys {
            let key = key.as_text().context("a key is no text")?;
            if !key.starts_with(skip) && !contents.contains_key(key) {
                contents.insert(key.to_owned(), value(client, key)?);
            }
        }
        cursor = next.as_text().context("a cursor is no text")?.to_owned();
        if cursor == "0" {
            return Ok(contents);
        }
    }
}

fn value(client: &mut Client, key: &str) -> Result<(String, i64, Vec<String>)> {
    let kind = client.text(&["TYPE", key])?;
    let expires = client.call(&["PEXPIRETIME", key])?.as_integer().unwrap_or(-3);
    let read: &[&[&str]] = match &*kind {
        "string" => &[&["GET", key]],
        "list" => &[&["LRANGE", key, "0", "-1"]],
        "set" => &[&["SMEMBERS", key]],
        "hash" => &[&["HGETALL", key]],
        "zset" => &[&["ZRANGE", key, "0", "-1", "WITHSCORES"]],
        // Who consumed what when is told in milliseconds that go on: not compared.
        _ => &[&["XRANGE", key, "-", "+"], &["XINFO", "GROUPS", key]],
    };
    let mut parts = Vec::new();
    for command in read {
        flatten(&client.call(command)?, &mut parts);
    }
    // How much a group has read is not told to replicas when somebody reads (Redis 7.0: XCLAIM).
    while let Some(at) = parts.iter().position(|p| matches!(&**p, "entries-read" | "lag")) {
        parts.drain(at..(at + 2).min(parts.len()));
    }
    match &*kind {
        "set" => parts.sort(),
        "hash" => {
            let mut pairs: Vec<_> = parts.chunks(2).map(<[String]>::to_vec).collect();
            pairs.sort();
            parts = pairs.concat();
        }
        _ => {}
    }
    Ok((kind, expires, parts))
}

fn flatten(reply: &Reply, out: &mut Vec<String>) {
    match reply {
        Reply::Array(all) => all.iter().for_each(|one| flatten(one, out)),
        reply => out.push(match (reply.as_bytes(), reply.as_integer()) {
            (Some(bytes), _) => String::from_utf8_lossy(bytes).into_owned(),
            (None, Some(number)) => number.to_string(),
            (None, None) => "none".to_owned(),
        }),
    }
}

/// Fails with the first difference of two servers' contents.
pub fn same(one: &Contents, other: &Contents) -> Result<()> {
    let keys: std::collections::BTreeSet<_> = one.keys().chain(other.keys()).collect();
    let differs: Vec<_> = keys.iter().filter(|key| one.get(**key) != other.get(**key)).collect();
    let first = differs.first().map(|key| (key, one.get(**key), other.get(**key)));
    ensure!(
        differs.is_empty(),
        "{} of {} keys differ, such as {first:#?}",
        differs.len(),
        keys.len()
    );
    Ok(())
}

/// Writes one of everything under a prefix, small and large.
pub fn fill(client: &mut Client, prefix: &str) -> Result<()> {
    let key = |name: &str| format!("{prefix}{name}");
    let mut sent = 0;
    let mut push = |client: &mut Client, args: &[&str]| {
        client.push(args);
        sent += 1;
    };
    push(client, &["SET", &key("text"), "hello"]);
    push(client, &["SET", &key("number"), "12345"]);
    push(client, &["SET", &key("long"), &"abc".repeat(5000)]);
    push(client, &["SET", &key("dying"), "soon", "PX", "3600000"]);
    push(client, &["SETBIT", &key("bits"), "1000", "1"]);
    push(client, &["PFADD", &key("hll"), "a", "b", "c"]);
    push(client, &["GEOADD", &key("geo"), "13.36", "38.11", "Palermo"]);
    push(client, &["XADD", &key("stream"), "5-1", "f", "v", "g", "w"]);
    push(client, &["XADD", &key("stream"), "6-1", "f", "x"]);
    push(client, &["XGROUP", "CREATE", &key("stream"), "group", "0"]);
    push(
        client,
        &["XREADGROUP", "GROUP", "group", "me", "COUNT", "1", "STREAMS", &key("stream"), ">"],
    );
    push(client, &["XDEL", &key("stream"), "6-1"]);
    for (size, count) in [("small", 3), ("large", 700)] {
        for number in 0..count {
            let (n, long) = (number.to_string(), format!("member-{number}-{}", "x".repeat(40)));
            push(client, &["RPUSH", &key(&format!("list-{size}")), &long]);
            push(client, &["SADD", &key(&format!("set-{size}")), &long]);
            push(client, &["SADD", &key(&format!("ints-{size}")), &n]);
            push(client, &["HSET", &key(&format!("hash-{size}")), &long, &n]);
            push(client, &["ZADD", &key(&format!("zset-{size}")), &format!("{n}.25"), &long]);
        }
        push(client, &["PEXPIRE", &key(&format!("hash-{size}")), "7200000"]);
    }
    client.flush()?;
    for _ in 0..sent {
        if let Reply::Error(why) = client.answer()? {
            anyhow::bail!("filling: {why}");
        }
    }
    Ok(())
}
