//! What makes the node that opens a directory take a new identity.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use admin::Adopt;
use anyhow::Context;
use keyspace::Hlc;

use crate::place;

/// Writes the `ADOPT` of a directory that holds no stamp above this one.
///
/// # Errors
/// It cannot be written.
pub fn write(dir: &Path, stamp: Hlc) -> anyhow::Result<()> {
    // Its stamps must rise above all that it held, on a machine whose clock may be behind.
    let stamp = stamp.max(Hlc::new(ops::clock::unix_ms(), 0));
    let adopt = Adopt { format: Adopt::FORMAT, follow: None, stamp };
    let path = dir.join(Adopt::FILE);
    let written = File::create(&path)
        .and_then(|mut file| file.write_all(&adopt.to_bytes()).and_then(|()| file.sync_all()));
    written.with_context(|| format!("writing {}", path.display()))?;
    place::sync(dir)
}
