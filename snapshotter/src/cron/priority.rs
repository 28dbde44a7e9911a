//! Giving way to what else runs on the machine.

use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use rustix::process::{Pid, setpriority_process};

/// Lowers the priority of all threads of this process; those that come later have it from these.
pub(super) fn lower(nice: Option<i32>, io_idle: bool) -> anyhow::Result<()> {
    let threads = threads()?;
    if let Some(nice) = nice {
        for thread in &threads {
            // One that has ended since needs none.
            let lowered = setpriority_process(Pid::from_raw(*thread), nice);
            if let Err(why) = lowered
                && why != rustix::io::Errno::SRCH
            {
                return Err(why).with_context(|| format!("--nice {nice}"));
            }
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

fn threads() -> anyhow::Result<Vec<i32>> {
    let listed = std::fs::read_dir("/proc/self/task").context("listing our threads")?;
    let names = listed.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter_map(|name| name.parse().ok()).collect())
}
