//! Servers under test: started on one core, asked for their CPU time and memory, ended.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::client::Client;

/// How long a server may take to answer its first PING.
const START_MAX: Duration = Duration::from_secs(60);

/// What `/proc` counts CPU time in: USER_HZ, which is 100 on every machine that Linux runs on today.
const TICKS_PER_SECOND: f64 = 100.0;

/// The fields of `/proc/PID/stat` (proc(5)) where user and system time are: of a process, and of its
/// children that were waited for.
const UTIME: usize = 14;
const CUTIME: usize = 16;

/// Which core servers run on, and which their clients.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Cores {
    /// The core that servers run on.
    #[arg(long, default_value_t = 0)]
    pub(crate) server_core: usize,
    /// The core that clients run on.
    #[arg(long, default_value_t = 1)]
    pub(crate) client_core: usize,
}

/// A command that runs on one core.
pub(crate) fn pinned(core: usize, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.arg("-c").arg(core.to_string()).arg(program);
    command
}

/// A server process, killed when dropped.
pub(crate) struct Server {
    process: Child,
    pub(crate) port: u16,
}

impl Server {
    /// redis-server with its log synced each second, as a node's is.
    pub(crate) fn redis(core: usize, dir: &Path) -> Result<Self> {
        let port = free_port()?;
        let mut command = pinned(core, Path::new("redis-server"));
        command.args(["--port", &port.to_string(), "--dir"]).arg(dir);
        command.args(["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]);
        command.args(["--auto-aof-rewrite-percentage", "0", "--daemonize", "no"]);
        Self::start(command, port, dir)
    }

    /// godwit-node, one I/O thread and one worker as on a machine of one or two cores.
    pub(crate) fn node(core: usize, program: &Path, dir: &Path, memory: &str) -> Result<Self> {
        Self::node_with(core, program, dir, memory, &[])
    }

    /// The same with more settings.
    pub(crate) fn node_with(
        core: usize,
        program: &Path,
        dir: &Path,
        memory: &str,
        settings: &[String],
    ) -> Result<Self> {
        Self::node_of(pinned(core, program), dir, memory, settings)
    }

    /// The same on any core, as a machine's nodes run: its compactions need not take its worker's.
    pub(crate) fn node_anywhere(
        program: &Path,
        dir: &Path,
        memory: &str,
        settings: &[String],
    ) -> Result<Self> {
        Self::node_of(Command::new(program), dir, memory, settings)
    }

    fn node_of(
        mut command: Command,
        dir: &Path,
        memory: &str,
        settings: &[String],
    ) -> Result<Self> {
        let port = free_port()?;
        command.arg("--dir").arg(dir.join("node"));
        command.args(["--listen", &format!("127.0.0.1:{port}"), "--memory", memory]);
        command.args(["--durability", "everysec", "--io-threads", "1", "--workers", "1"]);
        command.args(settings);
        Self::start(command, port, dir)
    }

    fn start(mut command: Command, port: u16, dir: &Path) -> Result<Self> {
        let log = File::create(dir.join("server.log")).context("cannot create the server's log")?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let program = format!("{command:?}");
        let process = command.spawn().with_context(|| format!("cannot start {program}"))?;
        let mut server = Self { process, port };
        let deadline = Instant::now() + START_MAX;
        while Client::connect(port).and_then(|mut client| client.call(&[b"PING"])).is_err() {
            if let Some(status) = server.process.try_wait()? {
                bail!("{program} ended at once ({status}): read {}", dir.display());
            }
            if Instant::now() >= deadline {
                bail!("{program} does not answer PING on port {port}");
            }
            pause(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// User and system time of all its threads so far.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        ticks(&self.process.id().to_string(), UTIME)
    }

    /// Its resident memory in bytes.
    pub(crate) fn resident(&self) -> Result<u64> {
        self.status("VmRSS:")
    }

    /// The most that was resident since it started or the last [`Server::forget_peak`].
    pub(crate) fn peak(&self) -> Result<u64> {
        self.status("VmHWM:")
    }

    /// Begins to look for the most resident memory anew: proc(5), `clear_refs`.
    pub(crate) fn forget_peak(&self) -> Result<()> {
        Ok(std::fs::write(format!("/proc/{}/clear_refs", self.process.id()), "5")?)
    }

    /// A size of `/proc/PID/status` in bytes.
    fn status(&self, name: &str) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        Ok(kib.unwrap_or(0) * 1024)
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn stop(mut self) -> Result<()> {
        // It closes the connection instead of answering.
        let _ = Client::connect(self.port).and_then(|mut c| c.call(&[b"SHUTDOWN", b"NOSAVE"]));
        self.process.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// User and system time of all processes that this one has started and that have ended.
pub(crate) fn ended_cpu() -> Result<Duration> {
    ticks("self", CUTIME)
}

/// Two numbers of `/proc/PID/stat` one after the other, from this field on, as a time.
fn ticks(process: &str, field: usize) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // proc(5): the name in parentheses, the second field, may have spaces.
    let rest = stat.rsplit(')').next().unwrap_or_default();
    let fields = rest.split_whitespace().skip(field - 3).take(2);
    let ticks: u64 = fields.flat_map(str::parse::<u64>).sum();
    Ok(Duration::from_secs_f64(ticks as f64 / TICKS_PER_SECOND))
}

/// The node's program: the given one, or the one beside this program.
pub(crate) fn node_program(given: Option<&Path>) -> Result<PathBuf> {
    let beside = std::env::current_exe()?.with_file_name("godwit-node");
    let program = given.map_or(beside, Path::to_owned);
    if !program.exists() {
        bail!("there is no {}: build it first, as `make bench` does", program.display());
    }
    Ok(program)
}

/// Waits; there is nothing to be told by.
#[allow(clippy::disallowed_methods)]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    Ok(listener.local_addr()?.port())
}

/// A socket to a server of this machine.
pub(crate) fn connect(port: u16) -> Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
