//! What operators leave in the registry beside the record: who is at it, whether they asked for
//! quiet, and notes that outlive whoever wrote them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::record::UnixMs;

/// Who does something, and from where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Actor {
    /// The user of the operating system.
    pub user: String,
    /// The machine's name.
    pub host: String,
    /// The process.
    pub pid: u32,
    /// When the process started, in the kernel's ticks since the boot: a process id may come again.
    pub started: u64,
    /// The boot of the machine and the namespace that `pid` is of; the same text means that a process
    /// id means the same.
    pub machine: String,
    /// Where the person came from (the client of SSH), if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

impl std::fmt::Display for Actor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{} (process {}", self.user, self.host, self.pid)?;
        if let Some(from) = &self.from {
            write!(f, ", from {from}")?;
        }
        f.write_str(")")
    }
}

/// That somebody is at an operation: the key `operation`, which its tool renews and which ends with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Claim {
    /// Random; tells two claims of one process apart.
    pub id: String,
    /// What is being done: `switchover`, `failover`, `failback`, `resume`, `drill`.
    pub operation: String,
    /// Who is at it.
    pub by: Actor,
    /// Since when.
    pub since: UnixMs,
}

/// That operators work by hand: the key `maintenance`. What acts by itself leaves the service alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Maintenance {
    /// Who asked for it.
    pub by: Actor,
    /// Since when.
    pub since: UnixMs,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// That the service may fail over by itself, and within which limits: the key `auto`. Without it nobody
/// acts; watchers only say what they see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Auto {
    /// The clusters that may take over, the best first. One whose own primary is down is passed over.
    pub to: Vec<String>,
    /// The loss that is accepted, as `failover --accept-loss` takes it.
    pub max_loss: String,
    /// How long a verdict must hold before anything is done, in milliseconds.
    pub wait_ms: u64,
    /// The least time since the last switch, in milliseconds.
    pub min_interval_ms: u64,
    /// Whether only the primaries that are down move; else all of the service does.
    pub only_failed: bool,
    /// Who switched it on.
    pub by: Actor,
    /// Since when.
    pub since: UnixMs,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The last time that something was done: the key `note/<what>`, such as `note/drill`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Note {
    /// When.
    pub at: UnixMs,
    /// What came of it, in a sentence.
    pub says: String,
    /// Whether it went well.
    pub good: bool,
    /// More, for programs.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub detail: Value,
}

/// The note of the last drill.
pub const DRILL: &str = "drill";
/// The note of the last snapshot that was sealed.
pub const SNAPSHOT_SEALED: &str = "snapshot-sealed";
/// The note of the last snapshot that was proven.
pub const SNAPSHOT_PROVEN: &str = "snapshot-proven";
