//! What a registry holds at most: the same for every kind, so that what one takes any other takes.

use std::collections::BTreeSet;

use crate::registry::{Expect, RegistryError, Write};

/// The longest value.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// The longest key.
pub const KEY_BYTES_MAX: usize = 1 << 10;
/// The greatest number of keys, so that a writer gone wild is stopped.
pub const KEYS_MAX: usize = 1 << 16;
/// The most that all keys and values may come to in the memory of a reader.
pub const TOTAL_BYTES_MAX: usize = 1 << 28;
/// The most keys that a commit may write, and the most that it may expect: etcd's default.
pub const COMMIT_KEYS_MAX: usize = 128;
/// The most bytes that a commit may write: below etcd's default of 1.5 MiB for a request.
pub const COMMIT_BYTES_MAX: usize = VALUE_BYTES_MAX + (256 << 10);

/// Refuses a commit that some registry would not take. Nothing was written.
pub(crate) fn check(expect: &[Expect], writes: &[Write]) -> Result<(), RegistryError> {
    let mut total = 0;
    let mut seen = BTreeSet::new();
    for write in writes {
        let value_bytes = write.value.as_ref().map_or(0, Vec::len);
        if write.key.is_empty() || write.key.len() > KEY_BYTES_MAX || value_bytes > VALUE_BYTES_MAX
        {
            return Err(RegistryError::Unusable(format!(
                "a registry key has 1 to {KEY_BYTES_MAX} bytes and a value up to {VALUE_BYTES_MAX}; `{}` has {} and {value_bytes}",
                write.key,
                write.key.len()
            )));
        }
        if !seen.insert(&write.key) {
            return Err(RegistryError::Unusable(format!(
                "a commit writes a key once; it names `{}` twice",
                write.key
            )));
        }
        total += write.key.len() + value_bytes;
    }
    if total > COMMIT_BYTES_MAX || writes.len().max(expect.len()) > COMMIT_KEYS_MAX {
        return Err(RegistryError::Unusable(format!(
            "a commit writes up to {COMMIT_KEYS_MAX} keys and {COMMIT_BYTES_MAX} bytes; this one has {} and {total}",
            writes.len().max(expect.len())
        )));
    }
    Ok(())
}
