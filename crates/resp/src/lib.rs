//! The Redis protocol, both directions, as slices: bytes in, ranges and values out. No sockets.
//!
//! Servers read commands with [`command::Parser`] (or [`command::parse`]) and answer through
//! [`reply::Writer`], which speaks RESP2 or RESP3. Clients write commands with [`command::write`]
//! and read answers as [`reply::Reply`]. A proxy only finds where a reply ends
//! ([`reply::Scanner`]) and passes the bytes on.
//!
//! Nothing here allocates by a number that a peer sent, and nothing panics on any bytes. The
//! protocol and its error texts are those of redis-server 7
//! (<https://redis.io/docs/latest/develop/reference/protocol-spec/>, `networking.c`).

#![forbid(unsafe_code)]

pub mod command;
pub mod reply;

mod error;
mod number;

pub use error::ProtocolError;
pub use number::integer;

/// Which version of the protocol a connection speaks; `HELLO` changes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    /// RESP2, what every connection begins with.
    #[default]
    V2,
    /// RESP3: maps, sets, doubles, booleans, push messages.
    V3,
}

impl Version {
    /// Its number: 2 or 3.
    pub const fn number(self) -> i64 {
        match self {
            Self::V2 => 2,
            Self::V3 => 3,
        }
    }
}
