//! The journal of an operation: in the registry for whoever resumes it, and in a local file,
//! synced, for whoever asks later what was done, by whom, from where and why.
//!
//! During the pause nothing is written to the registry but the record, which says the same: the
//! freeze and the forks are in it. The journal's key catches up once writes go on.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use topology::record::UnixMs;
use topology::{FreezeId, Service};

use crate::tool::Tool;

/// Entries that wait to be written; an operation has a few dozen.
const QUEUE: usize = 64;
/// Steps that the registry's copy keeps, the last ones; an operation that is resumed often has more.
const STEPS_MAX: usize = 256;

/// Writes entries in order, in the background.
#[derive(Debug)]
pub(crate) struct Journal {
    queue: mpsc::Sender<Order>,
    document: Value,
}

enum Order {
    Local(Value),
    Registry(Value),
    Flush(oneshot::Sender<Result<(), String>>),
}

/// The file of an operation's journal on this machine.
pub(crate) fn path(dir: &Path, service: &str, id: &str) -> PathBuf {
    dir.join(format!("{service}-{id}.jsonl"))
}

impl Journal {
    /// Begins the journal of the operation that this freeze names; fails if it cannot be written.
    pub(crate) async fn begin(tool: &Tool, freeze: FreezeId, about: Value) -> anyhow::Result<Self> {
        let mut about = tool.signed(about);
        about["steps"] = json!([]);
        about["began_ms"] = json!(UnixMs::now());
        Self::open(tool, freeze, about, "begin").await
    }

    /// Goes on with the journal that an operation has in the registry.
    pub(crate) async fn resume(
        tool: &Tool,
        freeze: FreezeId,
        mut about: Value,
    ) -> anyhow::Result<Self> {
        if !about.is_object() {
            about = json!({});
        }
        if !about["steps"].is_array() {
            about["steps"] = json!([]);
        }
        about["resumed_by"] = json!(tool.by);
        Self::open(tool, freeze, about, "resume").await
    }

    /// What the registry holds of an operation.
    pub(crate) async fn held(service: &Service, freeze: FreezeId) -> Option<Value> {
        let op = freeze.to_string();
        let journals = service.journals().await.ok()?;
        journals.into_iter().find(|(id, _)| *id == op).map(|(_, about)| about)
    }

    async fn open(
        tool: &Tool,
        freeze: FreezeId,
        mut about: Value,
        how: &str,
    ) -> anyhow::Result<Self> {
        let dir = &tool.config.journal;
        std::fs::create_dir_all(dir).with_context(|| {
            format!(
                "cannot make the journal directory {}; name another with --journal",
                dir.display()
            )
        })?;
        let path = path(dir, tool.service.name(), &freeze.to_string());
        let (queue, orders) = mpsc::channel(QUEUE);
        tokio::spawn(write(tool.service.clone(), freeze.to_string(), path, orders));
        about["freeze"] = json!(freeze);
        about["state"] = json!("running");
        let mut journal = Self { queue, document: about };
        journal.note(how, json!({"about": journal.document.clone()}), true).await;
        journal.flush().await.map_err(|why| {
            anyhow::anyhow!("cannot write the journal, so nothing was begun: {why}")
        })?;
        Ok(journal)
    }

    /// Notes a step: on disk soon; in the registry too, but during the pause.
    pub(crate) async fn note(&mut self, step: &str, detail: Value, registry: bool) {
        let entry = json!({"step": step, "at_ms": UnixMs::now(), "detail": detail});
        if let Some(steps) = self.document["steps"].as_array_mut() {
            steps.push(json!({"step": step, "at_ms": UnixMs::now()}));
            let excess = steps.len().saturating_sub(STEPS_MAX);
            steps.drain(..excess);
        }
        // The writer lives as long as this does.
        let _ = self.queue.send(Order::Local(entry)).await;
        if registry {
            let _ = self.queue.send(Order::Registry(self.document.clone())).await;
        }
    }

    /// Notes how it ended.
    pub(crate) async fn end(&mut self, state: &str, report: Value) {
        self.document["state"] = json!(state);
        self.document["report"] = report.clone();
        self.note(state, report, true).await;
        if let Err(why) = self.flush().await {
            tracing::warn!(
                "the journal is not complete ({why}); the record in the registry is what holds"
            );
        }
    }

    /// Waits until everything noted is written.
    pub(crate) async fn flush(&self) -> Result<(), String> {
        let (sender, done) = oneshot::channel();
        let gone = || "its writer ended".to_owned();
        self.queue.send(Order::Flush(sender)).await.map_err(|_| gone())?;
        done.await.map_err(|_| gone())?
    }
}

async fn write(service: Service, op: String, path: PathBuf, mut orders: mpsc::Receiver<Order>) {
    let mut failed = Ok(());
    while let Some(order) = orders.recv().await {
        let written = match order {
            Order::Local(entry) => {
                let path = path.clone();
                let append = tokio::task::spawn_blocking(move || append(&path, &entry)).await;
                append
                    .unwrap_or_else(|why| Err(std::io::Error::other(why)))
                    .map_err(|e| e.to_string())
            }
            Order::Registry(document) => {
                service.put_journal(&op, &document).await.map_err(|e| e.to_string())
            }
            Order::Flush(done) => {
                // Who asked may have given up.
                let _ = done.send(std::mem::replace(&mut failed, Ok(())));
                continue;
            }
        };
        failed = failed.and(written);
    }
}

fn append(path: &Path, entry: &Value) -> std::io::Result<()> {
    let mut file = std::fs::File::options().create(true).append(true).open(path)?;
    file.write_all(format!("{entry}\n").as_bytes())?;
    file.sync_all()
}
