//! The tool, step by step: it goes on after each when it is given a line.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::STUCK;
use super::cell::STEPS;
use crate::clouds::{Clouds, binaries};
use crate::wait;

/// The tool at work, step by step.
pub(super) struct Stepped {
    child: Child,
    lines: Receiver<String>,
    pub(super) said: Vec<String>,
}

impl Stepped {
    /// Starts `godwit-switchover` with these arguments; it waits after each step.
    pub(super) fn start(clouds: &Clouds, args: &[&str]) -> Result<Self> {
        let layout = &clouds.layout;
        let mut child = Command::new(binaries::path("godwit-switchover")?)
            .args(args)
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
    pub(super) fn until(&mut self, step: &str) -> Result<bool> {
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
                        Some(name) if STEPS.contains(&name) => {
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

    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("no pid")?, signal).context("cannot signal the tool")
    }

    /// No step waits for a line any more.
    pub(super) fn let_go(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Its exit code, once it has ended, and what it said.
    pub(super) fn end(mut self) -> Result<(Option<i32>, Vec<String>)> {
        self.let_go();
        let child = &mut self.child;
        let status =
            wait::until("the tool to end", STUCK, || child.try_wait()?.context("it still runs"))?;
        self.said.extend(self.lines.iter());
        Ok((status.code(), std::mem::take(&mut self.said)))
    }
}

/// A tool that is not waited for (the cell has failed) does not go on behind the next one.
impl Drop for Stepped {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
