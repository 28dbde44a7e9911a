//! `make bench-snapshot`: the first snapshot of a node's data, one after some keys were overwritten, one
//! after a full compaction behind that, a restore, and a node that has the last one materialised; beside rsync
//! and restic where they are installed, on the same files in the same run. Then what clients of the primary
//! see of a push ([`primary`]).

mod primary;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rand::{Rng, SeedableRng};
use serde_json::Value;

use crate::client::Client;
use crate::clouds::{Clouds, Plan, Process, binaries};

/// Ticks of the kernel's accounts a second (`getconf CLK_TCK`, the same on every Linux).
const TICKS: f64 = 100.0;
/// How often a running program's memory is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// Commands in one go.
const BATCH: u64 = 1_000;

/// What is measured.
#[derive(Clone, Debug)]
pub struct Bench {
    /// Keys, of a value each.
    pub keys: u64,
    /// Bytes of a value, half of them random.
    pub value: usize,
    /// Keys of a hundred that are overwritten before each later snapshot.
    pub percent: u64,
    /// Only what clients of the primary see of a push.
    pub beside_only: bool,
}

/// What something took.
struct Cost {
    /// Bytes that would go over a network.
    sent: u64,
    wall: f64,
    cpu: f64,
    /// Of the program that was started; it may have had others.
    peak_mb: f64,
}

impl Cost {
    fn cell(&self) -> String {
        let Self { sent, wall, cpu, peak_mb } = self;
        format!("{:>7.1} MB {wall:>5.1} s {cpu:>5.1} cpu {peak_mb:>4.0} MB", *sent as f64 / 1e6)
    }
}

/// One who makes snapshots.
trait Peer {
    fn name(&self) -> &'static str;
    /// Of what the node holds now; a copy of its files is in `files`.
    fn push(&mut self, files: &Path) -> Result<Cost>;
    /// The last one, to a new directory.
    fn restore(&mut self, to: &Path) -> Result<Cost>;
}

/// Runs it and answers a report.
pub fn run(bench: &Bench) -> Result<String> {
    let scratch = tempfile::Builder::new().prefix("godwit-snapshots-").tempdir()?;
    let mut plan = Plan::two_clouds(scratch.path().join("clouds"));
    plan.clouds = vec![("a".to_owned(), vec!["0-16383".to_owned()])];
    let mut clouds = Clouds::create(plan)?;
    clouds.start_all()?;
    let node = &clouds.cloud("a").shards[0].node;
    let mut client = Client::connect(&node.client)?;
    write(&mut client, bench, 1, 0)?;
    client.call(&["SAVE"])?;
    if bench.beside_only {
        return primary::measure(&clouds, bench, scratch.path());
    }
    let mut peers: Vec<Box<dyn Peer + '_>> =
        vec![Box::new(Godwit { clouds: &clouds, store: scratch.path().join("godwit") })];
    for compress in [false, true] {
        if installed("rsync") {
            let to = scratch.path().join(if compress { "rsync-z" } else { "rsync" });
            peers.push(Box::new(Rsync { compress, to }));
        }
    }
    if installed("restic") {
        peers.push(Box::new(Restic::new(scratch.path().join("restic"))?));
    }
    let mut rows: Vec<Vec<String>> =
        peers.iter().map(|peer| vec![peer.name().to_owned()]).collect();
    for step in 0..3_u64 {
        if step > 0 {
            write(&mut client, bench, 100 / bench.percent.max(1), step)?;
            client.call(&["SAVE"])?;
        }
        if step == 2 {
            let admin = node.admin.as_str();
            let compacting = Command::new(binaries::path("godwit-node")?)
                .args(["compact", "--admin", admin])
                .stdout(Stdio::null())
                .status()?;
            anyhow::ensure!(compacting.success(), "the node was not compacted");
        }
        let mut control = Client::connect(&node.admin)?;
        control.call(&["GODWIT.CHECKPOINT", "bench"])?;
        let files = node.dir.join("checkpoints/bench");
        for (peer, row) in peers.iter_mut().zip(&mut rows) {
            row.push(peer.push(&files)?.cell());
        }
        control.call(&["GODWIT.CHECKPOINT", "DROP", "bench"])?;
    }
    for (n, (peer, row)) in peers.iter_mut().zip(&mut rows).enumerate() {
        let to = scratch.path().join(format!("restored-{n}"));
        row.push(peer.restore(&to)?.cell());
        fs::remove_dir_all(&to)?;
    }
    drop(peers);
    let (materialise, activate) = activate(&scratch.path().join("godwit"), scratch.path())?;
    let beside = primary::measure(&clouds, bench, scratch.path())?;
    let mut text = format!(
        "{} keys of {} B, half random; {} % overwritten each time\n\
         bytes sent, wall, processor (with the sidecar's), memory at most of the program\n\
         {:<10} {:<36} {:<36} {:<36} {:<36}",
        bench.keys,
        bench.value,
        bench.percent,
        "",
        "first",
        "overwritten, flushed",
        "overwritten, compacted",
        "restore"
    );
    for row in rows {
        text.push_str(&format!("\n{:<10}", row[0]));
        row[1..].iter().for_each(|cell| text.push_str(&format!(" {cell:<36}")));
    }
    text.push_str(&format!("\n{:<10} {}", "godwit materialises the last one", materialise.cell()));
    text.push_str(&format!("\n{:<10} {}", "and activates it: a node has it", activate.cell()));
    text.push('\n');
    text.push_str(&beside);
    Ok(text)
}

