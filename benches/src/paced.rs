//! Commands at a fixed rate, and how long each took: a server that stands still is not asked less.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use resp::reply::scan;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::load::key;
use crate::server::{connect, pause};

/// What is sent, and how fast.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Connections; each has one command on its way at a time.
    pub(crate) clients: u64,
    /// Commands a second, all together.
    pub(crate) rate: u64,
    /// For how long.
    pub(crate) time: Duration,
    /// Keys are chosen from so many.
    pub(crate) keys: u64,
    /// One command of so many is a SET, the others are GETs; 0: none is.
    pub(crate) set_each: u64,
    pub(crate) value_bytes: usize,
    /// The core that the connections run on.
    pub(crate) core: usize,
}

/// How long commands took, from when they were due.
#[derive(Clone, Debug, Default)]
pub(crate) struct Took {
    /// In order.
    sorted: Vec<Duration>,
    /// Commands a second that were answered.
    pub(crate) rate: f64,
}

impl Took {
    /// Those of several measurements together.
    pub(crate) fn all(took: Vec<Self>) -> Self {
        let rate = took.iter().map(|took| took.rate).sum::<f64>() / took.len().max(1) as f64;
        let mut sorted: Vec<Duration> = took.into_iter().flat_map(|took| took.sorted).collect();
        sorted.sort_unstable();
        Self { sorted, rate }
    }

    /// The time within which this part of all were answered, in milliseconds.
    pub(crate) fn within_ms(&self, part: f64) -> f64 {
        let at = (self.sorted.len() as f64 * part) as usize;
        let found = self.sorted.get(at.min(self.sorted.len().saturating_sub(1)));
        found.map_or(f64::NAN, |took| took.as_secs_f64() * 1e3)
    }

    /// Milliseconds at the median, at p99, at p99.9 and at most.
    pub(crate) fn cells(&self) -> String {
        let [p50, p99, p999, most] = [0.5, 0.99, 0.999, 1.0].map(|part| self.within_ms(part));
        format!("{:.0} | {p50:.3} | {p99:.3} | {p999:.3} | {most:.1}", self.rate)
    }
}

/// The names of [`Took::cells`].
pub(crate) const COLUMNS: &str = "commands a second | p50 ms | p99 ms | p99.9 ms | most ms";

/// Sends at this pace until its time is over or `stop` is set; an error answer ends the benchmark.
pub(crate) fn run(port: u16, pace: &Pace, stop: &AtomicBool) -> Result<Took> {
    let begun = Instant::now();
    let took = std::thread::scope(|scope| {
        let each = |number| move || one(port, pace, number, begun, stop);
        let clients: Vec<_> = (0..pace.clients).map(|number| scope.spawn(each(number))).collect();
        let ended = clients
            .into_iter()
            .map(|client| client.join().unwrap_or_else(|_| bail!("a client panicked")));
        ended.collect::<Result<Vec<_>>>()
    })?;
    let mut sorted: Vec<Duration> = took.into_iter().flatten().collect();
    sorted.sort_unstable();
    let rate = sorted.len() as f64 / begun.elapsed().as_secs_f64();
    Ok(Took { sorted, rate })
}

fn one(
    port: u16,
    pace: &Pace,
    number: u64,
    begun: Instant,
    stop: &AtomicBool,
) -> Result<Vec<Duration>> {
    let mut cores = CpuSet::new();
    cores.set(pace.core);
    sched_setaffinity(None, &cores).context("pinning a client")?;
    let mut stream = connect(port)?;
    let mut random = SmallRng::from_os_rng();
    let value = values(&mut random, pace.value_bytes);
    let every = Duration::from_secs_f64(pace.clients as f64 / pace.rate as f64);
    let (mut took, mut out, mut input) = (Vec::new(), Vec::new(), vec![0; 64 << 10]);
    // Not all at one moment.
    let mut due = begun + every.mul_f64(number as f64 / pace.clients as f64);
    while begun.elapsed() < pace.time && !stop.load(Ordering::Relaxed) {
        let early = due.saturating_duration_since(Instant::now());
        if !early.is_zero() {
            pause(early);
            // A client that woke up late is not the server's doing.
            due = Instant::now();
        }
        out.clear();
        let key = key(random.random_range(0..pace.keys));
        if pace.set_each > 0 && random.random_range(0..pace.set_each) == 0 {
            let from = random.random_range(0..=value.len() - pace.value_bytes);
            let value = &value[from..from + pace.value_bytes];
            resp::command::write(&mut out, &[b"SET", key.as_bytes(), value]);
        } else {
            resp::command::write(&mut out, &[b"GET", key.as_bytes()]);
        }
        stream.write_all(&out)?;
        answer(&mut stream, &mut input)?;
        took.push(due.elapsed());
        due += every;
    }
    Ok(took)
}

/// Waits for one answer.
fn answer(stream: &mut TcpStream, input: &mut Vec<u8>) -> Result<()> {
    let mut filled = 0;
    loop {
        if filled == input.len() {
            input.resize(filled * 2, 0);
        }
        let count = stream.read(&mut input[filled..])?;
        if count == 0 {
            bail!("the server closed the connection");
        }
        filled += count;
        if scan(&input[..filled])?.is_some() {
            if input[0] == b'-' {
                bail!("{}", String::from_utf8_lossy(&input[..filled]).trim());
            }
            return Ok(());
        }
    }
}

/// Random letters that values are cut from: no two are alike, and they compress as text does.
pub(crate) fn values(random: &mut impl Rng, value_bytes: usize) -> Vec<u8> {
    (0..value_bytes * 2 + 4096)
        .map(|_| b"0123456789abcdefghijklmnopqrstuv"[random.random_range(0..32)])
        .collect()
}
