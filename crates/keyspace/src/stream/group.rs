//! The values of consumer groups, their consumers and their pending entries.

use super::StreamId;
use crate::error::Reader;
use crate::{DecodeError, Hlc, varint};

/// No flags are known yet.
fn no_flags(reader: &mut Reader<'_>, what: &'static str) -> Result<(), DecodeError> {
    match reader.u8()? {
        0 => Ok(()),
        flags => Err(DecodeError::Flags(flags, what)),
    }
}

/// A number that may be missing, as one more than it is.
fn optional(reader: &mut Reader<'_>) -> Result<Option<u64>, DecodeError> {
    varint::read(reader).map(|number| number.checked_sub(1))
}

fn write_optional(number: Option<u64>, out: &mut Vec<u8>) {
    varint::write(number.map_or(0, |number| number.saturating_add(1)), out);
}

/// A consumer group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// The stamp of its creation: its consumers and pending entries are filed under it.
    pub version: Hlc,
    /// The last id that was delivered.
    pub last: StreamId,
    /// How many of the entries ever added were read, if that is known.
    pub read: Option<u64>,
    /// How many consumers it has.
    pub consumers: u64,
    /// How many entries are pending.
    pub pending: u64,
    /// No pending entry is below this id.
    pub floor: StreamId,
    /// No pending entry is, or ever was, above this id.
    pub top: StreamId,
    /// How many were acknowledged since the floor was found.
    pub acked: u64,
}

impl Group {
    /// A new one, which has delivered all up to an id.
    pub const fn new(version: Hlc, last: StreamId, read: Option<u64>) -> Self {
        let (floor, top) = (StreamId::MIN, StreamId::MIN);
        Self { version, last, read, consumers: 0, pending: 0, floor, top, acked: 0 }
    }

    /// Reads a value.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        const WHAT: &str = "consumer group";
        let mut reader = Reader::new(WHAT, bytes);
        no_flags(&mut reader, WHAT)?;
        let group = Self {
            version: Hlc(reader.u64()?),
            last: StreamId::read(&mut reader)?,
            floor: StreamId::read(&mut reader)?,
            top: StreamId::read(&mut reader)?,
            read: optional(&mut reader)?,
            consumers: varint::read(&mut reader)?,
            pending: varint::read(&mut reader)?,
            acked: varint::read(&mut reader)?,
        };
        reader.end()?;
        Ok(group)
    }

    /// Appends the value's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(0);
        out.extend_from_slice(&self.version.0.to_be_bytes());
        for id in [self.last, self.floor, self.top] {
            out.extend_from_slice(&id.bytes());
        }
        write_optional(self.read, out);
        for number in [self.consumers, self.pending, self.acked] {
            varint::write(number, out);
        }
    }
}

/// A consumer of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consumer {
    /// When it last asked for anything, in Unix milliseconds.
    pub seen_ms: u64,
    /// When it last got anything, if it ever did.
    pub active_ms: Option<u64>,
    /// How many entries it has to acknowledge.
    pub pending: u64,
}

impl Consumer {
    /// Reads a value.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        const WHAT: &str = "consumer";
        let mut reader = Reader::new(WHAT, bytes);
        no_flags(&mut reader, WHAT)?;
        let consumer = Self {
            seen_ms: varint::read(&mut reader)?,
            active_ms: optional(&mut reader)?,
            pending: varint::read(&mut reader)?,
        };
        reader.end()?;
        Ok(consumer)
    }

    /// Appends the value's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(0);
        varint::write(self.seen_ms, out);
        write_optional(self.active_ms, out);
        varint::write(self.pending, out);
    }
}

/// A pending entry, decoded in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending<'a> {
    /// When it was last delivered, in Unix milliseconds.
    pub delivered_ms: u64,
    /// How often it was delivered.
    pub deliveries: u64,
    /// To whom.
    pub consumer: &'a [u8],
}

impl<'a> Pending<'a> {
    /// Reads a value without copying it.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        const WHAT: &str = "pending entry";
        let mut reader = Reader::new(WHAT, bytes);
        no_flags(&mut reader, WHAT)?;
        let (delivered_ms, deliveries) = (varint::read(&mut reader)?, varint::read(&mut reader)?);
        Ok(Self { delivered_ms, deliveries, consumer: reader.rest })
    }

    /// Appends the value's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(0);
        varint::write(self.delivered_ms, out);
        varint::write(self.deliveries, out);
        out.extend_from_slice(self.consumer);
    }
}
