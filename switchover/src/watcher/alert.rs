//! What a watcher tells, and whom: its output, the log, and the operator's program.

use std::process::Stdio;

use serde_json::json;
use tokio::process::Command;
use topology::ShardName;
use topology::record::UnixMs;

use crate::tool::Tool;

/// What it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Half of the observers call a primary down.
    Down,
    /// They do not any more.
    Up,
    /// It failed over by itself.
    FailedOver,
    /// It would have, and was refused, or failed.
    Refused,
}

impl Kind {
    /// Its name in metrics, output and the hook's environment.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Up => "up",
            Self::FailedOver => "failed-over",
            Self::Refused => "refused",
        }
    }
}

/// An alert.
#[derive(Clone, Debug)]
pub(super) struct Alert {
    pub(super) kind: Kind,
    shards: Vec<ShardName>,
    says: String,
}

impl Alert {
    pub(super) const fn new(kind: Kind, shards: Vec<ShardName>, says: String) -> Self {
        Self { kind, shards, says }
    }

    /// Tells it. `quiet`: maintenance is on, and nobody is woken.
    pub(super) async fn tell(&self, tool: &Tool, quiet: bool) {
        let shards: Vec<_> = self.shards.iter().map(ToString::to_string).collect();
        let (kind, shards) = (self.kind.name(), shards.join(","));
        match self.kind {
            Kind::Down | Kind::Refused => tracing::error!(kind, shards, quiet, "{}", self.says),
            Kind::Up | Kind::FailedOver => tracing::warn!(kind, shards, quiet, "{}", self.says),
        }
        let json = json!({
            "at": UnixMs::now(), "alert": kind, "shards": self.shards, "message": self.says,
        });
        if let Err(why) = tool.result(&format!("{kind} {shards}: {}", self.says), &json) {
            tracing::warn!("{why:#}");
        }
        if !quiet && let Err(why) = self.run_hook(tool, kind, &shards).await {
            tracing::error!("the alert hook failed: {why}");
        }
    }

    async fn run_hook(&self, tool: &Tool, kind: &str, shards: &str) -> Result<(), String> {
        let Some(program) = &tool.config.hooks.alert else { return Ok(()) };
        let mut child = Command::new(program)
            .env("GODWIT_HOOK", "alert")
            .env("GODWIT_SERVICE", tool.service.name())
            .env("GODWIT_ALERT", kind)
            .env("GODWIT_SHARDS", shards)
            .env("GODWIT_MESSAGE", &self.says)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .map_err(|why| format!("{} cannot be started: {why}", program.display()))?;
        let limit = tool.config.hooks.timeout;
        match tokio::time::timeout(limit, child.wait()).await {
            Err(_) => {
                Err(format!("{} took longer than {limit:?} (hook-timeout)", program.display()))
            }
            Ok(Err(why)) => Err(format!("{}: {why}", program.display())),
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(format!("{} ended with {status}", program.display())),
        }
    }
}
