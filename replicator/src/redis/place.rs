//! A place in a Redis's stream: whose history, how many bytes of it, in which database.

use std::fmt;
use std::str::FromStr;

/// A history's name: forty hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplId(String);

impl ReplId {
    /// How many digits.
    pub const LEN: usize = 40;

    /// The id that this text is.
    pub fn parse(text: &str) -> Option<Self> {
        let good = text.len() == Self::LEN && text.bytes().all(|b| b.is_ascii_hexdigit());
        good.then(|| Self(text.to_owned()))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReplId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The end of a command in a Redis's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The history.
    pub id: ReplId,
    /// Its bytes up to there.
    pub offset: u64,
    /// The database that is selected there: the source does not say it again when it goes on.
    pub database: u64,
}

/// What a target says of itself under its position key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has begun to take in a snapshot, and is no copy of anything.
    Loading,
    /// It is what the source was there.
    At(Place),
    /// It has what the node's log touched up to there.
    Log(wal::Position),
}

/// A position key's value: `loading`, `at ID OFFSET DATABASE` or `log TIMELINE@SEQUENCE`.
impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loading => f.write_str("loading"),
            Self::Log(position) => write!(f, "log {position}"),
            Self::At(place) => write!(f, "at {} {} {}", place.id, place.offset, place.database),
        }
    }
}

/// A position key that holds something else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the position key holds `{0}`, which no sidecar writes: if the key is the application's, choose another with --position-key"
)]
pub struct StandingError(String);

impl FromStr for Standing {
    type Err = StandingError;

    fn from_str(text: &str) -> Result<Self, StandingError> {
        let words: Vec<&str> = text.split(' ').collect();
        let read = match words[..] {
            ["loading"] => Some(Self::Loading),
            ["log", position] => position.parse().ok().map(Self::Log),
            ["at", id, offset, database] => {
                let (offset, database) = (offset.parse().ok(), database.parse().ok());
                let place = ReplId::parse(id).zip(offset).zip(database);
                place.map(|((id, offset), database)| Self::At(Place { id, offset, database }))
            }
            _ => None,
        };
        read.ok_or_else(|| StandingError(text.chars().take(80).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let id = ReplId::parse(&"0123456789abcdef".repeat(3)[..40]).unwrap();
        let at = Standing::At(Place { id, offset: 77, database: 3 });
        let log = Standing::Log("00000000000000000000000000000007@9".parse().unwrap());
        for standing in [Standing::Loading, at, log] {
            assert_eq!(standing.to_string().parse(), Ok(standing));
        }
        for bad in ["", "at x 1 0", "mine", "loading now"] {
            assert!(bad.parse::<Standing>().is_err(), "{bad}");
        }
    }
}
