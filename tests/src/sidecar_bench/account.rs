//! What processes have used, from the kernel's accounts, and where they may run.

use std::fs;

use anyhow::{Context, Result};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::clouds::Process;

/// Ticks of the kernel's accounts a second (`getconf CLK_TCK`, the same on every Linux).
const TICKS: f64 = 100.0;

/// Seconds of processor that a process has had (`/proc/PID/stat`, fields 14 and 15).
pub fn cpu(process: &Process) -> Result<f64> {
    cpu_of(&process.pid().to_string())
}

/// The same of this process.
pub fn own_cpu() -> Result<f64> {
    cpu_of("self")
}

fn cpu_of(pid: &str) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(')').context("no stat")?.1.split_whitespace();
    let ticks: Vec<f64> = fields.skip(11).take(2).filter_map(|f| f.parse().ok()).collect();
    Ok(ticks.iter().sum::<f64>() / TICKS)
}

/// Megabytes of memory: now (`VmRSS`), or at most so far (`VmHWM`).
pub fn memory_mb(process: &Process, which: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix(which)?.strip_prefix(':'));
    let kb = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    Ok(kb.with_context(|| format!("no {which}"))? / 1024.0)
}

/// Keeps a process, with all threads that it has by now, on one processor.
pub fn pin(pid: u32, processor: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(processor);
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let name = task?.file_name();
        let thread = name.to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        // A thread that has ended meanwhile needs no place.
        let _ = thread.map(|thread| sched_setaffinity(Some(thread), &set));
    }
    Ok(())
}

/// The middle of some numbers.
pub fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}
