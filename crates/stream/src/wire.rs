//! Packets: the framing of everything that sidecars send each other.
//!
//! ```text
//! magic "GS" | version u8 | kind u8 | length u32 LE | crc32c u32 LE of the 8 bytes before and the body | body
//! ```

use bytes::{Buf, Bytes, BytesMut};

/// A packet's first two bytes.
pub const MAGIC: [u8; 2] = *b"GS";
/// The version of this framing, and of the layout of the two first messages: neither ever changes.
/// What else is said has [versions](crate::message::Versions) of its own, on which those two agree.
pub const VERSION: u8 = 1;
/// Bytes of a packet before its body.
pub const HEADER: usize = 12;
/// The longest body of a raw packet: the greatest frame with its header, or exported records. One
/// batch is never split.
pub const BODY_MAX: u32 = (wal::frame::MAX_FRAME + (1 << 20)) as u32;

/// Kind of a packet whose body is a [`crate::Message`].
pub const MESSAGE: u8 = 1;
/// Kind of a packet whose body is a frame (`wal::frame`).
pub const FRAME: u8 = 2;
/// Kind of a packet whose body is a piece of a file: index u32 LE, offset u64 LE, bytes.
pub const CHUNK: u8 = 3;
/// Kind of a packet with exported records: timeline u128 LE, sequence u64 LE, a write batch.
pub const EXPORTED: u8 = 4;
/// Kinds from here on belong to [exports](crate::export).
pub const EXPORT: u8 = 64;

/// One packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// What the body is.
    pub kind: u8,
    /// The body, checked against its checksum.
    pub body: Bytes,
}

/// Why a conversation cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The other end does not speak this protocol.
    #[error(
        "the peer does not speak Godwit's stream protocol: is it the listener of a replicator?"
    )]
    Foreign,
    /// It speaks a version that this program does not know.
    #[error(
        "the peer frames packets in version {0}, this program in version {VERSION}: is it the listener of a replicator?"
    )]
    Version(u8),
    /// A length beyond its bound.
    #[error("a packet of {length} bytes is longer than {limit}")]
    TooLong {
        /// What was announced.
        length: u64,
        /// The bound.
        limit: u64,
    },
    /// The bytes were changed on the way.
    #[error(
        "a packet's checksum does not match: it was damaged on the way; nothing of it was used"
    )]
    Checksum,
    /// The body is no message of this version.
    #[error("a message that cannot be read: {0}")]
    Message(String),
    /// Something came that has no place here.
    #[error("the peer sent {got} where {want} was expected")]
    Unexpected {
        /// What came.
        got: String,
        /// What has a place.
        want: &'static str,
    },
    /// The peer said no, and why.
    #[error("the peer refused: {0}")]
    Refused(String),
    /// The peer waits for something itself, and for what.
    #[error("the peer is not ready: {0}")]
    NotYet(String),
    /// The connection ended in the middle of a packet or of a conversation.
    #[error("the peer closed the connection")]
    Closed,
    /// Nothing moved for too long.
    #[error("the peer did not {0} within {1:?}")]
    Deadline(&'static str, std::time::Duration),
    /// The socket failed.
    #[error("the connection failed: {0}")]
    Io(#[from] std::io::Error),
}

/// The header of a packet with this body.
pub fn header(kind: u8, parts: &[&[u8]]) -> Result<[u8; HEADER], WireError> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let too_long = || WireError::TooLong { length: length as u64, limit: BODY_MAX.into() };
    let length = u32::try_from(length).ok().filter(|&l| l <= BODY_MAX).ok_or_else(too_long)?;
    let mut out = [0; HEADER];
    out[0..2].copy_from_slice(&MAGIC);
    out[2] = VERSION;
    out[3] = kind;
    out[4..8].copy_from_slice(&length.to_le_bytes());
    let crc =
        parts.iter().fold(crc32c::crc32c(&out[..8]), |crc, part| crc32c::crc32c_append(crc, part));
    out[8..12].copy_from_slice(&crc.to_le_bytes());
    Ok(out)
}

/// Takes the packet at the start of `buf`; `None` while it is not whole.
pub fn take(buf: &mut BytesMut) -> Result<Option<Packet>, WireError> {
    let Some(head) = buf.first_chunk::<HEADER>() else {
        let known = buf.len().min(2);
        return if buf[..known] == MAGIC[..known] { Ok(None) } else { Err(WireError::Foreign) };
    };
    if head[0..2] != MAGIC {
        return Err(WireError::Foreign);
    }
    if head[2] != VERSION {
        return Err(WireError::Version(head[2]));
    }
    let kind = head[3];
    let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
    let limit = if kind == MESSAGE { crate::codec::MESSAGE_MAX as u32 } else { BODY_MAX };
    if length > limit {
        return Err(WireError::TooLong { length: length.into(), limit: limit.into() });
    }
    let whole = HEADER + length as usize;
    if buf.len() < whole {
        return Ok(None);
    }
    let crc = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
    if crc32c::crc32c_append(crc32c::crc32c(&buf[..8]), &buf[HEADER..whole]) != crc {
        return Err(WireError::Checksum);
    }
    buf.advance(HEADER);
    Ok(Some(Packet { kind, body: buf.split_to(length as usize).freeze() }))
}
