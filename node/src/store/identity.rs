//! `db/GODWIT`: whose database a directory is.

use std::path::Path;

use serde::{Deserialize, Serialize};
use topology::ShardName;

use super::dir::{DirError, read_bounded, write_synced};

/// The file's content, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Identity {
    /// The format of the directory.
    pub format: u32,
    /// Random, 32 hexadecimal digits; a directory that was swapped in gets a new one.
    pub database: String,
    /// The service that it belongs to.
    pub service: Option<String>,
    /// The shard that it is.
    pub shard: Option<ShardName>,
}

/// Enough to find out that a later version wrote it.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

impl Identity {
    /// The format that this version writes.
    pub const FORMAT: u32 = 1;
    /// The name of the file in a database directory.
    pub const FILE: &str = "GODWIT";
    const BYTES_MAX: u64 = 64 << 10;

    /// Of a new database.
    pub fn new(owner: Option<&(String, ShardName)>) -> Self {
        let (service, shard) = owner.cloned().unzip();
        let database = format!("{:032x}", rand::random::<u128>());
        Self { format: Self::FORMAT, database, service, shard }
    }

    /// Reads the file of a database directory; `None` where there is none.
    pub(super) fn read(db: &Path) -> Result<Option<Self>, DirError> {
        let path = db.join(Self::FILE);
        let Some(bytes) = read_bounded(&path, Self::BYTES_MAX)? else { return Ok(None) };
        let damaged = |why: serde_json::Error| DirError::Damaged {
            path: path.display().to_string(),
            why: why.to_string(),
        };
        let Format { format } = serde_json::from_slice::<serde_json::Value>(&bytes)
            .and_then(Format::deserialize_value)
            .map_err(damaged)?;
        if format != Self::FORMAT {
            return Err(DirError::Format { db: db.display().to_string(), format });
        }
        serde_json::from_slice(&bytes).map(Some).map_err(damaged)
    }

    /// Writes the file, synced.
    pub(super) fn write(&self, db: &Path) -> Result<(), DirError> {
        let bytes = serde_json::to_vec_pretty(self).expect("names and numbers have a JSON form");
        write_synced(&db.join(Self::FILE), &bytes)
    }

    /// In words, why `owner` may not use this database.
    pub(super) fn check(&self, owner: Option<&(String, ShardName)>) -> Result<(), String> {
        match (owner, &self.service, &self.shard) {
            (None, None, _) => Ok(()),
            (Some((service, shard)), Some(own), Some(as_shard)) => {
                if own != service {
                    Err(format!(
                        "it belongs to service `{own}`, and this node was started for `{service}`"
                    ))
                } else if as_shard != shard {
                    Err(format!(
                        "it is shard {as_shard} of service `{own}`, and this node was started as {shard}"
                    ))
                } else {
                    Ok(())
                }
            }
            (None, Some(own), _) => Err(format!(
                "it belongs to service `{own}` and may have been superseded there: start the node \
                 with --registry, --service, --cluster and --shard, or use another directory"
            )),
            (Some((service, _)), None, _) => Err(format!(
                "it was written without a service, and this node was started for `{service}`: use \
                 an empty directory and let it be seeded"
            )),
            (Some(_), Some(own), None) => {
                Err(format!("it belongs to service `{own}` and names no shard: it is damaged"))
            }
        }
    }
}

impl Format {
    fn deserialize_value(value: serde_json::Value) -> Result<Self, serde_json::Error> {
        serde_json::from_value(value)
    }
}

/// Makes a directory that came from elsewhere ready to be the node's: its own name, and what it is
/// to adopt at its next open.
pub fn prepare_seed(
    path: &Path,
    identity: &Identity,
    adopt: &admin::Adopt,
) -> Result<(), DirError> {
    write_synced(&path.join(admin::Adopt::FILE), &adopt.to_bytes())?;
    identity.write(path)
}
