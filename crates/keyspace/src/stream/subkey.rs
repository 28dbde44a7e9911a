//! Which record of a stream a data key names.

use super::StreamId;
use crate::error::Reader;
use crate::{DecodeError, Hlc};

/// The subkey of one of a stream's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subkey<'a> {
    /// The header.
    Header,
    /// An entry.
    Entry(StreamId),
    /// A consumer group, by name.
    Group(&'a [u8]),
    /// A consumer of the group of this version, by name.
    Consumer(Hlc, &'a [u8]),
    /// A pending entry of a group.
    Pending(Hlc, StreamId),
    /// A pending entry of a group's consumer; its value is empty.
    Owned(Hlc, &'a [u8], StreamId),
}

const HEADER: u8 = 0;
const ENTRY: u8 = 1;
const GROUP: u8 = 2;
const CONSUMER: u8 = 3;
const PENDING: u8 = 4;
const OWNED: u8 = 5;

impl<'a> Subkey<'a> {
    /// The header's subkey.
    pub const HEADER: [u8; 1] = [HEADER];
    /// What all entries' subkeys begin with.
    pub const ENTRIES: [u8; 1] = [ENTRY];
    /// What all groups' subkeys begin with.
    pub const GROUPS: [u8; 1] = [GROUP];

    /// An entry's subkey.
    pub fn entry(id: StreamId) -> [u8; 17] {
        let mut bytes = [ENTRY; 17];
        bytes[1..].copy_from_slice(&id.bytes());
        bytes
    }

    /// What the subkeys of a group's consumers begin with.
    pub fn consumers(group: Hlc) -> [u8; 9] {
        of_group(CONSUMER, group)
    }

    /// What the subkeys of a group's pending entries begin with.
    pub fn pending(group: Hlc) -> [u8; 9] {
        of_group(PENDING, group)
    }

    /// What the subkeys of all that a group's consumers have to acknowledge begin with.
    pub fn owned(group: Hlc) -> [u8; 9] {
        of_group(OWNED, group)
    }

    /// Reads a subkey without copying it.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("stream record", bytes);
        let subkey = match reader.u8()? {
            HEADER => Self::Header,
            ENTRY => Self::Entry(StreamId::read(&mut reader)?),
            GROUP => return Ok(Self::Group(reader.rest)),
            CONSUMER => return Ok(Self::Consumer(Hlc(reader.u64()?), reader.rest)),
            PENDING => Self::Pending(Hlc(reader.u64()?), StreamId::read(&mut reader)?),
            OWNED => {
                let group = Hlc(reader.u64()?);
                let len = u32::from_be_bytes(reader.take()?);
                let consumer = reader.bytes(len as usize)?;
                Self::Owned(group, consumer, StreamId::read(&mut reader)?)
            }
            kind => return Err(DecodeError::Kind(kind)),
        };
        reader.end()?;
        Ok(subkey)
    }

    /// Appends the subkey's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Header => out.push(HEADER),
            Self::Entry(id) => out.extend_from_slice(&Self::entry(*id)),
            Self::Group(name) => {
                out.push(GROUP);
                out.extend_from_slice(name);
            }
            Self::Consumer(group, name) => {
                out.extend_from_slice(&of_group(CONSUMER, *group));
                out.extend_from_slice(name);
            }
            Self::Pending(group, id) => {
                out.extend_from_slice(&of_group(PENDING, *group));
                out.extend_from_slice(&id.bytes());
            }
            Self::Owned(group, consumer, id) => {
                let len = u32::try_from(consumer.len());
                let len = len.expect("names are bounded far below 4 GiB");
                out.extend_from_slice(&of_group(OWNED, *group));
                out.extend_from_slice(&len.to_be_bytes());
                out.extend_from_slice(consumer);
                out.extend_from_slice(&id.bytes());
            }
        }
    }

    /// The subkey's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(40);
        self.encode(&mut out);
        out
    }
}

fn of_group(kind: u8, group: Hlc) -> [u8; 9] {
    let mut bytes = [kind; 9];
    bytes[1..].copy_from_slice(&group.0.to_be_bytes());
    bytes
}
