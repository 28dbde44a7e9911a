//! Giving way to what else runs on the machine.

use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use rustix::io::Errno;
use rustix::process::{Pid, getpriority_process, setpriority_process};

/// Lowers the priority of all threads of this process; those that come later have it from these. One that
/// is nicer already stays so.
pub(super) fn lower(nice: i32, io_idle: bool) -> anyhow::Result<()> {
    let threads = threads()?;
    for thread in &threads {
        match lower_thread(Pid::from_raw(*thread), nice) {
            // One that has ended since needs none.
            Ok(()) | Err(Errno::SRCH) => {}
            Err(why) => return Err(why).with_context(|| format!("--nice {nice}")),
        }
    }
    if io_idle {
        // There is no call for it but a raw one.
        let ids: Vec<_> = threads.iter().map(ToString::to_string).collect();
        let mut command = Command::new("ionice");
        command.args(["-c", "3", "-t", "-p"]).args(ids).stdin(Stdio::null()).stdout(Stdio::null());
        match command.status() {
            Ok(status) if status.success() => {}
            Ok(status) => bail!("--io-idle: ionice ended with {status}"),
            Err(why) => {
                return Err(why).context("--io-idle: ionice (of util-linux) cannot be run");
            }
        }
    }
    Ok(())
}

fn lower_thread(thread: Option<Pid>, nice: i32) -> Result<(), Errno> {
    if getpriority_process(thread)? < nice {
        setpriority_process(thread, nice)?;
    }
    Ok(())
}

fn threads() -> anyhow::Result<Vec<i32>> {
    let listed = std::fs::read_dir("/proc/self/task").context("listing our threads")?;
    let names = listed.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter_map(|name| name.parse().ok()).collect())
}
