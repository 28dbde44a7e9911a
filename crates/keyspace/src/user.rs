//! Users and what they may do: [records of no slot](crate::shard).
//!
//! A node has its users from here once there is a record of the user [`DEFAULT`], which nobody can
//! delete; before, from a file of its own.

use crate::error::Reader;
use crate::shard::PREFIX;
use crate::{DecodeError, Hlc};

/// The user of connections that have not said who they are.
pub const DEFAULT: &[u8] = b"default";
/// What is in the record, and how: a user, encoding version 1.
const KIND: u8 = b'U';
const VERSION: u8 = 1;

/// Appends the key of the user of this name.
pub fn encode_key(name: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&bounds().0);
    out.extend_from_slice(name);
}

/// The user's name, if this is a key of one.
pub fn decode_key(key: &[u8]) -> Option<&[u8]> {
    key.strip_prefix(&bounds().0[..])
}

/// The keys of all users: from the first to the second, not included.
pub const fn bounds() -> ([u8; 3], [u8; 3]) {
    ([PREFIX[0], PREFIX[1], KIND], [PREFIX[0], PREFIX[1], KIND + 1])
}

/// A user's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserValue<'a> {
    /// When it was written.
    pub stamp: Hlc,
    /// It as a line of an ACL file, passwords as SHA-256.
    pub line: &'a [u8],
}

impl<'a> UserValue<'a> {
    /// Appends the record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        out.extend_from_slice(&self.stamp.0.to_be_bytes());
        out.extend_from_slice(self.line);
    }

    /// Reads a record.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("user", bytes);
        let version = reader.u8()?;
        if version != VERSION {
            return Err(DecodeError::Version(version));
        }
        Ok(Self { stamp: Hlc(reader.u64()?), line: reader.rest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{library, shard};

    #[test]
    fn a_user_reads_back_and_is_no_library() {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        encode_key(b"alice", &mut key);
        assert_eq!(decode_key(&key), Some(&b"alice"[..]));
        assert!(shard::is_of_shard(&key) && !library::is_key(&key));
        let (from, to) = shard::bounds();
        assert!(from.as_slice() < &key[..] && &key[..] < to.as_slice());
        let user = UserValue { stamp: Hlc::new(1_700_000_000_000, 2), line: b"user alice on" };
        user.encode(&mut value);
        assert_eq!(UserValue::decode(&value), Ok(user));
        assert_eq!(shard::stamp(&value), Ok(user.stamp));
        value[0] = 2;
        assert_eq!(UserValue::decode(&value), Err(DecodeError::Version(2)));
        assert!(UserValue::decode(&value[..5]).is_err() && shard::stamp(b"").is_err());
        let mut library = Vec::new();
        library::encode_key("l", &mut library);
        assert_eq!(decode_key(&library), None);
    }
}
