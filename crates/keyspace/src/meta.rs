//! The record of a key: its type and expiry, and either a string's bytes or what a collection's
//! data records are filed under. Layout: `docs/formats.md`, "Keys and values".

use crate::error::Reader;
use crate::{DecodeError, Hlc, Slot};

/// The encoding version that this code writes, and the only one it reads.
pub const ENCODING: u8 = 1;

/// The flag of a hash with fields that expire by themselves: the earliest such time follows the size.
const FLAG_FIELDS_EXPIRE: u8 = 1;

/// Where the head and the tail of an empty list stand, so that it can grow both ways.
pub const LIST_ORIGIN: u64 = 1 << 63;

/// What a key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Type {
    /// Bytes, in the meta record itself.
    String = 1,
    /// Fields and values.
    Hash = 2,
    /// Elements, by index.
    List = 3,
    /// Members.
    Set = 4,
    /// Members with scores.
    Zset = 5,
    /// Entries by id, and consumer groups.
    Stream = 6,
}

impl Type {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::String, Self::Hash, Self::List, Self::Set, Self::Zset, Self::Stream];

    /// Its name in TYPE's answer.
    pub const fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Hash => "hash",
            Self::List => "list",
            Self::Set => "set",
            Self::Zset => "zset",
            Self::Stream => "stream",
        }
    }

    const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::String),
            2 => Some(Self::Hash),
            3 => Some(Self::List),
            4 => Some(Self::Set),
            5 => Some(Self::Zset),
            6 => Some(Self::Stream),
            _ => None,
        }
    }
}

/// What a collection's meta record says of its data records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Collection {
    /// Hash, list, set, sorted set or stream; never a string.
    pub kind: Type,
    /// The stamp of its creation: data records of another version belong to a deleted collection.
    pub version: Hlc,
    /// How many fields, elements or members it has; never 0 in a stored record. A stream's is 1,
    /// for its header, which has the rest ([`stream::Header`](crate::stream::Header)).
    pub size: u64,
    /// Lists: the index of the first element.
    pub head: u64,
    /// Lists: one past the index of the last element.
    pub tail: u64,
    /// Hashes: Unix milliseconds before which no field expires; 0: none ever does.
    pub fields_expire_ms: u64,
}

impl Collection {
    /// An empty one, to be filled before it is stored.
    pub const fn new(kind: Type, version: Hlc) -> Self {
        let (head, tail) = (LIST_ORIGIN, LIST_ORIGIN);
        Self { kind, version, size: 0, head, tail, fields_expire_ms: 0 }
    }

    /// Whether a field may have expired for a reader whose clock shows `now_ms`: `size` counts it
    /// until its record is deleted.
    pub const fn may_have_expired(&self, now_ms: u64) -> bool {
        self.fields_expire_ms != 0 && self.fields_expire_ms <= now_ms
    }
}

/// What a meta record holds beside stamp and expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// A string's bytes.
    String(&'a [u8]),
    /// A collection's head; its entries are in the data and score families.
    Collection(Collection),
}

/// A meta record, decoded in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta<'a> {
    /// When it was last written.
    pub stamp: Hlc,
    /// Unix milliseconds at which it expires; 0 for never.
    pub expire_ms: u64,
    /// What it holds.
    pub body: Body<'a>,
}

impl<'a> Meta<'a> {
    /// Bytes before a string's own.
    pub const HEAD_LEN: usize = 18;

    /// Its type.
    pub const fn kind(&self) -> Type {
        match &self.body {
            Body::String(_) => Type::String,
            Body::Collection(c) => c.kind,
        }
    }

    /// Whether it is there for a reader whose clock shows `now_ms`.
    pub const fn is_live(&self, now_ms: u64) -> bool {
        self.expire_ms == 0 || self.expire_ms > now_ms
    }

    /// Reads a record without copying it.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("meta record", bytes);
        let header = reader.u8()?;
        let kind = Type::from_number(header >> 4).ok_or(DecodeError::Type(header >> 4))?;
        if header & 0x0f != ENCODING {
            return Err(DecodeError::Version(header & 0x0f));
        }
        let flags = reader.u8()?;
        let known = if kind == Type::Hash { FLAG_FIELDS_EXPIRE } else { 0 };
        if flags & !known != 0 {
            return Err(DecodeError::Flags(flags, "meta record"));
        }
        let stamp = Hlc(reader.u64()?);
        let expire_ms = reader.u64()?;
        if kind == Type::String {
            return Ok(Self { stamp, expire_ms, body: Body::String(reader.rest) });
        }
        let mut collection = Collection::new(kind, Hlc(reader.u64()?));
        collection.size = reader.u64()?;
        if flags & FLAG_FIELDS_EXPIRE != 0 {
            collection.fields_expire_ms = reader.u64()?;
            if collection.fields_expire_ms == 0 {
                // There is one way to say that none does.
                return Err(DecodeError::Flags(flags, "meta record"));
            }
        }
        if kind == Type::List {
            collection.head = reader.u64()?;
            collection.tail = reader.u64()?;
        }
        reader.end()?;
        Ok(Self { stamp, expire_ms, body: Body::Collection(collection) })
    }

    /// Appends the record's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push((self.kind() as u8) << 4 | ENCODING);
        out.push(match &self.body {
            Body::Collection(c) if c.fields_expire_ms != 0 => FLAG_FIELDS_EXPIRE,
            Body::String(_) | Body::Collection(_) => 0,
        });
        out.extend_from_slice(&self.stamp.0.to_be_bytes());
        out.extend_from_slice(&self.expire_ms.to_be_bytes());
        match &self.body {
            Body::String(bytes) => out.extend_from_slice(bytes),
            Body::Collection(c) => {
                out.extend_from_slice(&c.version.0.to_be_bytes());
                out.extend_from_slice(&c.size.to_be_bytes());
                if c.fields_expire_ms != 0 {
                    out.extend_from_slice(&c.fields_expire_ms.to_be_bytes());
                }
                if c.kind == Type::List {
                    out.extend_from_slice(&c.head.to_be_bytes());
                    out.extend_from_slice(&c.tail.to_be_bytes());
                }
            }
        }
    }
}

/// Appends the meta key of a user key: its slot, then itself.
pub fn encode_key(slot: Slot, key: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&slot.prefix());
    out.extend_from_slice(key);
}

/// The slot and user key of a meta key.
pub fn decode_key(bytes: &[u8]) -> Result<(Slot, &[u8]), DecodeError> {
    let mut reader = Reader::new("meta key", bytes);
    let slot = u16::from_be_bytes(reader.take()?);
    let slot = Slot::new(slot).ok_or(DecodeError::Slot("meta key"))?;
    Ok((slot, reader.rest))
}
