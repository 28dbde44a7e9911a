//! What was acknowledged on an old primary and received by nobody before the switch: kept, listed,
//! and given back where an operator asks for it.
//!
//! `<spool>/ledger/<timeline>-<fork>-<end>.seg` has the stranded batches as they were (a segment);
//! the file of the same name in `.keys` names each key with what it held in the end ([`Entry`]).
//! Layout: `docs/formats.md`, "Ledgers".

mod entry;
mod file;
mod values;

use std::path::{Path, PathBuf};

pub use entry::{Entry, EntryError, Touched, Value, What};
pub use file::{Head, LedgerError, Reader, Writer};
pub use values::{VALUE_BYTES_MAX, values_of};

/// What the names of a ledger's files end in.
pub const KEYS: &str = "keys";

/// The ledgers in a spool, by name.
///
/// # Errors
/// The directory cannot be listed; one that is not there has none.
pub fn list(spool: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(spool.join("ledger")) {
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == KEYS) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
