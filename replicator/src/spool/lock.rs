//! One sidecar a spool.

use std::fs::File;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::SpoolError;

/// Held until it is dropped, or the process ends.
#[derive(Debug)]
pub struct SpoolLock(#[allow(dead_code)] File);

impl SpoolLock {
    /// Takes the lock of the spool beside this node, or says who has it.
    pub fn take(node_dir: &Path) -> Result<Self, SpoolError> {
        let root = node_dir.join("spool");
        std::fs::create_dir_all(&root).map_err(SpoolError::io("create the spool", &root))?;
        let path = root.join("LOCK");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(SpoolError::io("open", &path))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| SpoolError::Locked(root))?;
        Ok(Self(file))
    }
}
