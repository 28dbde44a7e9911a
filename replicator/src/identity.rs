//! Which database is in a directory: what the node wrote into `db/GODWIT`.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// A database's id: 32 hexadecimal digits. A directory that was swapped in has another one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DatabaseId(String);

impl DatabaseId {
    /// The id that this text is, if it is one; it becomes the name of a directory.
    pub fn parse(text: &str) -> Option<Self> {
        let good = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        good.then(|| Self(text.to_owned()))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DatabaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of the file.
pub const FILE: &str = "GODWIT";

/// What the sidecar needs of `db/GODWIT`; the node checks the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The database's id.
    pub database: DatabaseId,
}

#[derive(Deserialize)]
struct Fields {
    database: String,
}

impl Identity {
    /// The longest file that is read.
    const BYTES_MAX: u64 = 64 << 10;

    /// The identity of the database in `db`; `None` where there is none (yet).
    pub fn read(db: &Path) -> Option<Self> {
        let path = db.join(FILE);
        if std::fs::metadata(&path).ok()?.len() > Self::BYTES_MAX {
            return None;
        }
        let fields: Fields = serde_json::from_slice(&std::fs::read(&path).ok()?).ok()?;
        Some(Self { database: DatabaseId::parse(&fields.database)? })
    }
}
