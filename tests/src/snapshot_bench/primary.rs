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
/// Commands a second of one client, each sent when it is due, whether the one before was slow or not.
const RATE: u32 = 2_000;
/// How long a round without a push is.
const QUIET: Duration = Duration::from_secs(5);
/// A push that gives way to clients.
const GENTLE: [&str; 4] = ["--bandwidth", "64MiB", "--nice", "19"];
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

/// Milliseconds from when a command was due to its answer, the 99th of a hundred.
fn p99(
    client: &mut Client,
    bench: &Bench,
    mut goes_on: impl FnMut() -> Result<bool>,
) -> Result<f64> {
    let mut random = rand::rngs::SmallRng::seed_from_u64(99);
    let mut value = vec![b'x'; bench.value];
    let (begun, every) = (Instant::now(), Duration::from_secs(1) / RATE);
    let (mut times, mut n) = (Vec::new(), 0);
    while goes_on()? {
        let due = begun + every * n;
        crate::wait::pause(due.saturating_duration_since(Instant::now()));
        let key = format!("key:{:012}", random.random_range(0..bench.keys));
        if n % 2 == 0 {
            client.call(&[b"GET", key.as_bytes()])?;
        } else {
            random.fill(&mut value[..bench.value / 2]);
            client.call(&[b"SET", key.as_bytes(), &value])?;
        }
        times.push(due.elapsed().as_secs_f64() * 1e3);
        n += 1;
    }
    anyhow::ensure!(!times.is_empty(), "a push was over before the first command");
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() * 99 / 100])
}
