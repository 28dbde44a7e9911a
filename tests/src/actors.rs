//! Whoever takes part in a planned switch dies, or hangs, at each of its steps: the end is the old
//! state or the new, nothing stays held longer than its deadline, running the tool again finishes or
//! reports it, and a prober that writes to both sides all the time never finds two that accept.
//!
//! The tool is a debug build's: it goes on after each step when it is given a line
//! (`GODWIT_FAILPOINTS=switchover-step`).

mod prober;

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::clouds::control::switchover;
use crate::clouds::{Clouds, Observer, Process, binaries};
use crate::wait;
use prober::Prober;

/// How long anything may take before it counts as stuck.
const STUCK: Duration = Duration::from_secs(60);
/// The freeze's deadline in the matrix.
const DEADLINE: Duration = Duration::from_secs(2);
/// Beyond the deadline, until whoever ends the freeze has done so: a proxy waits half a second for the
/// tool, and a busy machine takes its time.
const GRACE: Duration = Duration::from_secs(8);

/// Who may die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// `godwit-switchover`.
    Tool,
    /// The old side's proxy.
    Proxy,
    /// A primary of the old side.
    OldNode,
    /// A node of the new side.
    NewNode,
    /// The old primary's sidecar.
    OldSidecar,
    /// The sidecar of the new side's node.
    NewSidecar,
}

/// What happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    /// SIGKILL.
    Kill,
    /// SIGSTOP, and SIGCONT when all is over.
    Freeze,
}

/// One thing that may happen.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    /// Who.
    pub actor: Actor,
    /// What.
    pub blow: Blow,
    /// After which step of the tool.
    pub step: &'static str,
}

/// All that may happen.
pub fn cells() -> Vec<Cell> {
    use Actor::{NewNode, NewSidecar, OldNode, OldSidecar, Proxy, Tool};
    let mut all = Vec::new();
    for step in ["freeze", "end", "drain", "commit", "promote", "register"] {
        for actor in [Tool, Proxy, OldNode, NewNode, OldSidecar, NewSidecar] {
            all.extend([Blow::Kill, Blow::Freeze].map(|blow| Cell { actor, blow, step }));
        }
    }
    all
}

/// The tool at work, step by step.
struct Stepped {
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Stepped {
    fn start(clouds: &Clouds, to: &str) -> Result<Self> {
        let layout = &clouds.layout;
        let deadline = format!("{}ms", DEADLINE.as_millis());
        let mut child = Command::new(binaries::path("godwit-switchover")?)
            .args(["run", "--to", to, "--yes", "--timeout", &deadline, "--settle-timeout", "5s"])
            .args(["--no-wait-reverse", "--output", "json"])
            .args(["--registry", &layout.registry, "--service", &layout.service])
            .arg("--journal")
            .arg(layout.dir.join("journal"))
            .env("GODWIT_FAILPOINTS", "switchover-step")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run godwit-switchover")?;
        let stderr = child.stderr.take().context("no stderr")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines, said: Vec::new() })
    }

    /// Lets it go on until it says that this step is done; `false` if it ended before.
    fn until(&mut self, step: &str) -> Result<bool> {
        let ends = Instant::now() + STUCK;
        loop {
            match self.lines.recv_timeout(ends.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    // `[   0.012s] freeze (1.2 ms)`
                    let done = line.split_once("] ").and_then(|(_, rest)| rest.split_once(" ("));
                    let name = done.map(|(name, _)| name.to_owned());
                    self.said.push(line);
                    match name.as_deref() {
                        Some(name) if name == step => return Ok(true),
                        Some("freeze" | "end" | "drain" | "commit" | "promote" | "register") => {
                            let stdin = self.child.stdin.as_mut().context("no stdin")?;
                            // It may have ended meanwhile.
                            let _ = stdin.write_all(b"\n");
                        }
                        _ => {}
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(false),
                Err(RecvTimeoutError::Timeout) => {
                    bail!("the tool said nothing more: {:#?}", self.said)
                }
            }
        }
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("no pid")?, signal).context("cannot signal the tool")
    }

    /// Its exit code, once it has ended; no step waits for a line any more.
    fn end(mut self) -> Result<(Option<i32>, Vec<String>)> {
        drop(self.child.stdin.take());
        let child = &mut self.child;
        let status =
            wait::until("the tool to end", STUCK, || child.try_wait()?.context("it still runs"))?;
        self.said.extend(self.lines.iter());
        Ok((status.code(), self.said))
    }
}

/// The other of two clouds.
fn other(cloud: &str) -> &'static str {
    if cloud == "a" { "b" } else { "a" }
}

fn process<'a>(clouds: &'a mut Clouds, actor: Actor, from: &str) -> Option<&'a mut Process> {
    let (old, new) = (format!("{from}/0"), format!("{}/0", other(from)));
    match actor {
        Actor::Tool => None,
        Actor::OldNode => Some(&mut clouds.shard(&old).node.process),
        Actor::NewNode => Some(&mut clouds.shard(&new).node.process),
        Actor::OldSidecar => Some(&mut clouds.shard(&old).sidecar.process),
        Actor::NewSidecar => Some(&mut clouds.shard(&new).sidecar.process),
        Actor::Proxy => {
            let cloud = clouds.layout.clouds.iter_mut().find(|c| c.name == from)?;
            cloud.proxies.first_mut().map(|proxy| &mut proxy.process)
        }
    }
}

