//! One sidecar a spool.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use super::SpoolError;

/// How often a lock that is held is tried again.
const RETRY: Duration = Duration::from_millis(50);

/// Held until it is dropped, or the process ends.
#[derive(Debug)]
pub struct SpoolLock(#[allow(dead_code)] File);

impl SpoolLock {
    /// Takes the lock of the spool beside this node, or says who has it. A process that was killed
    /// may take the system a moment to end: `patience` is how long to wait for that.
    pub fn take(node_dir: &Path, patience: Duration) -> Result<Self, SpoolError> {
        Self::take_as(node_dir, super::NAME, patience)
    }

    /// The same for a spool of another name.
    pub fn take_as(node_dir: &Path, name: &str, patience: Duration) -> Result<Self, SpoolError> {
        let root = node_dir.join(name);
        std::fs::create_dir_all(&root).map_err(SpoolError::io("create the spool", &root))?;
        let path = root.join("LOCK");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(SpoolError::io("open", &path))?;
        let deadline = Instant::now() + patience;
        while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            if Instant::now() >= deadline {
                return Err(SpoolError::Locked(root));
            }
            #[allow(clippy::disallowed_methods)] // at the start, before anything else runs
            std::thread::sleep(RETRY);
        }
        Ok(Self(file))
    }
}
