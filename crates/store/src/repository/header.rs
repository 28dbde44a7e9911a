//! The header: what a repository is.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{Keys, text};
use crate::bucket::Bucket;
use crate::{ObjectId, StoreError};

/// Its name.
pub const NAME: &str = "GODWIT-STORE";
/// The format that this version reads and writes.
pub const FORMAT: u32 = 2;
/// The time between marking and deleting, if nothing else is said.
pub const GRACE_DEFAULT: Duration = Duration::from_secs(24 * 3600);
/// A header is short.
const BYTES_MAX: u64 = 4 << 10;
/// How the marker of the first format began.
const FORMAT_1: &[u8] = b"godwit-store format 1";

/// What a repository says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Header {
    /// The format: 2.
    pub format: u32,
    /// A random id, 32 hexadecimal digits.
    pub id: String,
    /// When it was made: milliseconds since 1970, UTC.
    pub created_at: u64,
    /// Seconds between marking and deleting.
    pub grace_seconds: u64,
    /// Whether blobs are encrypted and names are keyed.
    pub encrypted: bool,
    /// The keyed hash of the id, by which a wrong naming key is told.
    pub key_check: Option<ObjectId>,
}

impl Header {
    pub(super) fn new(keys: &Keys, grace: Duration) -> Self {
        let id = format!("{:032x}", rand::random::<u128>());
        Self {
            format: FORMAT,
            created_at: unix_ms(),
            grace_seconds: grace.as_secs(),
            encrypted: keys.is_encrypting(),
            key_check: keys.is_encrypting().then(|| keys.id_of(id.as_bytes())),
            id,
        }
    }

    /// The time between marking and deleting.
    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.grace_seconds)
    }

    /// The header's keys are not known before it is read: its hash is a plain one.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        text::seal(&Keys::none(), NAME, self)
    }

    pub(super) async fn read(bucket: &Bucket) -> Result<Option<Self>, StoreError> {
        let Some(bytes) = bucket.get(NAME, BYTES_MAX).await? else { return Ok(None) };
        let refused = |why: &str| Err(StoreError::NoRepository { why: why.to_owned() });
        if bytes.starts_with(FORMAT_1) {
            return refused(
                "it is a directory of snapshots in format 1, which an archive cannot share: give another one",
            );
        }
        let header: Self = text::open(&Keys::none(), NAME, &bytes)?;
        if header.format != FORMAT {
            return refused(&format!(
                "it has format {}, and this version knows format {FORMAT}: use the version that wrote it, \
                 or a newer one",
                header.format
            ));
        }
        Ok(Some(header))
    }

    pub(super) fn check_keys(&self, keys: &Keys) -> Result<(), StoreError> {
        let why = match (self.key_check, keys.is_encrypting()) {
            (None, false) => return Ok(()),
            (Some(check), true) if check == keys.id_of(self.id.as_bytes()) => return Ok(()),
            (Some(_), true) => "it is encrypted with other keys than those of the key file",
            (Some(_), false) => "it is encrypted: name the key file",
            (None, true) => {
                "it is not encrypted, and a key file was named: make a new one, or leave the key file out"
            }
        };
        Err(StoreError::NoRepository { why: why.to_owned() })
    }
}

/// Milliseconds since 1970, UTC.
pub(super) fn unix_ms() -> u64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
