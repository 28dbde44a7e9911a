//! Processes of a drill: they end with whoever started them, however that ends.

use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::process::{Child, ChildStdin, Command};

/// How long the kernel may take to end a process that was killed.
const STOP_WAIT: Duration = Duration::from_secs(20);
const STOP_AGAIN: Duration = Duration::from_millis(5);
/// As much of the end of a log is looked at, in bytes.
const LOG_END: usize = 4096;

/// Runs what its arguments name, and kills it when nobody holds the other end of its input any more: so
/// it ends with whoever started it, even if that is killed, or this shell. Nothing that a fork wrote is kept.
const KEEPER: &str = r#"
echo $$ > "$PID_FILE"
exec 3<&0
"$@" < /dev/null 3<&- &
kept=$!
{ read -r _ <&3; kill -KILL $kept; } &
wait $kept
code=$?
kill $! 2> /dev/null
exit $code
"#;

/// A process, with the shell that keeps it; both are a group of their own.
#[derive(Debug)]
pub struct Process {
    keeper: Child,
    /// The other end of its input. Held here: waiting for a child closes the input that it has itself.
    input: Option<ChildStdin>,
    group: Option<Pid>,
    program: PathBuf,
}

/// Makes a directory that only its owner sees.
///
/// # Errors
/// It is there, or cannot be made.
pub fn private_dir(path: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().mode(0o700).create(path)
}

/// Where the id of a process's group is noted, beside its log.
pub(crate) fn pid_file(log: &Path) -> PathBuf {
    log.with_extension("pid")
}

impl Process {
    /// Starts a program, which knows nothing of this environment, with its output in a file. The id of its
    /// group is noted beside that, for whoever clears away what a dead drill has left.
    ///
    /// # Errors
    /// It cannot be started, or its log not be written.
    pub fn start(program: &Path, args: &[String], log: &Path) -> anyhow::Result<Self> {
        let output = std::fs::File::options().create(true).append(true).mode(0o600).open(log);
        let output = output.with_context(|| format!("cannot write {}", log.display()))?;
        let again = output.try_clone().context("a second handle of a log")?;
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "sh"])
            .arg(program)
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("PID_FILE", pid_file(log))
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(again)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let id = keeper.id().and_then(|id| i32::try_from(id).ok());
        let input = keeper.stdin.take();
        Ok(Self { keeper, input, group: id.and_then(Pid::from_raw), program: program.to_owned() })
    }

    /// Returns once it has ended by itself.
    pub async fn ended(&mut self) {
        // An error is for a process that there is none of any more.
        let _ = self.keeper.wait().await;
    }

    /// Ends it at once, and waits until it is gone.
    ///
    /// # Errors
    /// What still runs, in a sentence.
    pub async fn stop(mut self) -> Result<(), String> {
        let began = Instant::now();
        if let Some(group) = self.group {
            // One that is gone already needs no more.
            let _ = kill_process_group(group, Signal::KILL);
        }
        drop(self.input.take());
        // Reaped first: until then its group is there.
        let _ = tokio::time::timeout(STOP_WAIT, self.keeper.wait()).await;
        while self.group.is_some_and(|group| test_kill_process_group(group).is_ok()) {
            if began.elapsed() > STOP_WAIT {
                return Err(format!("{} does not end", self.program.display()));
            }
            tokio::time::sleep(STOP_AGAIN).await;
        }
        Ok(())
    }
}

/// The last line of a log, for an error.
pub fn last_line(log: &Path) -> Option<String> {
    let bytes = std::fs::read(log).ok()?;
    let end = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(LOG_END)..]).into_owned();
    end.lines().rev().find(|line| !line.trim().is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(process: &Process) -> bool {
        process.group.is_some_and(|group| test_kill_process_group(group).is_ok())
    }

    #[tokio::test]
    async fn what_was_started_is_gone_when_it_was_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        // One that heeds no request to end, and has a child of its own.
        let stubborn = r#"trap "" TERM; echo up; sleep 100 & wait"#;
        let args = ["-c", stubborn].map(str::to_owned);
        let process = Process::start(Path::new("/bin/sh"), &args, &log).unwrap();
        while last_line(&log).as_deref() != Some("up") {
            tokio::time::sleep(STOP_AGAIN).await;
        }
        assert!(runs(&process) && pid_file(&log).is_file());
        process.stop().await.unwrap();
    }

    #[tokio::test]
    async fn one_that_ends_by_itself_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let args = ["-c", "echo no such thing >&2; exit 3"].map(str::to_owned);
        let mut process = Process::start(Path::new("/bin/sh"), &args, &log).unwrap();
        tokio::time::timeout(STOP_WAIT, process.ended()).await.unwrap();
        assert_eq!(last_line(&log).as_deref(), Some("no such thing"));
        process.stop().await.unwrap();
    }

    #[tokio::test]
    async fn it_ends_with_whoever_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let args = ["-c", "echo up; sleep 100"].map(str::to_owned);
        let mut process = Process::start(Path::new("/bin/sh"), &args, &log).unwrap();
        while last_line(&log).as_deref() != Some("up") {
            tokio::time::sleep(STOP_AGAIN).await;
        }
        // It goes on while it is waited for.
        let early = tokio::time::timeout(STOP_AGAIN * 20, process.ended()).await;
        assert!(early.is_err(), "it ended because somebody waited for it");
        // As the kernel does it when the holder is killed.
        drop(process.input.take());
        tokio::time::timeout(STOP_WAIT, process.ended()).await.unwrap();
        process.stop().await.unwrap();
    }
}
