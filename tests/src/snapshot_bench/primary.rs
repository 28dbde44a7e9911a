//! What clients of the primary see of a push.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::Result;
use rand::{Rng, SeedableRng};

use super::{Bench, push_command};
use crate::client::Client;
use crate::clouds::Clouds;

/// Rounds of each, by turns.
const ROUNDS: usize = 3;
/// Commands a second of one client.
const RATE: u32 = 2_000;
/// How long a round without a push is.
const QUIET: Duration = Duration::from_secs(5);
/// A push that gives way to clients.
const GENTLE: [&str; 2] = ["--bandwidth", "64MiB"];
/// The longest time of a hundred is to be at most this many times as long.
const GOAL: f64 = 1.5;

/// The 99th percentile of a primary's answers with and without a push by files, and their ratio: of a push
/// that takes what it can get, and of one that gives way.
pub(super) fn measure(clouds: &Clouds, bench: &Bench, scratch: &Path) -> Result<String> {
    let unbounded = beside(clouds, bench, scratch, &[])?;
    let gentle = beside(clouds, bench, scratch, &GENTLE)?;
    Ok(format!("{unbounded}\n{gentle}"))
}

fn beside(clouds: &Clouds, bench: &Bench, scratch: &Path, more: &[&str]) -> Result<String> {
    let node = &clouds.cloud("a").shards[0].node;
    let mut client = Client::connect(&node.client)?;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let ends = Instant::now() + QUIET;
        without.push(p99(&mut client, bench, || Ok(Instant::now() < ends))?);
        let store = scratch.join(format!("beside-{round}"));
        let mut command = push_command(clouds, &store);
        let mut pushing = command.args(more).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        with.push(p99(&mut client, bench, || runs(&mut pushing))?);
        anyhow::ensure!(pushing.wait()?.success(), "a push beside the clients failed");
        std::fs::remove_dir_all(&store)?;
    }
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let (quiet, busy) = (median(&mut without), median(&mut with));
    let ratio = busy / quiet;
    Ok(format!(
        "{RATE} commands a second beside it, half of them writes: p99 {quiet:.2} ms without a push, {busy:.2} ms during one ({}), {ratio:.2}x ({GOAL}x: {})",
        if more.is_empty() { "unbounded".to_owned() } else { more.join(" ") },
        if ratio <= GOAL { "reached" } else { "not reached" }
    ))
}

fn runs(pushing: &mut Child) -> Result<bool> {
    Ok(pushing.try_wait()?.is_none())
}

/// Milliseconds from when a command was due to its answer, the 99th of a hundred. A command is due every
/// [`RATE`]th of a second, however late the answer before it was. What the client oversleeps is its own
/// lateness, on processors that it shares with all that is measured here, and moves the times to come.
fn p99(
    client: &mut Client,
    bench: &Bench,
    mut goes_on: impl FnMut() -> Result<bool>,
) -> Result<f64> {
    let mut random = rand::rngs::SmallRng::seed_from_u64(99);
    let mut value = vec![b'x'; bench.value];
    let (mut due, every) = (Instant::now(), Duration::from_secs(1) / RATE);
    let mut times = Vec::new();
    while goes_on()? {
        let early = due.saturating_duration_since(Instant::now());
        if !early.is_zero() {
            crate::wait::pause(early);
            due = due.max(Instant::now());
        }
        let key = format!("key:{:012}", random.random_range(0..bench.keys));
        if times.len() % 2 == 0 {
            client.call(&[b"GET", key.as_bytes()])?;
        } else {
            random.fill(&mut value[..bench.value / 2]);
            client.call(&[b"SET", key.as_bytes(), &value])?;
        }
        times.push(due.elapsed().as_secs_f64() * 1e3);
        due += every;
    }
    anyhow::ensure!(!times.is_empty(), "a push was over before the first command");
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() * 99 / 100])
}