/// Whether a process holds the lock of a `file:` registry (proc(5), `/proc/locks`): nobody can write
/// there while one that is stopped does, which is a limit of such a registry.
fn holds_registry(pid: u32, registry: &str) -> Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let Some(dir) = registry.strip_prefix("file:") else { return Ok(false) };
    let inode = std::fs::metadata(format!("{dir}/lock")).context("the registry's lock")?.ino();
    let locks = std::fs::read_to_string("/proc/locks").context("/proc/locks")?;
    // `1: FLOCK  ADVISORY  WRITE 4711 fe:00:1234 0 EOF`; who only waits has an arrow behind the number.
    Ok(locks.lines().any(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let file = fields.get(5).and_then(|f| f.rsplit(':').next()?.parse().ok());
        fields.get(4) == Some(&pid.to_string().as_str()) && file == Some(inode)
    }))
}

/// Whether a process has stopped (proc(5): the state behind the name is `T`); one that is gone has.
fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with('T'))
}

/// Stops a process at a moment at which it does not hold the registry's lock.
fn stop_outside(
    pid: u32,
    registry: &str,
    stop: impl Fn() -> Result<()>,
    go_on: impl Fn() -> Result<()>,
) -> Result<()> {
    wait::until("a moment outside of the registry", STUCK, || {
        stop()?;
        wait::until("the process to stop", STUCK, || {
            ensure!(is_stopped(pid), "process {pid} runs");
            Ok(())
        })?;
        if holds_registry(pid, registry)? {
            go_on()?;
            bail!("process {pid} holds the registry's lock")
        }
        Ok(())
    })
}

fn freeze(process: &Process, registry: &str) -> Result<()> {
    stop_outside(process.pid(), registry, || process.freeze(), || process.thaw())
}

/// Plays one cell, mends what it broke, and says how it ended: the tool's exit code, and who is active.
/// Both clouds are up and level before and after.
pub fn play(clouds: &mut Clouds, observer: &Observer, cell: Cell) -> Result<(Option<i32>, String)> {
    let from = observer.active().context("no cluster is active")?;
    let to = other(&from);
    ready(clouds, to)?;
    let prober = Prober::start(
        clouds.shard(&format!("{from}/0")).node.client.clone(),
        clouds.shard(&format!("{to}/0")).node.client.clone(),
    );
    let registry = clouds.layout.registry.clone();
    let mut tool = Stepped::start(clouds, to)?;
    let struck = tool.until(cell.step)?;
    ensure!(struck, "the tool ended before it came to {}: {:#?}", cell.step, tool.said);
    match (process(clouds, cell.actor, &from), cell.blow) {
        (None, Blow::Kill) => tool.signal(Signal::KILL)?,
        // Between two steps it writes nothing to the registry, but it may renew its claim.
        (None, Blow::Freeze) => {
            let pid = tool.child.id();
            stop_outside(
                pid,
                &registry,
                || tool.signal(Signal::STOP),
                || tool.signal(Signal::CONT),
            )?;
        }
        (Some(process), Blow::Kill) => process.kill9()?,
        (Some(process), Blow::Freeze) => freeze(process, &registry)?,
    }
    // Whatever happens, writes are not held for much longer than the freeze may last.
    drop(tool.child.stdin.take());
    wait::until("the freeze to end", DEADLINE + GRACE, || {
        let view = observer.view();
        ensure!(view.record().is_some_and(|r| r.freeze().is_none()), "it is frozen");
        Ok(())
    })?;
    if cell.actor == Actor::Tool && cell.blow == Blow::Freeze {
        tool.signal(Signal::CONT)?;
    }
    let (code, said) = tool.end()?;
    if let Some(process) = process(clouds, cell.actor, &from) {
        match cell.blow {
            Blow::Kill => process.start()?,
            Blow::Freeze => process.thaw()?,
        }
    }
    let active = settle(clouds, observer)?;
    ensure!(active == from || active == to, "`{active}` is active");
    let agrees = match code {
        Some(0 | 5) => active == to,
        Some(4) => active == from,
        // Killed, or it could not learn how it ended: the record says.
        None | Some(6) => true,
        Some(_) => false,
    };
    ensure!(agrees, "the tool ended with {code:?} and {active} is active: {said:#?}");
    ready(clouds, other(&active))?;
    prober.judge(&said)?;
    Ok((code, active))
}

/// Runs the tool again until there is nothing left to resume; who is active then.
fn settle(clouds: &Clouds, observer: &Observer) -> Result<String> {
    wait::until("nothing to be left to resume", STUCK, || {
        let run = switchover(&clouds.layout, &["resume", "--no-wait-reverse"])?;
        ensure!(matches!(run.code, 0 | 4), "resume ended with {}: {}", run.code, run.said);
        ensure!(run.report["operation"] == "resume", "{}", run.said);
        Ok(())
    })?;
    observer.active().context("no cluster is active")
}

/// Waits until every guard would let a switch to this cloud pass.
fn ready(clouds: &Clouds, to: &str) -> Result<()> {
    wait::until("the guards to agree", STUCK, || {
        let plan = switchover(&clouds.layout, &["plan", "--to", to])?;
        ensure!(plan.code == 0, "{}", plan.said);
        Ok(())
    })
}
