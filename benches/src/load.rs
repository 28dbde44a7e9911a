//! What redis-benchmark is told to do, and what it says of it.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::client::Client;
use crate::server::{Server, pinned};

/// One kind of command, as redis-benchmark's own test of that name has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Load {
    Set,
    Get,
    Hset,
    Zadd,
}

impl Load {
    pub(crate) const ALL: [Self; 4] = [Self::Set, Self::Get, Self::Hset, Self::Zadd];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Set => "SET",
            Self::Get => "GET",
            Self::Hset => "HSET",
            Self::Zadd => "ZADD",
        }
    }

    /// The command, with redis-benchmark's own mark for a random number. HSET and ZADD fill one
    /// large key, another one for each pipeline length.
    fn command(self, pipeline: usize, value: &str) -> Vec<String> {
        const RANDOM: &str = "__rand_int__";
        let (key, part) = (format!("key:{RANDOM}"), format!("element:{RANDOM}"));
        let name = self.name().to_owned();
        match self {
            Self::Set => vec![name, key, value.to_owned()],
            Self::Get => vec![name, key],
            Self::Hset => vec![name, format!("hash:{pipeline}"), part, value.to_owned()],
            Self::Zadd => vec![name, format!("zset:{pipeline}"), RANDOM.to_owned(), part],
        }
    }
}

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amount {
    pub(crate) clients: usize,
    pub(crate) keys: u64,
    pub(crate) requests: u64,
    pub(crate) pipeline: usize,
    pub(crate) value_bytes: usize,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    /// The server's CPU for one operation, in microseconds.
    pub(crate) cpu_us: f64,
    /// Operations a second, by the wall clock.
    pub(crate) rate: f64,
    pub(crate) p99_ms: f64,
}

/// Runs redis-benchmark against a server and measures the server.
pub(crate) fn run(server: &Server, core: usize, load: Load, amount: &Amount) -> Result<Sample> {
    let mut command = pinned(core, Path::new("redis-benchmark"));
    command.args(["-p", &server.port.to_string(), "--csv", "--precision", "3"]);
    for (option, value) in [
        ("-c", amount.clients as u64),
        ("-n", amount.requests),
        ("-r", amount.keys),
        ("-P", amount.pipeline as u64),
    ] {
        command.args([option, &value.to_string()]);
    }
    command.args(load.command(amount.pipeline, &"x".repeat(amount.value_bytes)));
    let before = server.cpu()?;
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.context("cannot start redis-benchmark: install redis-tools")?;
    let used = server.cpu()?.saturating_sub(before);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // "test","rps","avg","min","p50","p95","p99","max"; the name may have commas.
    let numbers = text.lines().rev().find(|line| line.starts_with('"')).map(|line| {
        let fields = line.rsplit("\",\"").map(|field| field.trim_matches('"').parse());
        fields.map(|number| number.unwrap_or(0.0)).take(7).collect::<Vec<f64>>()
    });
    match numbers.as_deref() {
        Some(&[_max, p99_ms, _p95, _p50, _min, _avg, rate]) if output.status.success() => {
            Ok(Sample { cpu_us: per_op(used, amount.requests), rate, p99_ms })
        }
        _ => bail!("redis-benchmark answered ({}): {text}", output.status),
    }
}

/// Microseconds an operation.
pub(crate) fn per_op(used: Duration, operations: u64) -> f64 {
    used.as_secs_f64() * 1e6 / operations as f64
}

/// Writes every key that `GET` may ask for.
pub(crate) fn fill(server: &Server, keys: u64, value_bytes: usize) -> Result<()> {
    let mut client = Client::connect(server.port)?;
    let value = "x".repeat(value_bytes);
    for number in 0..keys {
        client.pipe(&[b"SET", key(number).as_bytes(), value.as_bytes()])?;
    }
    client.flush()
}

/// The key of a number, as redis-benchmark writes it.
pub(crate) fn key(number: u64) -> String {
    format!("key:{number:012}")
}
