//! What a directory that came from elsewhere becomes.

use keyspace::Hlc;
use serde::{Deserialize, Serialize};
use topology::{Epoch, ShardName};
use wal::{Chain, Position, Sequence};

/// The file `ADOPT` in a database directory that came from elsewhere, and the argument of
/// `GODWIT.SEED`: the node-local state to install in place of all that came with the directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Adopt {
    /// The format of this file: 1.
    pub format: u32,
    /// What it goes on with; none for a restored directory that follows nobody: a node without a
    /// service serves it, a node of a service may only be seeded over it or begin a new service.
    pub follow: Option<Follow>,
    /// No stamp in the directory is above this one: new stamps start there.
    pub stamp: Hlc,
}

/// A stream to follow, and from where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Follow {
    /// Whose log.
    pub source: ShardName,
    /// The position of the data, on the source's timeline.
    pub position: Position,
    /// The chain of the source's log there.
    pub log_chain: Chain,
    /// The chain of the stream there.
    pub stream_chain: Chain,
    /// The epoch of the source.
    pub epoch: Epoch,
    /// The node is *seeding* until it has applied this far.
    pub until: Sequence,
}

impl Adopt {
    /// The format that this version writes.
    pub const FORMAT: u32 = 1;
    /// The name of the file in a database directory.
    pub const FILE: &str = "ADOPT";
    /// The longest file that is read, in bytes.
    pub const BYTES_MAX: u64 = 64 << 10;

    /// The state of a directory that begins to follow.
    pub fn following(follow: Follow, stamp: Hlc) -> Self {
        Self { format: Self::FORMAT, follow: Some(follow), stamp }
    }

    /// Reads the file's bytes, in words if they are none.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let adopt: Self = serde_json::from_slice(bytes)
            .map_err(|why| format!("the state to adopt cannot be read: {why}"))?;
        if adopt.format != Self::FORMAT {
            return Err(format!(
                "the state to adopt has format {}; this version knows format {}: upgrade this \
                 program",
                adopt.format,
                Self::FORMAT
            ));
        }
        Ok(adopt)
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("numbers, names and positions have a JSON form")
    }
}
