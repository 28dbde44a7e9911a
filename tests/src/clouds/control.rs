//! What an operator does: `godwit-switchover` with JSON answers.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::binaries;
use super::layout::Layout;

/// What a run of the tool came to.
#[derive(Debug)]
pub struct Run {
    /// Its exit code: 0 done; 1 failed, nothing changed; 2 usage; 3 refused; 4 rolled back; 5
    /// committed but not complete; 6 outcome unknown.
    pub code: i32,
    /// Its report: the last line of its output that is a JSON object.
    pub report: Value,
    /// All it said.
    pub said: String,
    /// How long it took.
    pub took: Duration,
}

/// Runs `godwit-switchover` on the service of a layout, with its answer as JSON.
pub fn switchover(layout: &Layout, args: &[&str]) -> Result<Run> {
    let start = Instant::now();
    let mut command = Command::new(binaries::path("godwit-switchover")?);
    command.args(args).args(["--registry", &layout.registry, "--service", &layout.service]);
    // Journals of this machine's other clouds are none of ours.
    command.arg("--journal").arg(layout.dir.join("journal"));
    let out =
        command.args(["--output", "json"]).output().context("cannot run godwit-switchover")?;
    let stdout = String::from_utf8_lossy(&out.stdout);
    let last = stdout.lines().rev().find_map(|line| serde_json::from_str(line.trim()).ok());
    // Or the whole output is one object, printed for people too.
    let report = last.or_else(|| serde_json::from_str(&stdout).ok()).unwrap_or(Value::Null);
    let said = format!("{stdout}{}", String::from_utf8_lossy(&out.stderr));
    Ok(Run { code: out.status.code().unwrap_or(-1), report, said, took: start.elapsed() })
}

/// Runs `godwit-replicator` with a verb, with its answer as JSON.
pub fn replicator(args: &[&str]) -> Result<Run> {
    let start = Instant::now();
    let mut command = Command::new(binaries::path("godwit-replicator")?);
    command.args(args).args(["--output", "json"]);
    let out = command.output().context("cannot run godwit-replicator")?;
    let stdout = String::from_utf8_lossy(&out.stdout);
    let last = stdout.lines().rev().find_map(|line| serde_json::from_str(line.trim()).ok());
    let said = format!("{stdout}{}", String::from_utf8_lossy(&out.stderr));
    let code = out.status.code().unwrap_or(-1);
    Ok(Run { code, report: last.unwrap_or(Value::Null), said, took: start.elapsed() })
}

/// The same, which must end with exit code 0.
pub fn switchover_ok(layout: &Layout, args: &[&str]) -> Result<Run> {
    let run = switchover(layout, args)?;
    if run.code != 0 {
        bail!("godwit-switchover {} ended with {}: {}", args.join(" "), run.code, run.said.trim());
    }
    Ok(run)
}
