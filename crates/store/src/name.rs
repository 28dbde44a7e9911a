//! The names in a store. Each is checked when it is read, so that none can leave the directory.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// The BLAKE3 hash of an object's uncompressed bytes: its name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ObjectId(pub [u8; 32]);

/// The name of a file of a checkpoint: letters, digits, `.`, `_` and `-`; no path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct FileName(String);

/// The id of a snapshot: when it was begun, UTC, and four random bytes, so that ids sort by time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct SnapshotId(String);

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no {1}")]
pub struct ParseNameError(String, &'static str);

/// The longest name that a file system takes.
const NAME_BYTES_MAX: usize = 255;

/// Printed shortened, so that a hostile name does not fill a log.
fn refuse(text: &str, kind: &'static str) -> ParseNameError {
    ParseNameError(text.chars().take(80).collect::<String>().escape_debug().to_string(), kind)
}

fn is_plain(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    !text.is_empty()
        && text.len() <= NAME_BYTES_MAX
        && !text.starts_with('.')
        && text.bytes().all(allowed)
}

impl ObjectId {
    /// The name of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ObjectId {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || refuse(text, "hash: 64 lower-case hexadecimal digits");
        let digit = |b: u8| char::from(b).to_digit(16).filter(|_| !b.is_ascii_uppercase());
        if text.len() != 64 {
            return Err(error());
        }
        let mut id = [0; 32];
        for (byte, pair) in id.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let (high, low) = digit(pair[0]).zip(digit(pair[1])).ok_or_else(error)?;
            *byte = u8::try_from(high << 4 | low).map_err(|_| error())?;
        }
        Ok(Self(id))
    }
}

impl FileName {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for FileName {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if is_plain(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(refuse(text, "name of a file: letters, digits, `.`, `_` and `-`, no path"))
        }
    }
}

impl SnapshotId {
    /// The id of a snapshot that begins at this time.
    pub fn new(now: SystemTime, random: u32) -> Self {
        // 2026-11-21T22:51:03Z -> 20261121T225103Z
        let time = humantime::format_rfc3339_seconds(now).to_string();
        let time: String = time.chars().filter(|c| !matches!(c, '-' | ':')).collect();
        Self(format!("{time}-{random:08x}"))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SnapshotId {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if is_plain(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(refuse(text, "snapshot id: write one that `godwit-snapshotter list` shows"))
        }
    }
}

macro_rules! as_text {
    ($($name:ty),*) => {$(
        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.to_string()
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseNameError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }
    )*};
}

as_text!(ObjectId, FileName, SnapshotId);

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn names_cannot_leave_their_directory() {
        for good in ["CURRENT", "MANIFEST-000005", "000012.sst", "OPTIONS-000007"] {
            assert_eq!(good.parse::<FileName>().unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "../x", "/etc/passwd", "a/b", "a\\b", ".hidden", "a\0b", "é"] {
            assert!(bad.parse::<FileName>().is_err(), "{bad}");
            assert!(bad.parse::<SnapshotId>().is_err(), "{bad}");
        }
        assert!("x".repeat(256).parse::<FileName>().is_err());
    }

    #[test]
    fn hashes_read_back_as_they_print() {
        let id = ObjectId::of(b"godwit");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!(id.to_string().to_uppercase().parse::<ObjectId>().is_err());
        assert!("é".repeat(32).parse::<ObjectId>().is_err());
    }

    #[test]
    fn ids_say_when() {
        let at = UNIX_EPOCH + Duration::from_secs(1_795_000_000);
        assert_eq!(SnapshotId::new(at, 0xbeef).as_str(), "20261118T110640Z-0000beef");
    }
}
