//! What came of a drill.

use serde::Serialize;

use crate::report::Report;
use crate::time::ago;

/// A forked shard.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct ShardDrill {
    pub(super) shard: String,
    /// How long its checkpoint took, in milliseconds.
    pub(super) checkpoint_ms: f64,
    /// How old the last batch was that the checkpoint has of a source.
    pub(super) data_age_ms: u64,
    /// Its keys, as the promoted fork counts them.
    pub(super) keys: u64,
    /// A write, a read and a delete through the node, in milliseconds.
    pub(super) canary_ms: f64,
    /// The same through a proxy; absent of a drill by sidecars.
    pub(super) proxy_ms: Option<f64>,
    /// Until the forked node stood by, where its sidecar started it.
    pub(super) open_ms: Option<f64>,
    /// From there until it was a primary under a lease.
    pub(super) promote_ms: Option<f64>,
}

/// What came of a drill.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Drilled {
    pub(super) operation: &'static str,
    pub(super) id: String,
    pub(super) to: String,
    /// `sidecars`, or `this machine`.
    pub(super) by: &'static str,
    pub(super) good: bool,
    pub(super) shards: Vec<ShardDrill>,
    /// From the start of the forked nodes until all stood by, in milliseconds, on this machine.
    pub(super) open_ms: Option<f64>,
    /// The failover among the forks, on this machine.
    pub(super) switch: Option<Report>,
    pub(super) message: String,
    pub(super) exit: u8,
}

impl Drilled {
    /// In words, a line for each shard.
    pub(super) fn text(&self) -> String {
        let mut text = format!("drill to {} by {}: {}", self.to, self.by, self.message);
        for s in &self.shards {
            text.push_str(&format!(
                "\n  {:<8} checkpoint {} ms, data {}, {} keys, canary {} ms",
                s.shard,
                s.checkpoint_ms,
                ago(s.data_age_ms),
                s.keys,
                s.canary_ms
            ));
            for (what, took) in
                [("by proxy", s.proxy_ms), ("opened in", s.open_ms), ("promoted in", s.promote_ms)]
            {
                if let Some(took) = took {
                    text.push_str(&format!(", {what} {took} ms"));
                }
            }
        }
        if let Some(switch) = &self.switch {
            text.push_str(&format!("\n  opened in {} ms; ", self.open_ms.unwrap_or_default()));
            text.push_str(&switch.text());
        }
        text
    }
}
