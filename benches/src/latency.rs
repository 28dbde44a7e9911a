//! How long GET takes at a fixed rate: beside redis-server, with ten times more data than cache while
//! compactions run, and with a checkpoint being made and read.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rand::Rng;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use resp::reply::scan;

use crate::client::Client;
use crate::load::key;
use crate::paced::{self, COLUMNS, Pace, Took, values};
use crate::say;
use crate::server::{Cores, Server, node_program, pause};

/// How much of it.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// What the node is given as `--memory`, in MiB: its caches are seven tenths of it.
    #[arg(long, default_value_t = 64)]
    memory_mib: u64,
    /// So many times more data than caches.
    #[arg(long, default_value_t = 10)]
    times: u64,
    #[arg(long, default_value_t = 1024)]
    value_bytes: usize,
    /// GETs a second.
    #[arg(long, default_value_t = 2000)]
    rate: u64,
    /// Commands a second where a node is beside redis-server.
    #[arg(long, default_value_t = 20_000)]
    rate_beside_redis: u64,
    #[arg(long, default_value_t = 16)]
    clients: u64,
    /// Seconds of each measurement; there are five of each.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Bytes a second at which a checkpoint is read, in MiB: a sidecar's `--export-rate`.
    #[arg(long, default_value_t = 256)]
    export_mib: u64,
    /// The node's `--background-rate`, in MiB; 0 for none.
    #[arg(long, default_value_t = 0)]
    background_mib: u64,
    /// Only these of: redis, compaction, checkpoint.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// The node's program [default: beside this one].
    #[arg(long)]
    node: Option<PathBuf>,
    /// Where data lies while it runs [default: the system's].
    #[arg(long)]
    dir: Option<PathBuf>,
    #[command(flatten)]
    cores: Cores,
}

/// The goals.
const COMPACTING_MS: f64 = 5.0;
const CHECKPOINT_TIMES: f64 = 1.5;
const REDIS_TIMES: f64 = 2.0;
/// How often each of two is measured.
const TURNS: usize = 5;
/// Keys where a node is beside redis-server: all of them in memory.
const HOT_KEYS: u64 = 100_000;
/// What a checkpoint's files are read in.
const CHUNK: usize = 1 << 20;

/// Measures and prints.
pub(crate) fn run(options: &Options) -> Result<()> {
    let program = node_program(options.node.as_deref())?;
    let wants = |name: &str| options.only.is_empty() || options.only.iter().any(|o| o == name);
    if wants("redis") {
        beside_redis(options, &program)?;
    }
    if wants("compaction") || wants("checkpoint") {
        larger_than_memory(options, &program, &wants)?;
    }
    Ok(())
}

impl Options {
    fn scratch(&self) -> Result<tempfile::TempDir> {
        let mut builder = tempfile::Builder::new();
        let prefixed = builder.prefix("godwit-bench-");
        Ok(match &self.dir {
            Some(dir) => prefixed.tempdir_in(dir)?,
            None => prefixed.tempdir()?,
        })
    }

    fn pace(&self, rate: u64, keys: u64, set_each: u64) -> Pace {
        Pace {
            clients: self.clients,
            rate,
            time: Duration::from_secs(self.seconds),
            keys,
            set_each,
            value_bytes: self.value_bytes,
            core: self.cores.client_core,
        }
    }
}

/// Measures turn by turn, so that what else the machine does meets both alike; p99 of both, medians.
fn turns(names: [&str; 2], mut measure: impl FnMut(usize) -> Result<Took>) -> Result<[f64; 2]> {
    let mut found = [Vec::new(), Vec::new()];
    for _ in 0..TURNS {
        for (which, found) in found.iter_mut().enumerate() {
            found.push(measure(which)?);
        }
    }
    Ok(std::array::from_fn(|which| {
        let took = std::mem::take(&mut found[which]);
        let mut p99: Vec<f64> = took.iter().map(|took| took.within_ms(0.99)).collect();
        let p99 = median(&mut p99);
        say!("| {} | {} | {p99:.3} |", names[which], Took::all(took).cells());
        p99
    }))
}

fn heading() {
    say!("| | {COLUMNS} | median p99 of {TURNS} turns |\n|---|---|---|---|---|---|---|");
}

fn beside_redis(options: &Options, program: &Path) -> Result<()> {
    say!("\n{HOT_KEYS} keys in memory, half GET and half SET, {} bytes\n", options.value_bytes);
    let pace = options.pace(options.rate_beside_redis, HOT_KEYS, 2);
    let dirs = [options.scratch()?, options.scratch()?];
    let core = options.cores.server_core;
    let servers = [
        Server::redis(core, dirs[0].path())?,
        Server::node(core, program, dirs[1].path(), "1GiB")?,
    ];
    for server in &servers {
        fill(server.port, HOT_KEYS, options.value_bytes)?;
    }
    heading();
    let [redis, node] = turns(["redis-server", "godwit-node"], |which| {
        paced::run(servers[which].port, &pace, &AtomicBool::new(false))
    })?;
    let times = node / redis;
    say!(
        "\np99 of the node: {times:.2}x redis-server's at the same rate (goal: {REDIS_TIMES}x): {}",
        reached(times <= REDIS_TIMES)
    );
    servers.into_iter().try_for_each(Server::stop)
}