/// Lays the last snapshot out beside the store, and gives it to a new node.
fn activate(store: &Path, scratch: &Path) -> Result<(Cost, Cost)> {
    let program = binaries::path("godwit-snapshotter")?;
    let materialised = scratch.join("materialised");
    let mut command = Command::new(&program);
    command.args(["materialise", "--from"]).arg(store);
    let (made, _) = measure(command.arg("--materialised").arg(&materialised))?;
    let dir = scratch.join("activated");
    let args = ["--dir", &dir.display().to_string(), "--listen", "127.0.0.1:0"];
    let (args, log) = (args.map(str::to_owned).to_vec(), scratch.join("activated.log"));
    let mut node = Process::new("activated".to_owned(), binaries::path("godwit-node")?, args, log);
    node.start()?;
    let admin = format!("unix:{}", dir.join("admin.sock").display());
    crate::wait::until("the new node to answer", Duration::from_secs(20), || {
        Client::connect(&admin)?.call(&["PING"]).map(drop)
    })?;
    let mut command = Command::new(&program);
    command.args(["activate", "--shard", "a/0", "--node-admin", &admin, "--materialised"]);
    let (activated, _) = measure(command.arg(&materialised))?;
    node.end();
    Ok((made, activated))
}

/// Writes every n-th key.
fn write(client: &mut Client, bench: &Bench, every: u64, seed: u64) -> Result<()> {
    let mut random = rand::rngs::SmallRng::seed_from_u64(seed);
    let mut value = vec![b'x'; bench.value];
    let mut waiting = 0;
    for key in (0..bench.keys).step_by(usize::try_from(every)?) {
        random.fill(&mut value[..bench.value / 2]);
        client.push(&[b"SET", format!("key:{key:012}").as_bytes(), &value]);
        waiting += 1;
        if waiting == BATCH {
            client.flush()?;
            for _ in 0..waiting {
                client.answer()?;
            }
            waiting = 0;
        }
    }
    client.flush()?;
    for _ in 0..waiting {
        client.answer()?;
    }
    Ok(())
}

fn installed(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

fn push_command(clouds: &Clouds, store: &Path) -> Command {
    let layout = &clouds.layout;
    let mut command = Command::new(binaries::path("godwit-snapshotter").unwrap_or_default());
    command.args(["push", "--registry", &layout.registry, "--service", &layout.service]);
    command.args(["--cluster", "a", "--output", "json", "--to"]).arg(store);
    command
}

struct Godwit<'a> {
    clouds: &'a Clouds,
    store: PathBuf,
}

impl Peer for Godwit<'_> {
    fn name(&self) -> &'static str {
        "godwit"
    }

    fn push(&mut self, _: &Path) -> Result<Cost> {
        let mut command = push_command(self.clouds, &self.store);
        let sidecar = &self.clouds.cloud("a").shards[0].sidecar.process;
        let before = cpu_of(sidecar)?;
        let (mut cost, said) = measure(&mut command)?;
        cost.cpu += cpu_of(sidecar)? - before;
        let answer: Value = serde_json::from_str(said.lines().last().unwrap_or_default())?;
        cost.sent = answer["bytes_sent"].as_u64().context("push says no bytes_sent")?;
        Ok(cost)
    }

    fn restore(&mut self, to: &Path) -> Result<Cost> {
        let mut command = Command::new(binaries::path("godwit-snapshotter")?);
        command.args(["restore", "--from"]).arg(&self.store);
        command.args(["--shard", "a/0", "--to"]).arg(to);
        Ok(measure(&mut command)?.0)
    }
}

struct Rsync {
    compress: bool,
    to: PathBuf,
}

