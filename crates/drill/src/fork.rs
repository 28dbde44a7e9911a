//! A fork of one standby: hard links to its files, in a directory that a node of its own can open.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use admin::Client;
use anyhow::Context;
use serde_json::json;
use topology::ShardName;

use crate::process::private_dir;

/// How long a checkpoint may take, which may have to flush.
const CHECKPOINT_WAIT: Duration = Duration::from_secs(120);

/// What the forked node says, in its directory.
pub(crate) const LOG: &str = "node.log";
/// What a node locks in its directory while it runs.
pub(crate) const NODE_LOCK: &str = "LOCK";
/// The file of a forked node's users, in its directory.
const USERS: &str = "users.acl";

/// A forked shard.
#[derive(Debug)]
pub struct Fork {
    /// The shard.
    pub shard: ShardName,
    /// The forked node's directory.
    pub dir: PathBuf,
    /// What the forked node says.
    pub log: PathBuf,
    /// The stamp of the oldest of the last batches that it has of its sources, in milliseconds.
    pub stamp_ms: u64,
}

impl Fork {
    /// Has a standby make a checkpoint of this name, which the node knows as a drill's by `drill-`, and makes a
    /// node's directory of it, beside it on the same volume.
    ///
    /// # Errors
    /// There is no checkpoint, or it cannot be read and linked from here: nothing of it is left then.
    pub async fn of(
        shard: &ShardName,
        client: &Client,
        name: &str,
        service: &str,
    ) -> anyhow::Result<Self> {
        let made = tokio::time::timeout(CHECKPOINT_WAIT, client.checkpoint(name)).await;
        let made = made
            .map_err(|_| anyhow::anyhow!("no checkpoint of {shard} within {CHECKPOINT_WAIT:?}"))?
            .with_context(|| format!("a checkpoint of {shard}"))?;
        match Self::lay_out(shard, &made.path, service, &made.database) {
            Ok((dir, log)) => {
                let stamps = made.applied.values().map(|applied| applied.stamp.ms());
                Ok(Self { shard: shard.clone(), dir, log, stamp_ms: stamps.min().unwrap_or(0) })
            }
            Err(why) => {
                // The first error is the one to tell.
                let _ = client.drop_checkpoint(name).await;
                Err(why)
            }
        }
    }

    fn lay_out(
        shard: &ShardName,
        checkpoint: &Path,
        service: &str,
        database: &str,
    ) -> anyhow::Result<(PathBuf, PathBuf)> {
        anyhow::ensure!(
            checkpoint.join("CURRENT").is_file(),
            "the checkpoint {} of {shard} is not on this machine, or may not be read by this user",
            checkpoint.display()
        );
        let mut name = checkpoint.file_name().unwrap_or_default().to_os_string();
        name.push("-node");
        let dir = checkpoint.with_file_name(name);
        let laid = (|| {
            private_dir(&dir)?;
            std::fs::rename(checkpoint, dir.join("db"))?;
            // docs/formats.md, "Files of a node's directory". Another id: no spool takes it for the standby.
            let mut id: String = database.chars().rev().collect();
            if id == database {
                id = "0".repeat(database.len());
            }
            let identity = json!({"format": 1, "database": id, "service": service, "shard": shard});
            std::fs::write(dir.join("db/GODWIT"), identity.to_string())
        })();
        if let Err(why) = laid {
            // What there is of it is a few links.
            let _ = std::fs::remove_dir_all(&dir);
            let dir = dir.display().to_string();
            return Err(
                anyhow::Error::new(why).context(format!("cannot make the fork {dir} as this user"))
            );
        }
        let log = dir.join(LOG);
        Ok((dir, log))
    }

    /// Lets nobody into the forked node but who knows this password; otherwise it lets in everybody who
    /// reaches its port.
    ///
    /// # Errors
    /// The file of its users cannot be written.
    pub fn close(&self, password: &str) -> std::io::Result<()> {
        let line = format!("user default on >{password} ~* &* +@all\n");
        let mut file = std::fs::File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.dir.join(USERS))?;
        file.write_all(line.as_bytes())
    }

    /// How its node is started.
    pub fn arguments(&self, registry: &str, service: &str, memory: &str) -> Vec<String> {
        let number = self.shard.shard.to_string();
        let dir = self.dir.display().to_string();
        let admin = format!("unix:{}", self.dir.join("admin.sock").display());
        let args = [
            "--dir",
            &dir,
            "--listen",
            "127.0.0.1:0",
            "--admin",
            &admin,
            "--registry",
            registry,
            "--service",
            service,
            "--cluster",
            &self.shard.cluster,
            "--shard",
            &number,
            "--memory",
            memory,
            // Nobody's password is known here, and nobody else connects.
            "--users",
            "file",
        ];
        args.map(str::to_owned).into()
    }
}
