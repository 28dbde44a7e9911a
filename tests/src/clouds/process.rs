//! One process of a cloud: start it, kill it, freeze it, end it, start it again.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::wait;

/// How long a process may take to end after it was told to.
pub const END_MAX: Duration = Duration::from_secs(15);

/// A process for certain: a pid may be given to another process, its start time not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The process id.
    pub pid: u32,
    /// When it started, in the kernel's ticks since boot (`/proc/PID/stat`, field 22).
    pub started: u64,
}

impl Identity {
    /// The process with this id now.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may hold anything, so count from its end: state is field 3.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?;
        let started = fields.nth(18)?.parse().ok()?;
        (state != "Z").then_some(Self { pid, started })
    }

    /// Whether it still runs.
    pub fn alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    fn signal(self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        match pid {
            Some(pid) if self.alive() => {
                kill_process(pid, signal).context("cannot signal a process")
            }
            _ => bail!("process {} has ended", self.pid),
        }
    }
}

/// A process and how to start it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Process {
    /// What it is called in messages and log files: `a-0-node`.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment beside what it inherits.
    pub env: Vec<(String, String)>,
    /// Where its output goes; appended to at each start.
    pub log: PathBuf,
    /// Whether it goes on when whoever started it ends.
    pub detached: bool,
    /// The process, once started.
    pub identity: Option<Identity>,
    #[serde(skip)]
    child: Option<Child>,
}

impl Process {
    /// A process that is not started yet.
    pub fn new(name: String, program: PathBuf, args: Vec<String>, log: PathBuf) -> Self {
        Self {
            name,
            program,
            args,
            env: Vec::new(),
            log,
            detached: false,
            identity: None,
            child: None,
        }
    }

    /// Its id, 0 if it was never started.
    pub fn pid(&self) -> u32 {
        self.identity.map_or(0, |identity| identity.pid)
    }

    /// Whether it runs.
    pub fn alive(&self) -> bool {
        self.identity.is_some_and(Identity::alive)
    }

    /// Starts it.
    pub fn start(&mut self) -> Result<()> {
        if self.alive() {
            bail!("{} runs already, as process {}", self.name, self.pid());
        }
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.with_context(|| format!("cannot open {}", self.log.display()))?;
        let mut command = if self.detached {
            let mut command = Command::new(&self.program);
            // Ctrl-C in the terminal that started it is not meant for it.
            command.process_group(0);
            command
        } else {
            // Ends with the thread that started it, however that ends.
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "KILL", "--"]).arg(&self.program);
            command
        };
        command.args(&self.args).envs(self.env.iter().map(|(k, v)| (k, v)));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child =
            command.spawn().with_context(|| format!("cannot start {}", self.program.display()))?;
        self.identity = Identity::of(child.id());
        self.child = Some(child);
        Ok(())
    }

    /// SIGKILL: ends it at once, with nothing said or flushed.
    pub fn kill9(&mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.wait_end()
    }

    /// SIGTERM: a clean shutdown, within [`END_MAX`].
    pub fn term(&mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        self.wait_end()
    }

    /// Ends it, cleanly if it can; nothing if it does not run.
    pub fn end(&mut self) {
        let _ = self.thaw();
        if self.alive() && self.term().is_err() {
            let _ = self.kill9();
        }
    }

    /// SIGSTOP: it hangs, with its sockets open.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT: it goes on.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Lines of its log that tell of a panic.
    pub fn panics(&self) -> Vec<String> {
        let log = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&log);
        text.lines().filter(|line| line.contains("panicked at")).map(str::to_owned).collect()
    }

    /// The last lines of its log, for a message.
    pub fn tail(&self, lines: usize) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&log);
        let all: Vec<_> = text.lines().collect();
        all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let identity = self.identity.with_context(|| format!("{} was never started", self.name))?;
        identity.signal(signal).with_context(|| self.name.clone())
    }

    fn wait_end(&mut self) -> Result<()> {
        wait::until(&format!("{} to end", self.name), END_MAX, || {
            // A child has ended once it can be reaped: as a zombie its other threads may still hold
            // its locks for a moment.
            let runs = match &mut self.child {
                Some(child) => child.try_wait()?.is_none(),
                None => self.identity.is_some_and(Identity::alive),
            };
            if runs {
                bail!("it still runs")
            }
            Ok(())
        })
    }
}
