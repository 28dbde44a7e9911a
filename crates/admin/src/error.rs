//! Why a control command failed.

use crate::AddressError;

/// The first word of an error's answer: what a caller branches on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// A frame does not start where the node stands, or is on another timeline.
    Gap,
    /// A frame's epoch is below the stream's last, or below the record's.
    Stale,
    /// A frame that the node has already does not agree with what it has.
    Chain,
    /// The node's role does not allow it.
    Role,
    /// The bytes are damaged; nothing of them was used.
    Damaged,
    /// The digest is not finished.
    Pending,
    /// There is no digest or barrier of this id.
    Unknown,
    /// The log could not be written: the outcome is unknown until the node has reopened it.
    Io,
    /// The node is swapping its directory or shutting down: ask again.
    Busy,
    /// Who asks has not shown who it is, or is not believed.
    Auth,
    /// The node has swapped its database, or opened it again, since it was asked: ask again where it
    /// stands.
    Database,
    /// Anything else.
    Err,
}

impl Code {
    const ALL: [(Self, &str); 12] = [
        (Self::Gap, "GAP"),
        (Self::Stale, "STALE"),
        (Self::Chain, "CHAIN"),
        (Self::Role, "ROLE"),
        (Self::Damaged, "DAMAGED"),
        (Self::Pending, "PENDING"),
        (Self::Unknown, "UNKNOWN"),
        (Self::Io, "IOERR"),
        (Self::Busy, "BUSY"),
        (Self::Auth, "NOAUTH"),
        (Self::Database, "DATABASE"),
        (Self::Err, "ERR"),
    ];

    /// The word on the wire.
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(code, _)| *code == self).map_or("ERR", |(_, word)| word)
    }

    /// The code and the rest of an error's text.
    pub fn split(text: &str) -> (Self, &str) {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        match Self::ALL.iter().find(|(_, known)| *known == word) {
            Some((code, _)) => (*code, rest),
            None => (Self::Err, text),
        }
    }
}

/// Why a request to a node has no good answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is none.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// Who is there cannot be called as told.
    #[error("the node's admin listener at {address} cannot be called: {why}; nothing was asked")]
    Access {
        /// Its address.
        address: String,
        /// What is wrong.
        why: String,
    },
    /// Nobody listens there.
    #[error(
        "the node's admin listener at {address} cannot be reached: {why}; is the node running?"
    )]
    Unreachable {
        /// Its address.
        address: String,
        /// What happened.
        why: std::io::Error,
    },
    /// The connection ended before the answer: a request that was sent may have been carried out.
    #[error(
        "the connection to the node's admin listener at {address} ended: {why}; what was asked may have happened"
    )]
    Lost {
        /// Its address.
        address: String,
        /// What happened.
        why: String,
    },
    /// The node refused; nothing was changed unless the code is [`Code::Io`].
    #[error("the node refused: {message}")]
    Refused {
        /// What to branch on.
        code: Code,
        /// The sentence.
        message: String,
    },
    /// An answer of another shape than the request's.
    #[error(
        "the node's answer to {request} cannot be read: {why}; are node and client of one version?"
    )]
    Answer {
        /// The request.
        request: &'static str,
        /// What is wrong.
        why: String,
    },
}

impl Error {
    /// The code, if the node refused.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_read_back() {
        for (code, word) in Code::ALL {
            assert_eq!(Code::split(&format!("{word} a reason")), (code, "a reason"));
            assert_eq!(code.word(), word);
        }
        assert_eq!(Code::split("WRONGTYPE x"), (Code::Err, "WRONGTYPE x"));
    }
}
