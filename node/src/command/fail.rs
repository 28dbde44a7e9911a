//! Why a command has no answer but an error, in Redis's own texts.

use std::borrow::Cow;

use keyspace::DecodeError;

use crate::control::Refusal;
use crate::worker::Until;

/// An error that a client gets.
#[derive(Debug)]
pub enum Fail {
    /// The key holds another type.
    WrongType,
    /// Not an integer, or out of the range of 64 bits.
    NotInteger,
    /// Not a number.
    NotFloat,
    /// Options that do not fit.
    Syntax,
    /// The key is not there, where it has to be.
    NoKey,
    /// Below zero, where only zero and more make sense.
    NotPositive,
    /// An index outside of the list.
    Index,
    /// Another text of Redis's, with its code.
    Text(Cow<'static, str>),
    /// A script ended with this error; whether it was counted when a command of the script failed.
    Script(String, bool),
    /// This node may not run it now; it did not run.
    Refused(Refusal),
    /// A record in the database that cannot be read.
    Record(DecodeError),
    /// RocksDB could not read.
    Read(rocksdb::Error),
    /// It found nothing and waits: no error, and nothing is answered yet.
    Wait(Box<Until>),
    /// A script touched a key of a worker that does not wait for it: it is to run while all wait.
    NeedsAll,
    /// It is not known whether a write is in the log: the connection is closed without an answer.
    Lost,
}

impl Fail {
    /// An error of this text.
    pub fn text(text: impl Into<Cow<'static, str>>) -> Self {
        Self::Text(text.into())
    }

    /// The line to send, without `-`.
    pub fn line(&self) -> Cow<'_, str> {
        Cow::Borrowed(match self {
            Self::WrongType => "WRONGTYPE Operation against a key holding the wrong kind of value",
            Self::NotInteger => "ERR value is not an integer or out of range",
            Self::NotFloat => "ERR value is not a valid float",
            Self::Syntax => "ERR syntax error",
            Self::NoKey => "ERR no such key",
            Self::NotPositive => "ERR value is out of range, must be positive",
            Self::Index => "ERR index out of range",
            Self::Text(text) => text,
            Self::Script(text, _) => text,
            Self::Refused(refusal) => return Cow::Owned(refusal.to_string()),
            Self::Record(error) => {
                return Cow::Owned(format!(
                    "ERR cannot read this key: {error}; nothing was changed"
                ));
            }
            Self::Read(error) => {
                return Cow::Owned(format!(
                    "ERR the database could not read this key: {error}; nothing was changed"
                ));
            }
            Self::Wait(_) => "ERR this command cannot wait here",
            Self::NeedsAll => "ERR this script needs more workers than wait for it",
            Self::Lost => "ERR outcome unknown",
        })
    }
}

impl From<rocksdb::Error> for Fail {
    fn from(error: rocksdb::Error) -> Self {
        Self::Read(error)
    }
}

impl From<DecodeError> for Fail {
    fn from(error: DecodeError) -> Self {
        Self::Record(error)
    }
}

impl From<Refusal> for Fail {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}
