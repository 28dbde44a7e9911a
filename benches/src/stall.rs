//! A write stall: flushes that are slower than what is written. Reads must not notice.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::client::Client;
use crate::latency::{beside, fill, reached};
use crate::paced::{self, COLUMNS, Pace};
use crate::say;
use crate::server::{Cores, Server, node_program, pause};

/// How slow, and for how long.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// The node's `--background-rate`, in KiB: what flushes and compactions may write a second.
    #[arg(long, default_value_t = 512)]
    background_kib: u64,
    /// GETs a second.
    #[arg(long, default_value_t = 2000)]
    rate: u64,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// The node's program [default: beside this one].
    #[arg(long)]
    node: Option<PathBuf>,
    #[command(flatten)]
    cores: Cores,
}

/// The least memory that a node takes: small buffers.
const MEMORY: &str = "32MiB";
const KEYS: u64 = 5_000;
const VALUE_BYTES: usize = 1024;
/// The goal while writes stand still, as with ten times more data than cache.
const GOAL_MS: f64 = 5.0;

/// Produces one, and prints how long GETs took before and during it.
pub(crate) fn run(options: &Options) -> Result<()> {
    let program = node_program(options.node.as_deref())?;
    let dir = tempfile::Builder::new().prefix("godwit-bench-").tempdir()?;
    let rate = ["--background-rate".to_owned(), format!("{}KiB", options.background_kib)];
    let core = options.cores.server_core;
    let server = Server::node_with(core, &program, dir.path(), MEMORY, &rate)?;
    fill(server.port, KEYS, VALUE_BYTES)?;
    let pace = Pace {
        clients: 4,
        rate: options.rate,
        time: Duration::from_secs(options.seconds),
        keys: KEYS,
        set_each: 0,
        value_bytes: VALUE_BYTES,
        core: options.cores.client_core,
    };
    say!("| | {COLUMNS} |\n|---|---|---|---|---|---|");
    let quiet = paced::run(server.port, &pace, &AtomicBool::new(false))?;
    say!("| nothing else | {} |", quiet.cells());
    let (written, stopped, looks) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let end = AtomicBool::new(false);
    let begun = Instant::now();
    let busy = std::thread::scope(|scope| {
        let writing = scope.spawn(|| write(server.port, &written, &end));
        let took = beside(server.port, &pace, |stop| {
            let mut client = Client::connect(server.port)?;
            while !stop.load(Ordering::Relaxed) {
                looks.fetch_add(1, Ordering::Relaxed);
                let stalls = client.info("godwit_write_stopped")? > 0
                    || client.info("godwit_write_delayed_bytes_per_second")? > 0;
                stopped.fetch_add(u64::from(stalls), Ordering::Relaxed);
                pause(Duration::from_millis(20));
            }
            Ok(())
        });
        end.store(true, Ordering::Relaxed);
        let waited = Instant::now();
        writing.join().unwrap_or_else(|_| bail!("the writer panicked"))?;
        took.map(|took| (took, waited.elapsed()))
    });
    let (busy, waited) = busy?;
    say!("| writes stall | {} |", busy.cells());
    let mib = (written.load(Ordering::Relaxed) * VALUE_BYTES as u64) as f64 / (1 << 20) as f64;
    let (stopped, looks) = (stopped.into_inner(), looks.into_inner());
    say!(
        "\n{mib:.0} MiB were written in {:.0} s; the last write took {:.1} s to be answered; INFO said so {stopped} times of {looks}",
        begun.elapsed().as_secs_f64(),
        waited.as_secs_f64()
    );
    if stopped == 0 {
        bail!("there was no stall: choose a smaller --background-kib");
    }
    let p99 = busy.within_ms(0.99);
    say!(
        "p99 of GET while writes stall: {p99:.2} ms (goal: {GOAL_MS} ms): {}",
        reached(p99 < GOAL_MS)
    );
    server.stop()
}

/// Writes as fast as it is let.
fn write(port: u16, written: &AtomicU64, end: &AtomicBool) -> Result<()> {
    let mut client = Client::connect(port)?;
    // Files are compressed, so no two values are alike.
    let mut value = vec![0; VALUE_BYTES];
    for number in 0_u64.. {
        if end.load(Ordering::Relaxed) {
            break;
        }
        rand::fill(&mut value[..]);
        client.pipe(&[b"SET", format!("stalled:{number}").as_bytes(), &value])?;
        written.fetch_add(1, Ordering::Relaxed);
    }
    client.flush()
}