fn larger_than_memory(
    options: &Options,
    program: &Path,
    wants: &impl Fn(&str) -> bool,
) -> Result<()> {
    let dir = options.scratch()?;
    let caches = options.memory_mib * 7 / 10;
    let keys = ((caches * options.times) << 20) / options.value_bytes as u64;
    let memory = format!("{}MiB", options.memory_mib);
    let mut arguments = Vec::new();
    if options.background_mib > 0 {
        arguments = vec!["--background-rate".to_owned(), format!("{}MiB", options.background_mib)];
    }
    let server = Server::node_anywhere(program, dir.path(), &memory, &arguments)?;
    let admin = dir.path().join("node/admin.sock");
    fill(server.port, keys, options.value_bytes)?;
    ask_admin(&admin, &[b"GODWIT.COMPACT"])?;
    say!(
        "\n--memory {memory}, {keys} keys of {} bytes: {} times its caches\n",
        options.value_bytes,
        options.times
    );
    heading();
    let pace = options.pace(options.rate, keys, 0);
    let quiet = || paced::run(server.port, &pace, &AtomicBool::new(false));
    let mut lines = Vec::new();
    if wants("compaction") {
        let names = ["nothing else", "all of it compacted, again and again"];
        let [_, p99] = turns(names, |which| match which {
            0 => quiet(),
            _ => beside(server.port, &pace, |stop| {
                while !stop.load(Ordering::Relaxed) {
                    ask_admin(&admin, &[b"GODWIT.COMPACT"])?;
                }
                Ok(())
            }),
        })?;
        lines.push(format!(
            "p99 while compactions run: {p99:.2} ms (goal: {COMPACTING_MS} ms): {}",
            reached(p99 < COMPACTING_MS)
        ));
    }
    if wants("checkpoint") {
        let mut number = 0;
        let names = ["nothing else", "checkpoints, made and read"];
        let [without, with] = turns(names, |which| match which {
            0 => quiet(),
            _ => beside(server.port, &pace, |stop| {
                while !stop.load(Ordering::Relaxed) {
                    number += 1;
                    let name = format!("bench-{number}");
                    ask_admin(&admin, &[b"GODWIT.CHECKPOINT", name.as_bytes()])?;
                    let copy = dir.path().join("node/checkpoints").join(&name);
                    read_all(&copy, options.export_mib << 20, stop)?;
                    ask_admin(&admin, &[b"GODWIT.CHECKPOINT", b"DROP", name.as_bytes()])?;
                }
                Ok(())
            }),
        })?;
        let times = with / without;
        lines.push(format!(
            "p99 with a checkpoint being made and read at {} MiB/s: {times:.2}x (goal: {CHECKPOINT_TIMES}x): {}",
            options.export_mib,
            reached(times < CHECKPOINT_TIMES)
        ));
    }
    let used = server.resident()?;
    say!("");
    lines.iter().for_each(|line| say!("{line}"));
    say!("resident memory: {:.2}x of --memory", used as f64 / (options.memory_mib << 20) as f64);
    server.stop()
}

/// Measures while something else goes on in another thread, which ends when `stop` is set.
pub(crate) fn beside(
    port: u16,
    pace: &Pace,
    work: impl FnOnce(&AtomicBool) -> Result<()> + Send,
) -> Result<Took> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let working = scope.spawn(|| work(&stop));
        let took = paced::run(port, pace, &AtomicBool::new(false));
        stop.store(true, Ordering::Relaxed);
        working.join().unwrap_or_else(|_| bail!("what ran beside it panicked"))?;
        took
    })
}

/// Writes all keys, each with another value.
pub(crate) fn fill(port: u16, keys: u64, value_bytes: usize) -> Result<()> {
    let mut random = SmallRng::from_os_rng();
    let values = values(&mut random, value_bytes);
    let mut client = Client::connect(port)?;
    for number in 0..keys {
        let from = random.random_range(0..=values.len() - value_bytes);
        client.pipe(&[b"SET", key(number).as_bytes(), &values[from..from + value_bytes]])?;
    }
    client.flush()
}

/// One command of the admin listener; its answer must not be an error.
pub(crate) fn ask_admin(path: &Path, args: &[&[u8]]) -> Result<()> {
    let mut stream =
        UnixStream::connect(path).with_context(|| format!("connecting {}", path.display()))?;
    let mut out = Vec::new();
    resp::command::write(&mut out, args);
    stream.write_all(&out)?;
    let (mut input, mut chunk) = (Vec::new(), [0; 16 << 10]);
    while scan(&input)?.is_none() {
        let count = stream.read(&mut chunk)?;
        if count == 0 {
            bail!("the admin listener closed the connection");
        }
        input.extend_from_slice(&chunk[..count]);
    }
    if input.first() == Some(&b'-') {
        bail!("{}", String::from_utf8_lossy(&input).trim());
    }
    Ok(())
}

/// Reads all files of a directory at so many bytes a second, as an export does.
fn read_all(dir: &Path, rate: u64, stop: &AtomicBool) -> Result<()> {
    let (begun, mut bytes, mut chunk) = (Instant::now(), 0, vec![0; CHUNK]);
    for entry in std::fs::read_dir(dir).with_context(|| format!("listing {}", dir.display()))? {
        let mut file = std::fs::File::open(entry?.path())?;
        loop {
            let count = file.read(&mut chunk)?;
            if count == 0 || stop.load(Ordering::Relaxed) {
                break;
            }
            bytes += count as u64;
            let due = begun + Duration::from_secs_f64(bytes as f64 / rate as f64);
            pause(due.saturating_duration_since(Instant::now()));
        }
    }
    Ok(())
}

pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

pub(crate) fn reached(reached: bool) -> &'static str {
    if reached { "reached" } else { "missed" }
}
