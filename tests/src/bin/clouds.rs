//! Two clouds on this machine: `up`, `status`, `down`, and the tour `demo`. `make` calls it.

use std::fs;
use std::io::{ErrorKind, Write, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use tests::clouds::control::switchover;
use tests::clouds::start::{checkout, down};
use tests::clouds::{Clouds, Layout, Observer, Plan};
use tests::stream_bench::{self, Bench};
use tests::{demo, once, sidecar_bench, snapshot_bench, soak};

/// Prints a line; nobody may be reading (`| head`), and that changes nothing.
macro_rules! say {
    ($($what:tt)*) => {{
        let _ = writeln!(stdout(), $($what)*);
    }};
}

/// Two clouds on this machine.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Brings them up in the background and prints every address and pid.
    Up {
        /// Where data, logs and clouds.json lie [default: target/local in the checkout].
        #[arg(long)]
        dir: Option<PathBuf>,
        /// Forget what earlier clouds in this directory held; otherwise they go on with it.
        #[arg(long)]
        fresh: bool,
        /// A registry that is there already, such as etcd://127.0.0.1:2379; else a directory.
        #[arg(long)]
        registry: Option<String>,
    },
    /// Who is primary, epoch, leases, positions, lag; and the processes.
    Status {
        /// The directory given to `up`.
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Ends exactly the processes that `up` started.
    Down {
        /// The directory given to `up`.
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// The tour: load, seed, follow, switch, go back, crash, fail over; ends with a report.
    Demo {
        /// Where data, logs and report.json lie; emptied first [default: target/demo].
        #[arg(long)]
        dir: Option<PathBuf>,
        /// Load at least this many megabytes.
        #[arg(long, default_value_t = 50)]
        megabytes: u64,
        /// Start an etcd and have the registry there, not in a directory.
        #[arg(long)]
        etcd: bool,
    },
    /// Writes at a steady rate: how late the other side shows them, bytes on the wire, processor.
    Stream {
        /// How late each direction of the link is, in milliseconds.
        #[arg(long, default_value_t = 0)]
        latency: u64,
        /// Writes a second.
        #[arg(long, default_value_t = 20_000)]
        rate: u64,
        /// Bytes of a value.
        #[arg(long, default_value_t = 256)]
        value: usize,
        /// Values that no compression makes smaller.
        #[arg(long)]
        random: bool,
        /// For so many seconds.
        #[arg(long, default_value_t = 10)]
        seconds: u64,
        /// With sidecars that speak TLS.
        #[arg(long)]
        tls: bool,
        /// Flags of the sidecars, after `--`.
        #[arg(last = true)]
        flags: Vec<String>,
    },
    /// What a sidecar costs its primary: rounds with it and without it.
    SidecarCost {
        /// Writes a second.
        #[arg(long, default_value_t = 20_000)]
        rate: u64,
        /// Bytes of a value.
        #[arg(long, default_value_t = 256)]
        value: usize,
        /// Rounds of each.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// Seconds of a round.
        #[arg(long, default_value_t = 8)]
        seconds: u64,
        /// The sidecar runs on its node's only processor, instead of on another one.
        #[arg(long)]
        share: bool,
        /// With sidecars that speak TLS.
        #[arg(long)]
        tls: bool,
    },
    /// How fast a standby catches up after an outage, beside RocksDB alone and beside clients.
    CatchUp {
        /// Writes during the outage.
        #[arg(long, default_value_t = 5_000_000)]
        writes: u64,
        /// Bytes of a value.
        #[arg(long, default_value_t = 128)]
        value: usize,
        /// What the spool may take.
        #[arg(long, default_value = "16GiB")]
        budget: String,
        /// With sidecars that speak TLS.
        #[arg(long)]
        tls: bool,
    },
    /// How long a seed takes while writes go on, beside redis-server's full sync.
    Seed {
        /// Keys.
        #[arg(long, default_value_t = 1_500_000)]
        keys: u64,
        /// Bytes of a value.
        #[arg(long, default_value_t = 1024)]
        value: usize,
        /// Writes a second meanwhile.
        #[arg(long, default_value_t = 5000)]
        rate: u64,
    },
    /// Snapshots beside rsync and restic, where they are installed: bytes, time, processor, memory.
    Snapshot {
        /// How many keys.
        #[arg(long, default_value_t = 2_000_000)]
        keys: u64,
        /// Bytes of a value, half of them random.
        #[arg(long, default_value_t = 1024)]
        value: usize,
        /// Keys of a hundred that are overwritten before each later snapshot.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=100))]
        percent: u64,
        /// Only what clients of the primary see of a push.
        #[arg(long)]
        beside_only: bool,
    },
    /// Faults under load for a while, drawn from a seed.
    Soak {
        /// Where data and logs lie; emptied first [default: target/soak].
        #[arg(long)]
        dir: Option<PathBuf>,
        /// How long.
        #[arg(long, default_value_t = 10)]
        minutes: u64,
        /// What is drawn; a failed run prints its own.
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Increments under kills of nodes and sidecars; each must take effect once.
    Once {
        /// Where data and logs lie; emptied first [default: target/once].
        #[arg(long)]
        dir: Option<PathBuf>,
        /// How many kills.
        #[arg(long, default_value_t = 100)]
        kills: u32,
        /// What is drawn; a failed run prints its own.
        #[arg(long)]
        seed: Option<u64>,
    },
}

fn main() -> ExitCode {
    match run(Args::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("clouds: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<bool> {
    let place = |dir: Option<PathBuf>, name: &str| match dir {
        Some(dir) => Ok(dir),
        None => checkout().map(|root| root.join("target").join(name)),
    };
    match command {
        Command::Up { dir, fresh, registry } => up(place(dir, "local")?, fresh, registry),
        Command::Status { dir } => status(place(dir, "local")?),
        Command::Down { dir } => take_down(place(dir, "local")?),
        Command::Demo { dir, megabytes, etcd } => {
            demo::run(&place(dir, "demo")?, megabytes.saturating_mul(1_000_000), etcd)
        }
        Command::Stream { latency, rate, value, random, seconds, tls, flags } => {
            let (latency, span) = (Duration::from_millis(latency), Duration::from_secs(seconds));
            let bench = Bench { latency, rate, value, random, span, tls, flags };
            say!("{}", stream_bench::run(&bench)?);
            Ok(true)
        }
        Command::SidecarCost { rate, value, rounds, seconds, share, tls } => {
            let span = Duration::from_secs(seconds);
            let (latency, random, flags) = (Duration::ZERO, false, Vec::new());
            let bench = Bench { latency, rate, value, random, span, tls, flags };
            say!("{}", sidecar_bench::cost::run(rounds, share, &bench)?);
            Ok(true)
        }
        Command::CatchUp { writes, value, budget, tls } => {
            let bench = sidecar_bench::catch_up::CatchUp { writes, value, budget, tls };
            say!("{}", sidecar_bench::catch_up::run(&bench)?);
            Ok(true)
        }
        Command::Seed { keys, value, rate } => {
            say!("{}", sidecar_bench::seed::run(&sidecar_bench::seed::Seed { keys, value, rate })?);
            Ok(true)
        }
        Command::Snapshot { keys, value, percent, beside_only } => {
            let bench = snapshot_bench::Bench { keys, value, percent, beside_only };
            say!("{}", snapshot_bench::run(&bench)?);
            Ok(true)
        }
        Command::Once { dir, kills, seed } => {
            increments(&place(dir, "once")?, kills, seed.unwrap_or_else(rand::random))
                .map(|()| true)
        }
        Command::Soak { dir, minutes, seed } => {
            let span = Duration::from_secs(minutes.saturating_mul(60));
            soak::run(&place(dir, "soak")?, span, seed.unwrap_or_else(rand::random)).map(|()| true)
        }
    }
}

fn increments(dir: &Path, kills: u32, seed: u64) -> Result<()> {
    say!("{kills} kills, seed {seed}");
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("cannot empty {}", dir.display()))?;
    }
    let mut clouds = Clouds::create(Plan::two_clouds(dir))?;
    clouds.start_all()?;
    let observer = Observer::of(&clouds.layout)?;
    let ran = once::run(&mut clouds, &observer, kills, seed);
    let once = ran.with_context(|| format!("seed {seed}"))?;
    let panics = clouds.panics();
    if !panics.is_empty() {
        bail!("processes panicked: {panics:#?}");
    }
    say!("{once:?}: each took effect once, and both clouds are equal");
    Ok(())
}

fn up(dir: PathBuf, fresh: bool, registry: Option<String>) -> Result<bool> {
    let earlier = Layout::load(&dir)?;
    if let Some(layout) = &earlier
        && layout.processes().any(|p| p.alive())
    {
        show(layout);
        bail!("the clouds in {} are up already (`make down` ends them)", dir.display());
    }
    let mut clouds = match earlier {
        Some(layout) if !fresh => Clouds::again(layout)?,
        _ => {
            for old in ["data", "registry", "log", "state.json"].map(|name| dir.join(name)) {
                let removed =
                    if old.is_dir() { fs::remove_dir_all(&old) } else { fs::remove_file(&old) };
                if let Err(error) = removed
                    && error.kind() != ErrorKind::NotFound
                {
                    return Err(error).with_context(|| format!("cannot remove {}", old.display()));
                }
            }
            Clouds::create(Plan { detached: true, registry, ..Plan::two_clouds(&dir) })?
        }
    };
    if let Err(error) = clouds.start_all() {
        clouds.down();
        return Err(error);
    }
    show(&clouds.layout);
    Ok(true)
}

fn show(layout: &Layout) {
    say!("registry {}  service {}", layout.registry, layout.service);
    for cloud in &layout.clouds {
        say!("\ncloud {}", cloud.name);
        for p in &cloud.proxies {
            say!(
                "  proxy      client {}  metrics {}  pid {}",
                p.client,
                p.metrics,
                p.process.pid()
            );
        }
        for s in &cloud.shards {
            let (node, sidecar) = (&s.node, &s.sidecar);
            say!("  shard {}  slots {}", s.name, s.slots);
            say!(
                "    node     client {}  metrics {}  pid {}\n             admin {}",
                node.client,
                node.metrics,
                node.process.pid(),
                node.admin
            );
            say!(
                "    sidecar  stream {}  metrics {}  pid {}",
                sidecar.stream,
                sidecar.metrics,
                sidecar.process.pid()
            );
        }
    }
    say!("\nall of it: {}", layout.dir.join("clouds.json").display());
    if let Some(proxy) = layout.clouds.first().and_then(|c| c.proxies.first())
        && let Some((_, port)) = proxy.client.rsplit_once(':')
    {
        say!("try: redis-cli -p {port} set hello world");
    }
}

fn status(dir: PathBuf) -> Result<bool> {
    let Some(layout) = Layout::load(&dir)?.filter(|l| l.processes().any(|p| p.alive())) else {
        bail!("no clouds are up in {}: `make up` brings them up", dir.display());
    };
    let mut args = std::process::Command::new(tests::clouds::binaries::path("godwit-switchover")?);
    let status = args
        .args(["status", "--registry", &layout.registry, "--service", &layout.service])
        .status()
        .context("cannot run godwit-switchover status")?;
    say!("");
    for process in layout.processes() {
        let state = if process.alive() { "runs" } else { "has ended" };
        say!(
            "{:<12} pid {:<8} {state}; log {}",
            process.name,
            process.pid(),
            process.log.display()
        );
    }
    // An active service whose status cannot be had is worth a failing exit code.
    Ok(status.success() && switchover(&layout, &["status"])?.code == 0)
}

fn take_down(dir: PathBuf) -> Result<bool> {
    let layout = Layout::load(&dir)?.filter(|l| l.processes().any(|p| p.alive()));
    let Some(mut layout) = layout else {
        say!("no clouds are up in {}", dir.display());
        return Ok(true);
    };
    let running = layout.processes().filter(|p| p.alive()).count();
    down(&mut layout);
    say!("ended {running} processes; data and logs stay in {}", dir.display());
    Ok(true)
}
