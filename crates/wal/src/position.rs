//! Where something stands in a node's log.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One unbroken history of one node's log, named by a random id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct TimelineId(pub u128);

/// A RocksDB sequence number of one timeline.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Sequence(pub u64);

/// The end of a batch: the last sequence that it used, on the timeline that it belongs to.
///
/// Sequences can repeat after a power cut; a (timeline, sequence) cannot.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Position {
    /// The timeline.
    pub timeline: TimelineId,
    /// The last sequence of the batch.
    pub sequence: Sequence,
}

/// A running hash over the batches of a log or of a stream: equal chains, equal bytes.
///
/// `chain(n) = xxh3_64(chain(n-1) as 8 bytes little endian ++ batch n)`. A log's chain starts
/// afresh, at [`Chain::START`], with each log file, so that anyone who has the file can compute it;
/// a stream's starts at the position where the stream was seeded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Chain(pub u64);

impl Chain {
    /// The chain before the first batch.
    pub const START: Self = Self(0);

    /// The chain after one more batch.
    #[must_use]
    pub fn extend(self, batch: &[u8]) -> Self {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        hash.update(&self.0.to_le_bytes());
        hash.update(batch);
        Self(hash.digest())
    }
}

impl Sequence {
    /// The sequence `count` further on; `None` where the log would wrap.
    pub const fn advance(self, count: u64) -> Option<Self> {
        match self.0.checked_add(count) {
            Some(next) => Some(Self(next)),
            None => None,
        }
    }

    /// The sequence that the next batch must start with.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The end of what lies before a batch that starts here.
    #[must_use]
    pub const fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for TimelineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for TimelineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.timeline, self.sequence)
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is no timeline or position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no {1}")]
pub struct ParsePositionError(String, &'static str);

impl FromStr for TimelineId {
    type Err = ParsePositionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParsePositionError(text.to_owned(), "timeline: 32 hexadecimal digits");
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(error());
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_| error())
    }
}

impl FromStr for Position {
    type Err = ParsePositionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParsePositionError(text.to_owned(), "position: TIMELINE@SEQUENCE");
        let (timeline, sequence) = text.split_once('@').ok_or_else(error)?;
        Ok(Self {
            timeline: timeline.parse().map_err(|_| error())?,
            sequence: Sequence(sequence.parse().map_err(|_| error())?),
        })
    }
}

impl From<TimelineId> for String {
    fn from(id: TimelineId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for TimelineId {
    type Error = ParsePositionError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Position> for String {
    fn from(position: Position) -> Self {
        position.to_string()
    }
}

impl TryFrom<String> for Position {
    type Error = ParsePositionError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_read_back_as_they_print() {
        let position = Position { timeline: TimelineId(0xbeef), sequence: Sequence(42) };
        assert_eq!(position.to_string(), "0000000000000000000000000000beef@42");
        assert_eq!(position.to_string().parse(), Ok(position));
        for bad in ["", "beef@1", "0000000000000000000000000000beef@-1", "@", "x@1"] {
            assert!(bad.parse::<Position>().is_err(), "{bad}");
        }
    }
}
