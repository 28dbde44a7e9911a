//! Giving back what was stranded: entries of a ledger, written by the new primary under new stamps.

use keyspace::Hlc;
use serde::{Deserialize, Serialize};
use wal::Position;

/// What decides whether an entry is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReplayMode {
    /// The key has no stamp past the fork.
    IfUnchanged,
    /// The entry's stamp is above the key's.
    NewestWins,
}

impl ReplayMode {
    /// Its word on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::IfUnchanged => "IF-UNCHANGED",
            Self::NewestWins => "NEWEST-WINS",
        }
    }

    pub(crate) fn of(word: &[u8]) -> Option<Self> {
        let known = [Self::IfUnchanged, Self::NewestWins];
        known.into_iter().find(|mode| word.eq_ignore_ascii_case(mode.word().as_bytes()))
    }
}

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayEntry<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The stamp of the last stranded batch that touched it.
    pub stamp: Hlc,
    /// A RocksDB write batch that puts its records; empty: it was deleted.
    pub records: &'a [u8],
}

/// `GODWIT.REPLAY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay<'a> {
    /// What decides.
    pub mode: ReplayMode,
    /// Only say what would be done.
    pub dry: bool,
    /// What was written up to the fork has no stamp above this.
    pub fork: Hlc,
    /// The entries.
    pub entries: Vec<ReplayEntry<'a>>,
}

/// What came of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The key has the entry's value now, and had another.
    Replaced,
    /// The key has the entry's value now, and was not there.
    Created,
    /// The key is gone now, as the entry says.
    Deleted,
    /// The key had the entry's value already: of an earlier replay, or by chance.
    Same,
    /// Skipped: the key was written past the fork.
    Changed,
    /// Skipped: the key was written later than the entry.
    Newer,
    /// Skipped: the entry's value has expired since.
    Expired,
}

/// The answer of `GODWIT.REPLAY`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Replayed {
    /// The end of the log after it.
    pub position: Position,
    /// What came of each entry, in their order.
    pub outcomes: Vec<Outcome>,
}
