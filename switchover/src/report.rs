//! What an operation reports, to people and to scripts.

use std::fmt::Write as _;
use std::time::Duration;

use ops::exit::Exit;
use serde::{Deserialize, Serialize};
use topology::operator::Actor;
use topology::record::UnixMs;

use crate::loss::ShardLoss;
use crate::resize::Resized;
use crate::tool::Tool;

/// The result of an operation. Its JSON names are stable: scripts read them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// `switchover`, `failover`, `failback`, `resize`.
    pub operation: String,
    /// Who did it, or the last part of it.
    pub by: Option<Actor>,
    /// Why, as far as it was said.
    pub reason: Option<String>,
    /// When this tool began.
    pub began_ms: Option<UnixMs>,
    /// The clusters that were active before.
    pub from: String,
    /// The cluster that takes over.
    pub to: String,
    /// The primaries that were to move.
    pub moves: Vec<String>,
    /// The epoch now.
    pub epoch: Option<u64>,
    /// The freeze, which names the operation.
    pub freeze: Option<String>,
    /// `done`, `refused`, `rolled-back`, `incomplete`, `failed`, `unknown`.
    pub outcome: String,
    /// From the freeze to the last new primary that could write.
    pub pause_ms: Option<f64>,
    /// Of a failover: from the command to the last new primary that could write.
    pub failover_ms: Option<f64>,
    /// Of a failover: how long a lease was waited out.
    pub lease_wait_ms: Option<f64>,
    /// The steps that were done, in order.
    pub steps: Vec<Step>,
    /// What each shard did, and when.
    pub marks: Vec<Mark>,
    /// What was acknowledged on the old side and is not on the new one.
    pub lost: Option<Lost>,
    /// The same shard by shard, of a failover.
    pub losses: Vec<ShardLoss>,
    /// Proxies that acknowledged the new epoch.
    pub proxies: Vec<ProxyAck>,
    /// Proxies that have not.
    pub proxies_missing: Vec<String>,
    /// Proxies that were not waited for: they had said nothing for two beats.
    pub proxies_silent: Vec<String>,
    /// Proxies that had not acknowledged the freeze at the commit; nodes refused their writes.
    pub proxies_not_holding: Vec<String>,
    /// Of a failback: bytes that the old side took to be level again.
    pub bytes_moved: Option<BytesMoved>,
    /// Of a resize: what it was besides its switch.
    pub resize: Option<Resized>,
    /// Why it did not end well, or what to do next.
    pub message: Option<String>,
    /// The exit code.
    pub exit: u8,
}

/// A step and how long it took.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// Milliseconds.
    pub ms: f64,
    /// Milliseconds from the beginning to its end.
    pub at_ms: f64,
}

/// What a shard did: `end` of its log, `given up`, `level` with what it follows, `promoted`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// The shard.
    pub shard: String,
    /// What.
    pub did: String,
    /// Milliseconds from the beginning.
    pub at_ms: f64,
}

/// What is missing on the new side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lost {
    /// The end of each log is known: this many sequences are missing. Each record that a batch
    /// changed takes one, so there are at most so many batches and keys; which ones only their log
    /// says.
    Known(u64),
    /// The end of a log is not known: what was acknowledged in this many seconds before the last
    /// moment at which its node may have written may be missing. A bound, not a count.
    BoundSeconds(f64),
}

impl Lost {
    /// In words, with what is exact and what is not.
    pub(crate) fn text(&self) -> String {
        /// Where the list comes from.
        const LISTED: &str = "the old side's sidecar lists the batches and keys in its ledger when it returns, before it takes them back";
        match self {
            Self::Known(0) => "nothing".to_owned(),
            Self::Known(count) => format!(
                "{count} sequences that were acknowledged, so at most {count} batches and {count} keys (their log's end is known, and they were not sent); {LISTED}"
            ),
            Self::BoundSeconds(seconds) => format!(
                "the end of a log cannot be read: at most what was acknowledged in its last {seconds:.3} s, up to the freeze or the end of its lease (a bound, not a count); if that log comes back, {LISTED}"
            ),
        }
    }
}

/// A proxy that routes by the new epoch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProxyAck {
    /// Its id.
    pub id: String,
    /// From the freeze to its acknowledgement.
    pub pause_ms: f64,
}

/// Bytes on the wire from the active side to the old one, as compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BytesMoved {
    /// All of them.
    pub sent: u64,
    /// Of those, bytes of checkpoints and fetched keys.
    pub seed: u64,
}

/// Milliseconds with a tenth.
pub(crate) fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10_000.0).round() / 10.0
}

impl Report {
    /// Says who does it and why.
    pub(crate) fn sign(&mut self, tool: &Tool) {
        self.by = Some(tool.by.clone());
        self.reason.clone_from(&tool.reason);
        self.began_ms = Some(UnixMs::now());
    }

    /// Ends the report.
    pub(crate) fn close(&mut self, exit: Exit, message: Option<String>) {
        self.outcome = match exit {
            Exit::Done => "done",
            Exit::Failed | Exit::Usage => "failed",
            Exit::Refused => "refused",
            Exit::RolledBack => "rolled-back",
            Exit::Incomplete => "incomplete",
            Exit::Unknown => "unknown",
        }
        .to_owned();
        self.exit = exit.code();
        self.message = message.or(self.message.take());
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut out = format!("{} {} -> {}: {}", self.operation, self.from, self.to, self.outcome);
        let mut line = |name: &str, value: String| {
            // Writing to a string does not fail.
            let _ = write!(out, "\n  {name:<14} {value}");
        };
        if let Some(message) = &self.message {
            line("", message.clone());
        }
        if !self.moves.is_empty() {
            line("moves", self.moves.join(", "));
        }
        if let Some(by) = &self.by {
            line("by", by.to_string());
        }
        if let Some(reason) = &self.reason {
            line("reason", reason.clone());
        }
        if let Some(epoch) = self.epoch {
            line("epoch", epoch.to_string());
        }
        if let Some(pause) = self.pause_ms {
            line(
                "pause",
                format!("{pause} ms from the freeze to the last new primary that could write"),
            );
        }
        if let Some(took) = self.failover_ms {
            line(
                "failover",
                format!("{took} ms from the command to the last new primary that could write"),
            );
        }
        if let Some(wait) = self.lease_wait_ms {
            line("lease wait", format!("{wait} ms"));
        }
        if let Some(lost) = &self.lost {
            line("lost", lost.text());
        }
        for loss in &self.losses {
            line("", loss.text());
        }
        if let Some(moved) = self.bytes_moved {
            line(
                "bytes moved",
                format!("{} ({} of them checkpoints and fetched keys)", moved.sent, moved.seed),
            );
        }
        if let Some(resize) = &self.resize {
            for (name, value) in resize.lines(&self.from, &self.to) {
                line(name, value);
            }
        }
        for step in &self.steps {
            line("step", format!("{:<10} {:>9} ms", step.name, step.ms));
        }
        for proxy in &self.proxies {
            line("proxy", format!("{} after {} ms", proxy.id, proxy.pause_ms));
        }
        if !self.proxies_not_holding.is_empty() {
            line("not holding", self.proxies_not_holding.join(", "));
        }
        if !self.proxies_silent.is_empty() {
            let silent = self.proxies_silent.join(", ");
            line("silent", format!("{silent} (proxies that say nothing, and were not waited for)"));
        }
        if !self.proxies_missing.is_empty() {
            line(
                "no answer",
                format!(
                    "{} (proxies that have not acknowledged the new epoch)",
                    self.proxies_missing.join(", ")
                ),
            );
        }
        out
    }
}
