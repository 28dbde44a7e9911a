//! The report: each number measured in this run, named as others script against it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value};

use super::screen::{Screen, megabytes, thousands};

/// The names that a whole tour fills; a step that did not happen leaves its own out.
pub const FIELDS: [(&str, &str); 17] = [
    ("acknowledged_writes", "writes acknowledged to clients"),
    ("lost_writes", "of those, lost"),
    ("client_errors", "errors that clients saw (but for unknown outcomes)"),
    ("unknown_outcomes", "unknown outcomes, each resolved by the checker"),
    ("reads", "reads of acknowledged writes"),
    ("wrong_reads", "of those, that did not show the write"),
    ("dataset_bytes", "data loaded"),
    ("seed_bytes", "moved to seed the second cloud"),
    ("lag_ms_p50", "lag, p50 (acknowledged in one cloud to readable in the other)"),
    ("lag_ms_p99", "lag, p99"),
    ("switchover_pause_ms", "pause of the planned switchover (slowest write that a client saw)"),
    ("written_bytes", "written while the other cloud was active"),
    ("failback_bytes", "moved to go back"),
    ("failover_ms", "failover: from the command to the first acknowledged write"),
    ("outage_ms", "outage: from the kill to the first acknowledged write"),
    ("digests_equal", "digests of both clouds equal, each time they were compared"),
    ("digest_keys", "keys that the digests cover"),
];

/// What was measured so far.
#[derive(Default)]
pub struct Report(Map<String, Value>);

impl Report {
    /// Notes a measurement.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// Writes `report.json`.
    pub fn save(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(&self.0)? + "\n";
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Whether nothing was lost and nothing went wrong.
    pub fn is_good(&self) -> bool {
        let zero = ["lost_writes", "broken_promises", "client_errors", "wrong_reads"];
        let zero = zero.iter().all(|name| self.0.get(*name).and_then(Value::as_u64) == Some(0));
        zero && self.0.get("digests_equal") == Some(&Value::Bool(true))
    }

    /// Prints it.
    pub fn show(&self, screen: &mut Screen) {
        for (name, meaning) in FIELDS {
            let Some(value) = self.0.get(name) else { continue };
            let shown = match value {
                Value::Number(n) if name.ends_with("_bytes") => megabytes(n.as_u64().unwrap_or(0)),
                Value::Number(n) if name.contains("_ms") => format!("{n} ms"),
                Value::Number(n) => thousands(n.as_u64().unwrap_or(0)),
                Value::Bool(yes) => if *yes { "yes" } else { "NO" }.to_owned(),
                other => other.to_string(),
            };
            screen.line(&format!("{shown:>12}  {meaning}"));
        }
    }
}
