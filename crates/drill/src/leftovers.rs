//! What a drill leaves whose doer was killed: directories of hard links, and perhaps a process.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::fork::{LOG, NODE_LOCK};
use crate::process::pid_file;

/// Removes what lies in `checkpoints` and whose name begins with `prefix`: the caller knows that nobody is
/// at a drill of that name. What could not be removed, each in a sentence: try again, a killed process
/// needs a moment.
pub fn clear(checkpoints: &Path, prefix: &str) -> Vec<String> {
    // No directory: nothing was ever left.
    let Ok(entries) = std::fs::read_dir(checkpoints) else { return Vec::new() };
    let named = entries.flatten().filter(|entry| {
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        is_dir && entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix))
    });
    let mut left = Vec::new();
    for path in named.map(|entry| entry.path()) {
        if is_locked(&path) {
            end_process(&path);
        }
        let gone = if is_locked(&path) {
            Err("a node still runs on it".to_owned())
        } else {
            std::fs::remove_dir_all(&path).map_err(|why| why.to_string())
        };
        match gone {
            Ok(()) => tracing::info!(path = %path.display(), "removed what a dead drill had left"),
            Err(why) => left.push(format!("{}: {why}", path.display())),
        }
    }
    left
}

/// Whether a node has this directory.
fn is_locked(dir: &Path) -> bool {
    let lock = File::open(dir.join(NODE_LOCK));
    lock.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Ends the process that runs on a fork, if that is what has the id which was noted there.
fn end_process(fork: &Path) {
    let Ok(noted) = std::fs::read_to_string(pid_file(&fork.join(LOG))) else { return };
    let Some(group) = noted.trim().parse().ok().and_then(Pid::from_raw) else { return };
    if in_group(group, fork) {
        // Whether it has worked, its lock says.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// Whether some process of this group was started for this fork: ids are given again.
fn in_group(group: Pid, fork: &Path) -> bool {
    let Ok(processes) = std::fs::read_dir("/proc") else { return false };
    let fork = fork.as_os_str().as_encoded_bytes();
    processes.flatten().any(|process: std::fs::DirEntry| {
        let dir: PathBuf = process.path();
        let stat = std::fs::read_to_string(dir.join("stat")).unwrap_or_default();
        // proc_pid_stat(5): behind the name in parentheses come state, parent, group.
        let of = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(2)?.parse().ok());
        let command = std::fs::read(dir.join("cmdline")).unwrap_or_default();
        of == Some(group.as_raw_nonzero().get())
            && command.windows(fork.len()).any(|words| words == fork)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Process;
    use std::time::{Duration, Instant};

    #[tokio::test]
    async fn what_is_left_goes_and_its_process_with_it() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["drill-x-1-node", "drill-x-2", "drill-y-1", "seed-1"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let fork = dir.path().join("drill-x-1-node");
        let lock = fork.join(NODE_LOCK).display().to_string();
        // Stands for a node: it has the lock, and its command names the fork.
        let args = ["-c", r#"exec 9>"$0"; flock 9; sleep 100 & wait"#, &lock].map(str::to_owned);
        let orphan = Process::start(Path::new("/bin/sh"), &args, &fork.join(LOG)).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while !is_locked(&fork) {
            assert!(Instant::now() < deadline, "it never took its lock");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        while !clear(dir.path(), "drill-x-").is_empty() {
            assert!(Instant::now() < deadline, "{:?}", clear(dir.path(), "drill-x-"));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut kept: Vec<_> = std::fs::read_dir(dir.path()).unwrap().flatten().collect();
        kept.sort_by_key(std::fs::DirEntry::file_name);
        let kept: Vec<_> = kept.iter().map(std::fs::DirEntry::file_name).collect();
        assert_eq!(kept, ["drill-y-1", "seed-1"]);
        orphan.stop().await.unwrap();
    }

    #[test]
    fn an_id_that_is_another_s_now_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        // This very process: were it taken for the fork's, the test would end here.
        let own = rustix::process::getpgrp().as_raw_nonzero().to_string();
        std::fs::write(pid_file(&dir.path().join(LOG)), own).unwrap();
        end_process(dir.path());
    }
}
