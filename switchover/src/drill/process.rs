//! Processes of a drill: they end with the tool, however it ends.

use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use tokio::process::{Child, Command};

/// How long a process may take to stop.
const STOP_WAIT: Duration = Duration::from_secs(20);
/// As much of the end of a log is looked at, in bytes.
const LOG_END: usize = 4096;

/// Runs what its arguments name, and ends it when nobody holds the other end of its input any more: so
/// it ends with this tool, even if that is killed.
const KEEPER: &str = r#""$@" & read -r _; kill -TERM $!; wait $!"#;

/// A process.
pub(super) struct Process {
    keeper: Child,
    program: PathBuf,
}

/// Makes a directory that only its owner sees.
pub(super) fn private_dir(path: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().mode(0o700).create(path)
}

/// Where a program is: in the directory named, beside this one, or in PATH.
pub(super) fn find(program: &str, named: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(dir) = named {
        let path = dir.join(program);
        anyhow::ensure!(
            path.is_file(),
            "{} is no file: name another with --programs",
            path.display()
        );
        return Ok(path);
    }
    let own = std::env::current_exe().ok();
    let beside = own.and_then(|own| Some(own.parent()?.join(program)));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let everywhere = std::env::split_paths(&path).map(|dir| dir.join(program));
    beside.into_iter().chain(everywhere).find(|path| path.is_file()).with_context(|| {
        format!(
            "{program} is neither beside this program nor in PATH: say where with --programs DIR"
        )
    })
}

impl Process {
    /// Starts a program, which knows nothing of this environment, with its output in a file.
    pub(super) fn start(program: &Path, args: &[String], log: &Path) -> anyhow::Result<Self> {
        let output = std::fs::File::options().create(true).append(true).mode(0o600).open(log);
        let output = output.with_context(|| format!("cannot write {}", log.display()))?;
        let again = output.try_clone().context("a second handle of a log")?;
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, "sh"])
            .arg(program)
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(again)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { keeper, program: program.to_owned() })
    }

    /// Ends it; an error says what still runs.
    pub(super) async fn stop(mut self) -> Result<(), String> {
        drop(self.keeper.stdin.take());
        match tokio::time::timeout(STOP_WAIT, self.keeper.wait()).await {
            Ok(_) => Ok(()),
            Err(_) => Err(format!(
                "{} does not stop (its parent is process {})",
                self.program.display(),
                self.keeper.id().unwrap_or_default()
            )),
        }
    }
}

/// The last line of a log, for an error.
pub(super) fn last_line(log: &Path) -> Option<String> {
    let bytes = std::fs::read(log).ok()?;
    let end = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(LOG_END)..]).into_owned();
    end.lines().rev().find(|line| !line.trim().is_empty()).map(str::to_owned)
}
