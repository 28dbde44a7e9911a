//! The same rows by pipelined commands, and as a load that is built and taken in.

use std::fmt::Write as _;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rand::distr::{Alphanumeric, SampleString};

use crate::client::Client;
use crate::say;
use crate::server::{Cores, Server, ended_cpu, node_program, pinned};

/// What is loaded.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Rows: strings.
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// Bytes of a value.
    #[arg(long, default_value_t = 128)]
    value_bytes: usize,
    /// What the node and the build are given as `--memory`, in MiB.
    #[arg(long, default_value_t = 256)]
    memory_mib: u64,
    /// Link the files into the node's directory instead of copying them.
    #[arg(long)]
    link: bool,
    /// Where rows, load and nodes are [default: the system's temporary directory].
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The node's program [default: beside this one].
    #[arg(long)]
    node: Option<PathBuf>,
    #[command(flatten)]
    cores: Cores,
}

/// The goals: how much faster than commands.
const INGEST_GOAL: f64 = 20.0;
const BOTH_GOAL: f64 = 2.0;
/// Different values that rows take turns with.
const VALUES: usize = 4096;

/// Times all three and prints them.
pub(crate) fn run(options: &Options) -> Result<()> {
    let program = node_program(options.node.as_deref())?;
    let mut scratch = tempfile::Builder::new();
    scratch.prefix("godwit-bench-");
    let dir = match &options.dir {
        Some(dir) => scratch.tempdir_in(dir)?,
        None => scratch.tempdir()?,
    };
    let values = values(options.value_bytes);
    let rows = dir.path().join("rows.tsv");
    write_rows(&rows, options.rows, &values)?;
    let memory = format!("{}MiB", options.memory_mib);

    let by_commands = directory(dir.path(), "commands")?;
    let server = Server::node(options.cores.server_core, &program, &by_commands, &memory)?;
    let (mut client, begun) = (Client::connect(server.port)?, Watch::start(Some(&server))?);
    let mut key = String::new();
    for number in 0..options.rows {
        key.clear();
        write!(key, "row:{number}")?;
        client.pipe(&[b"SET", key.as_bytes(), value(&values, number)])?;
    }
    client.flush()?;
    let commands = begun.stop(Some(&server))?;
    server.stop()?;
    std::fs::remove_dir_all(&by_commands)?;

    let begun = Watch::start(None)?;
    let load = dir.path().join("load");
    // No server runs meanwhile: it has both cores, as a server and its client had.
    let mut build = Command::new(&program);
    build.arg("build").arg(&rows).arg("--out").arg(&load).args(["--columns", "id,value"]);
    build.args(["--type", "string", "--key", "row:%{id}", "--value", "value", "--memory", &memory]);
    finish(&mut build)?;
    let building = begun.stop(None)?;

    let by_load = directory(dir.path(), "load-node")?;
    let server = Server::node(options.cores.server_core, &program, &by_load, &memory)?;
    let admin = format!("unix:{}", by_load.join("node/admin.sock").display());
    let begun = Watch::start(Some(&server))?;
    let mut ingest = pinned(options.cores.client_core, &program);
    ingest
        .arg("ingest")
        .arg(&load)
        .args(["--admin", &admin])
        .args(options.link.then_some("--link"));
    finish(&mut ingest)?;
    let ingesting = begun.stop(Some(&server))?;
    let mut client = Client::connect(server.port)?;
    let held = client.call(&[b"DBSIZE"])?;
    if held.trim() != format!(":{}", options.rows) {
        bail!("the node holds {held} keys of {}", options.rows);
    }
    server.stop()?;

    say!("{} rows of {} bytes\n", options.rows, options.value_bytes);
    say!("| | seconds | rows a second | as fast as commands | goal | CPU seconds | times less |");
    say!("|---|---|---|---|---|---|---|");
    let line = |name: &str, took: Took, goal: Option<f64>| {
        let (seconds, times) = (took.clock.as_secs_f64(), took.clock_against(&commands));
        let goal = goal.map_or(String::new(), |goal| {
            format!("{goal}x: {}", if times >= goal { "reached" } else { "missed" })
        });
        let (cpu, less) = (took.cpu.as_secs_f64(), took.cpu_against(&commands));
        say!(
            "| {name} | {seconds:.2} | {:.0} | {times:.1}x | {goal} | {cpu:.2} | {less:.1}x |",
            options.rows as f64 / seconds
        );
    };
    line("pipelined SET", commands, None);
    line("build", building, None);
    line("ingest", ingesting, Some(INGEST_GOAL));
    line("build and ingest", building.and(ingesting), Some(BOTH_GOAL));
    Ok(())
}

/// What something took: by the clock, and of the CPU in the server and in programs that were run.
#[derive(Clone, Copy)]
struct Took {
    clock: Duration,
    cpu: Duration,
}

impl Took {
    fn and(self, other: Self) -> Self {
        Self { clock: self.clock + other.clock, cpu: self.cpu + other.cpu }
    }

    fn clock_against(&self, other: &Self) -> f64 {
        other.clock.as_secs_f64() / self.clock.as_secs_f64()
    }

    fn cpu_against(&self, other: &Self) -> f64 {
        other.cpu.as_secs_f64() / self.cpu.as_secs_f64()
    }
}

struct Watch {
    begun: Instant,
    cpu: Duration,
}

impl Watch {
    fn start(server: Option<&Server>) -> Result<Self> {
        Ok(Self { begun: Instant::now(), cpu: cpu(server)? })
    }

    fn stop(self, server: Option<&Server>) -> Result<Took> {
        let clock = self.begun.elapsed();
        Ok(Took { clock, cpu: cpu(server)?.saturating_sub(self.cpu) })
    }
}

/// CPU of programs that were run and have ended, and of a server.
fn cpu(server: Option<&Server>) -> Result<Duration> {
    Ok(ended_cpu()? + server.map_or(Ok(Duration::ZERO), Server::cpu)?)
}

fn values(length: usize) -> Vec<String> {
    let mut random = rand::rng();
    (0..VALUES).map(|_| Alphanumeric.sample_string(&mut random, length)).collect()
}

fn value(values: &[String], number: u64) -> &[u8] {
    // A remainder of the number of values is one of their indices.
    values[(number % VALUES as u64) as usize].as_bytes()
}

fn write_rows(path: &Path, rows: u64, values: &[String]) -> Result<()> {
    let file =
        std::fs::File::create(path).with_context(|| format!("creating {}", path.display()))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    for number in 0..rows {
        write!(out, "{number}\t")?;
        out.write_all(value(values, number))?;
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

fn directory(parent: &Path, name: &str) -> Result<PathBuf> {
    let path = parent.join(name);
    std::fs::create_dir(&path).with_context(|| format!("creating {}", path.display()))?;
    Ok(path)
}

fn finish(command: &mut Command) -> Result<()> {
    let output = command.output().context("running the node's program")?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
