//! Records of no slot, of which every shard has its own: [libraries of functions](crate::library) and
//! [users](crate::user).
//!
//! They are in the family `data`, behind all slots, so that what deletes keys does not reach them
//! and what sends a shard's log sends them. The third byte of a key says what it is of; a version
//! that does not know it keeps the record and passes it on.

use crate::error::Reader;
use crate::{DecodeError, Hlc};

/// What their keys begin with: above every slot.
pub const PREFIX: [u8; 2] = [0xff, 0xff];

/// Whether a key belongs to no slot, but to its shard.
pub fn is_of_shard(key: &[u8]) -> bool {
    key.starts_with(&PREFIX)
}

/// The keys of all of them: from the first to the second, not included.
pub const fn bounds() -> ([u8; 2], [u8; 3]) {
    (PREFIX, [PREFIX[0], PREFIX[1], u8::MAX])
}

/// When a record was written: of two shards' records of one key the later one counts. All kinds say it
/// at the same place.
pub fn stamp(value: &[u8]) -> Result<Hlc, DecodeError> {
    let mut reader = Reader::new("record of no slot", value);
    reader.u8()?;
    Ok(Hlc(reader.u64()?))
}