impl Peer for Rsync {
    fn name(&self) -> &'static str {
        if self.compress { "rsync -az" } else { "rsync -a" }
    }

    fn push(&mut self, files: &Path) -> Result<Cost> {
        let mut command = Command::new("rsync");
        // Over a network it would not copy whole files.
        command.args([
            if self.compress { "-az" } else { "-a" },
            "--no-whole-file",
            "--stats",
            "--delete",
        ]);
        command.arg(format!("{}/", files.display())).arg(&self.to);
        let (mut cost, said) = measure(&mut command)?;
        let line = said.lines().find_map(|line| line.strip_prefix("Total bytes sent: "));
        let digits: String =
            line.unwrap_or_default().chars().filter(char::is_ascii_digit).collect();
        cost.sent = digits.parse().context("rsync says no bytes sent")?;
        Ok(cost)
    }

    fn restore(&mut self, to: &Path) -> Result<Cost> {
        let mut command = Command::new("rsync");
        command.arg("-a").arg(format!("{}/", self.to.display())).arg(to);
        Ok(measure(&mut command)?.0)
    }
}

struct Restic {
    repository: PathBuf,
}

impl Restic {
    fn new(repository: PathBuf) -> Result<Self> {
        let restic = Self { repository };
        measure(restic.command().arg("init"))?;
        Ok(restic)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("restic");
        command.env("RESTIC_PASSWORD", "bench").arg("--repo").arg(&self.repository);
        command.args(["--json", "--no-cache"]);
        command
    }
}

impl Peer for Restic {
    fn name(&self) -> &'static str {
        "restic"
    }

    fn push(&mut self, files: &Path) -> Result<Cost> {
        // Older ones do not say how much was packed: what the repository has more is what was sent.
        let before = bytes_below(&self.repository)?;
        let (mut cost, _) = measure(self.command().arg("backup").arg(files))?;
        cost.sent = bytes_below(&self.repository)?.saturating_sub(before);
        Ok(cost)
    }

    fn restore(&mut self, to: &Path) -> Result<Cost> {
        Ok(measure(self.command().args(["restore", "latest", "--target"]).arg(to))?.0)
    }
}

/// Bytes of all files below a directory.
fn bytes_below(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        bytes += if meta.is_dir() { bytes_below(&entry.path())? } else { meta.len() };
    }
    Ok(bytes)
}

/// Runs a program to its end: what it took, and what it said.
fn measure(command: &mut Command) -> Result<(Cost, String)> {
    let (begun, before) = (Instant::now(), children_cpu()?);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let looking = child.id();
    let looker = thread::spawn(move || {
        let mut most = 0.0_f64;
        while let Some(now) = peak_mb(looking) {
            most = most.max(now);
            crate::wait::pause(LOOK);
        }
        most
    });
    let output = drained(&mut child)?;
    let wall = begun.elapsed().as_secs_f64();
    let peak_mb = looker.join().unwrap_or_default();
    Ok((Cost { sent: 0, wall, cpu: children_cpu()? - before, peak_mb }, output))
}

fn drained(child: &mut Child) -> Result<String> {
    use std::io::Read;
    let mut errors = child.stderr.take().context("no stderr")?;
    let complaint = thread::spawn(move || {
        let mut text = String::new();
        errors.read_to_string(&mut text).map(|_| text)
    });
    let mut said = String::new();
    child.stdout.take().context("no stdout")?.read_to_string(&mut said)?;
    let status = child.wait()?;
    if !status.success() {
        let complaint = complaint.join().ok().and_then(Result::ok).unwrap_or_default();
        bail!("it ended with {status}: {complaint}");
    }
    Ok(said)
}

/// Megabytes of memory at most so far (`VmHWM`); `None` once it is gone.
fn peak_mb(pid: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse::<f64>().ok().map(|kb| kb / 1024.0)
}

/// Seconds of processor of children that have ended (`/proc/self/stat`, fields 16 and 17).
fn children_cpu() -> Result<f64> {
    ticks("/proc/self/stat", 13)
}

/// Seconds of processor that a process has had (fields 14 and 15).
fn cpu_of(process: &Process) -> Result<f64> {
    ticks(&format!("/proc/{}/stat", process.pid()), 11)
}

fn ticks(path: &str, skip: usize) -> Result<f64> {
    let stat = fs::read_to_string(path)?;
    let fields = stat.rsplit_once(')').context("no stat")?.1.split_whitespace();
    let ticks: Vec<f64> = fields.skip(skip).take(2).filter_map(|f| f.parse().ok()).collect();
    Ok(ticks.iter().sum::<f64>() / TICKS)
}
