//! What came of a run.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use anyhow::Context;
use keyspace::Hlc;
use ops::exit::Exit;
use serde_json::json;
use store::repository::plan::time;

/// A run that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) verb: &'static str,
    pub(super) begun_ms: u64,
    pub(super) seconds: f64,
    pub(super) exit: Exit,
    pub(super) error: Option<String>,
}

/// When the last run was that succeeded; the age of this is what to be woken for.
const SUCCESS: &str = "godwit_snapshotter_last_success_timestamp_seconds";

impl Ended {
    /// Replaces the file by what came of this run.
    pub(super) fn write_json(&self, path: &Path) -> anyhow::Result<()> {
        let report = json!({
            "verb": self.verb, "version": env!("CARGO_PKG_VERSION"),
            "started-at": time(Hlc::new(self.begun_ms, 0)), "seconds": self.seconds,
            "exit": self.exit.code(), "error": self.error, "result": crate::report::last(),
        });
        replace(path, &(serde_json::to_string_pretty(&report)? + "\n"))
    }

    /// Replaces the file by the metrics of this run; the last success stays until there is another.
    pub(super) fn write_metrics(&self, path: &Path) -> anyhow::Result<()> {
        let ended = self.begun_ms as f64 / 1000.0 + self.seconds;
        let before = fs::read_to_string(path).unwrap_or_default();
        let success = match self.exit {
            Exit::Done => Some(ended),
            _ => success(&before, self.verb),
        };
        let result = crate::report::last();
        let number = |key: &str| result.as_ref().and_then(|result| result[key].as_f64());
        let mut text = String::new();
        let mut metric = |name: &str, help: &str, value: Option<f64>| {
            let Some(value) = value else { return };
            let (name, verb) = (format!("godwit_snapshotter_{name}"), self.verb);
            let written = write!(
                text,
                "# HELP {name} {help}\n# TYPE {name} gauge\n{name}{{verb=\"{verb}\"}} {value}\n"
            );
            written.expect("a string takes all");
        };
        let exit = f64::from(self.exit.code());
        metric("last_run_timestamp_seconds", "When the last run ended", Some(ended));
        metric(
            "last_success_timestamp_seconds",
            "When the last run ended with exit code 0",
            success,
        );
        metric("last_run_duration_seconds", "How long the last run took", Some(self.seconds));
        metric("last_run_exit_code", "The exit code of the last run", Some(exit));
        metric("last_run_sent_bytes", "Bytes that the last run sent", number("bytes_sent"));
        metric("last_run_bytes", "Bytes of the snapshot of the last run", number("bytes_total"));
        replace(path, &text)
    }
}

/// The last success that a file of metrics names.
fn success(text: &str, verb: &str) -> Option<f64> {
    let begin = format!("{SUCCESS}{{verb=\"{verb}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&begin)?.parse().ok())
}

/// Writes a file so that whoever reads it sees the old one or the new one.
fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut new = path.as_os_str().to_owned();
    // node_exporter reads what ends with .prom.
    new.push(format!(".{}.new", std::process::id()));
    let written = File::create(&new)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&new, path));
    written.with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_success_outlives_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("push.prom");
        let run = |begun_ms, exit| {
            let ended = Ended { verb: "push", begun_ms, seconds: 2.0, exit, error: None };
            ended.write_metrics(&path).unwrap();
            fs::read_to_string(&path).unwrap()
        };
        let failed = run(1_000_000, Exit::Failed);
        assert!(!failed.contains(SUCCESS), "{failed}");
        let good = run(2_000_000, Exit::Done);
        assert_eq!(success(&good, "push"), Some(2002.0), "{good}");
        let failed = run(3_000_000, Exit::Refused);
        assert_eq!(success(&failed, "push"), Some(2002.0), "{failed}");
        assert!(failed.contains("last_run_exit_code{verb=\"push\"} 3"), "{failed}");
        assert!(failed.contains("last_run_timestamp_seconds{verb=\"push\"} 3002"), "{failed}");
        assert_eq!(success(&failed, "prune"), None);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
    }
}
