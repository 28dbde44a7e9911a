//! Who is where: kept in `state.json` to be read by the next command, and shown in `clouds.json` in
//! the shape that others script against.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::process::Process;

/// Both clouds.
#[derive(Debug, Serialize, Deserialize)]
pub struct Layout {
    /// Where everything lies.
    pub dir: PathBuf,
    /// The registry's address.
    pub registry: String,
    /// The service's name.
    pub service: String,
    /// The clouds.
    pub clouds: Vec<Cloud>,
}

/// A cloud.
#[derive(Debug, Serialize, Deserialize)]
pub struct Cloud {
    /// The cluster's name.
    pub name: String,
    /// Its proxies.
    pub proxies: Vec<Proxy>,
    /// Its shards, by number.
    pub shards: Vec<Shard>,
}

/// A proxy.
#[derive(Debug, Serialize, Deserialize)]
pub struct Proxy {
    /// Where clients connect.
    pub client: String,
    /// Where metrics are.
    pub metrics: String,
    /// The process.
    pub process: Process,
}

/// A shard: a node and its sidecar.
#[derive(Debug, Serialize, Deserialize)]
pub struct Shard {
    /// `a/0`.
    pub name: String,
    /// Its slots, as text.
    pub slots: String,
    /// The node.
    pub node: Node,
    /// The sidecar.
    pub sidecar: Sidecar,
}

/// A node.
#[derive(Debug, Serialize, Deserialize)]
pub struct Node {
    /// Where it listens for clients.
    pub client: String,
    /// Where control commands go.
    pub admin: String,
    /// Where metrics are.
    pub metrics: String,
    /// Its directory.
    pub dir: PathBuf,
    /// The process.
    pub process: Process,
}

/// A sidecar.
#[derive(Debug, Serialize, Deserialize)]
pub struct Sidecar {
    /// Where it listens for other sidecars.
    pub stream: String,
    /// Where metrics are.
    pub metrics: String,
    /// The process.
    pub process: Process,
}

impl Layout {
    /// The promised shape.
    pub fn to_clouds_json(&self) -> Value {
        let clouds = self.clouds.iter().map(|cloud| {
            let proxies = cloud
                .proxies
                .iter()
                .map(|p| json!({"client": p.client, "metrics": p.metrics, "pid": p.process.pid()}));
            let shards = cloud.shards.iter().map(|s| {
                json!({
                    "slots": s.slots,
                    "node": {
                        "client": s.node.client,
                        "admin": s.node.admin,
                        "metrics": s.node.metrics,
                        "pid": s.node.process.pid(),
                        "dir": s.node.dir,
                    },
                    "sidecar": {"metrics": s.sidecar.metrics, "pid": s.sidecar.process.pid()},
                })
            });
            json!({
                "name": cloud.name,
                "proxies": proxies.collect::<Vec<_>>(),
                "shards": shards.collect::<Vec<_>>(),
            })
        });
        json!({
            "registry": self.registry,
            "service": self.service,
            "clouds": clouds.collect::<Vec<_>>(),
        })
    }

    /// Writes both files into the directory.
    pub fn save(&self) -> Result<()> {
        let clouds = serde_json::to_string_pretty(&self.to_clouds_json())?;
        let state = serde_json::to_string_pretty(self)?;
        for (name, text) in [("clouds.json", clouds), ("state.json", state)] {
            let path = self.dir.join(name);
            let new = self.dir.join(format!("{name}.new"));
            fs::write(&new, text + "\n")
                .with_context(|| format!("cannot write {}", new.display()))?;
            fs::rename(&new, &path).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    /// Reads what [`Self::save`] wrote; `None` if nothing was brought up there.
    pub fn load(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join("state.json");
        let Ok(text) = fs::read_to_string(&path) else { return Ok(None) };
        let layout = serde_json::from_str(&text);
        layout.map(Some).with_context(|| format!("{} is damaged", path.display()))
    }

    /// Writes down that nothing runs any more: `clouds.json` goes, and what is needed to bring the
    /// same clouds up again stays.
    pub fn save_ended(&self) -> Result<()> {
        self.save()?;
        let path = self.dir.join("clouds.json");
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))
    }

    /// Every process, in the order to start them.
    pub fn processes_mut(&mut self) -> impl Iterator<Item = &mut Process> {
        self.clouds.iter_mut().flat_map(Cloud::processes_mut)
    }

    /// Every process.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        self.clouds.iter().flat_map(|cloud| {
            let shards = cloud.shards.iter().flat_map(|s| [&s.node.process, &s.sidecar.process]);
            shards.chain(cloud.proxies.iter().map(|p| &p.process))
        })
    }
}

impl Cloud {
    /// Its processes: nodes and sidecars, then proxies.
    pub fn processes_mut(&mut self) -> impl Iterator<Item = &mut Process> {
        let shards =
            self.shards.iter_mut().flat_map(|s| [&mut s.node.process, &mut s.sidecar.process]);
        shards.chain(self.proxies.iter_mut().map(|p| &mut p.process))
    }
}
