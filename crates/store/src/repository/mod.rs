//! What a store holds: the archive of logs, and the snapshots of clusters, in one format.
//!
//! ```text
//! GODWIT-STORE                                    the header
//! objects/<2 hex>/<hash>                          pieces of files, named by what is in them
//! archive/<service>/<cluster>-<n>/chain/<number>  what was archived of a shard, page by page
//! archive/.../bases, segments, marks              checkpoints, the log, what is known of them
//! snapshots/...                                   sealed sets of checkpoints
//! locks/<name>/<number>                           who does what only one may do
//! gc/...                                          what may be deleted, and who does it
//! ```
//!
//! Nothing but `gc/marks` is ever overwritten, and what names something is written after it. Nothing
//! but gc lists anything, and nothing but gc deletes. The layout is specified in `docs/formats.md`,
//! "Repositories"; everything read is untrusted.
//!
//! Start with [`Repository`]; then [`piece`] (files), [`chain`] (lists that grow), [`archive`] (what a
//! sidecar writes), [`plan`] (how a moment is restored), [`follow`] (reading on while somebody writes),
//! [`retain`], [`thin`] and [`gc`] (what goes).

pub mod archive;
pub mod blob;
pub mod chain;
pub mod cipher;
mod damage;
pub mod follow;
mod frames;
pub mod gc;
pub mod header;
pub mod keys;
pub mod lock;
pub mod manifest;
pub mod piece;
pub mod plan;
mod reading;
pub mod retain;
pub mod snapshots;
mod text;
pub mod thin;

use std::sync::Arc;
use std::time::Duration;

pub use archive::{Archive, ArchiveName, Base, Record, Segment};
pub use blob::{Packed, What};
pub use chain::Chain;
pub use damage::Damage;
pub use follow::Followed;
pub use frames::Frames;
pub use header::Header;
pub use keys::Keys;
pub use lock::Lock;
pub use manifest::{FileEntry, LogSegment, Manifest};
pub use piece::{PIECE_BYTES, Piece};
pub use plan::{Missing, Plan, Step, Target};
pub use retain::Keep;
pub use snapshots::{Snapshot, Snapshots, State};
pub use thin::Policy;

use crate::bucket::{Bucket, Put};
use crate::{ObjectId, StoreError};

/// An open repository. Cheap to clone; several processes may use one at once.
#[derive(Clone, Debug)]
pub struct Repository {
    bucket: Bucket,
    header: Arc<Header>,
    keys: Arc<Keys>,
}

impl Repository {
    /// Opens a repository to read.
    ///
    /// # Errors
    /// There is none, it has another format, or it is encrypted with other keys.
    pub async fn open(bucket: Bucket, keys: Keys) -> Result<Self, StoreError> {
        let header = Header::read(&bucket).await?.ok_or_else(|| StoreError::NoRepository {
            why: format!("there is no object {}", header::NAME),
        })?;
        header.check_keys(&keys)?;
        Ok(Self { bucket, header: Arc::new(header), keys: Arc::new(keys) })
    }

    /// Opens a repository to write, or makes one where there is none; `grace` is then the time between
    /// marking and deleting. A store that does not honour conditions is refused: it is asked to write
    /// the header again, which it must not do.
    ///
    /// # Errors
    /// As [`Repository::open`]; and the store overwrites where it must not.
    pub async fn create(bucket: Bucket, keys: Keys, grace: Duration) -> Result<Self, StoreError> {
        if Header::read(&bucket).await?.is_none() {
            // Whoever makes it first has made it for all.
            bucket.put_new(header::NAME, Header::new(&keys, grace).to_bytes()).await?;
        }
        let repository = Self::open(bucket, keys).await?;
        repository.probe().await?;
        Ok(repository)
    }

    /// Puts the header that is there once more: only a refusal proves that nothing is overwritten.
    async fn probe(&self) -> Result<(), StoreError> {
        match self.bucket.put_new(header::NAME, self.header.to_bytes()).await? {
            Put::Exists => Ok(()),
            Put::New => Err(StoreError::NoRepository {
                why: "the store overwrites objects although it is asked not to (If-None-Match: * is \
                      ignored), so two writers could destroy each other's records: use another store, \
                      or a version of this one that knows conditional writes"
                    .to_owned(),
            }),
        }
    }

    /// What it says of itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Where its objects are.
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// Its keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The name by which these bytes go here: their hash, keyed where it is encrypted.
    pub fn id_of(&self, bytes: &[u8]) -> ObjectId {
        self.keys.id_of(bytes)
    }
}
