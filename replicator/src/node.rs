//! The sidecar's own node: a connection to its admin listener, and what was last known of it, kept
//! on disk for the time that it is dead.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use keyspace::SlotSet;
use ops::shutdown::Shutdown;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, watch};
use topology::members::Role;
use topology::service::{Service, ServiceView};
use topology::{Epoch, ShardName};
use wal::{History, Position};

use crate::identity::DatabaseId;

/// How often the node is asked how it is, if the registry has no news of it.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// The same while it does not answer.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// How long it may take to answer before it counts as not there.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// What is known of the node, also while it is dead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Known {
    /// Its database.
    pub database: DatabaseId,
    /// Its slots.
    pub slots: SlotSet,
    /// The role that it had.
    pub role: Role,
    /// The epoch that it acted under.
    pub epoch: Epoch,
    /// Its timelines. The log itself may know a later one.
    pub history: History,
}

/// The node; clones share it.
#[derive(Clone, Debug)]
pub struct Node(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    address: String,
    state: PathBuf,
    client: Mutex<Option<admin::Client>>,
    known: watch::Sender<Option<Known>>,
    alive: watch::Sender<Option<Arc<admin::Status>>>,
}

impl Node {
    /// A node behind this admin address, with what a former run of the sidecar knew of it.
    pub fn new(address: &str, spool: &Path) -> Self {
        let state = spool.join("state.json");
        let known = fs::read(&state).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self(Arc::new(Shared {
            address: address.to_owned(),
            state,
            client: Mutex::new(None),
            known: watch::channel(known).0,
            alive: watch::channel(None).0,
        }))
    }

    /// A connection: the one there is, or a new one.
    pub async fn client(&self) -> Result<admin::Client, admin::Error> {
        let mut held = self.0.client.lock().await;
        if let Some(client) = held.as_ref().filter(|client| !client.is_closed()) {
            return Ok(client.clone());
        }
        let client = admin::Client::connect(&self.0.address).await?;
        *held = Some(client.clone());
        Ok(client)
    }

    /// A connection of its own: for requests that take long or carry much, so that nothing waits
    /// behind them.
    pub async fn own_client(&self) -> Result<admin::Client, admin::Error> {
        admin::Client::connect(&self.0.address).await
    }

    /// What the node says now.
    pub async fn status(&self) -> Result<admin::Status, admin::Error> {
        let status = self.client().await?.status().await?;
        self.learn(&status);
        Ok(status)
    }

    /// What is known of it, dead or alive.
    pub fn known(&self) -> watch::Receiver<Option<Known>> {
        self.0.known.subscribe()
    }

    /// What it said last; `None` while it does not answer.
    pub fn alive(&self) -> watch::Receiver<Option<Arc<admin::Status>>> {
        self.0.alive.subscribe()
    }

    /// The end of its log as it said last.
    pub fn position(&self) -> Option<Position> {
        self.0.alive.borrow().as_ref().map(|status| status.position)
    }

    /// Asks it how it is until shutdown: now and then, and when the registry says that the record,
    /// or what the node does, has changed.
    pub async fn keep_asking(self, service: Service, shard: ShardName, shutdown: Shutdown) {
        let mut view = service.watch();
        loop {
            let told = told(&view.borrow_and_update(), &shard);
            let asked = tokio::time::timeout(ANSWER_WITHIN, self.status()).await;
            let alive = match asked {
                Ok(Ok(status)) => Some(Arc::new(status)),
                Ok(Err(error)) => {
                    tracing::debug!("{error}");
                    None
                }
                Err(_) => {
                    *self.0.client.lock().await = None;
                    None
                }
            };
            let pause = if alive.is_some() { ASK_EVERY } else { ASK_AGAIN };
            self.0.alive.send_if_modified(|held| {
                let changed = *held != alive;
                *held = alive;
                changed
            });
            let news = async {
                while view.changed().await.is_ok() {
                    if told != self::told(&view.borrow_and_update(), &shard) {
                        return;
                    }
                }
                std::future::pending().await
            };
            tokio::select! {
                () = news => {}
                () = tokio::time::sleep(pause) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    fn learn(&self, status: &admin::Status) {
        let Some(database) = DatabaseId::parse(&status.database) else { return };
        let known = Known {
            database,
            slots: status.slots.clone(),
            // Between its start and the record it knows no role; what it was last stands till then.
            role: status.role,
            epoch: status.epoch,
            history: status.history.clone(),
        };
        let changed = self.0.known.send_if_modified(|held| {
            let mut known = known.clone();
            if let Some(before) = held.as_ref().filter(|before| before.database == known.database)
                && known.role == Role::Unknown
            {
                known.role = before.role;
            }
            let changed = held.as_ref() != Some(&known);
            *held = Some(known);
            changed
        });
        if changed && let Err(error) = self.save() {
            tracing::warn!(
                "cannot write {}: {error}; a node that dies now may need its log read twice",
                self.0.state.display()
            );
        }
    }

    fn save(&self) -> std::io::Result<()> {
        let known = self.0.known.borrow().clone();
        let bytes = serde_json::to_vec_pretty(&known)?;
        let new = self.0.state.with_extension("new");
        let mut file = fs::File::create(&new)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&new, &self.0.state)
    }
}

/// What the registry says that makes it worth asking.
fn told(view: &ServiceView, shard: &ShardName) -> impl PartialEq + use<> {
    let node = view.nodes.get(shard).map(|node| (node.pid, node.role, node.epoch));
    (view.record.as_ref().map(|(_, revision)| *revision), node)
}
