//! What a volume has left.

use std::path::Path;

/// Bytes that ordinary users may still write on the volume of `path`; all there could be where that cannot
/// be told.
pub fn free(path: &Path) -> u64 {
    rustix::fs::statvfs(path).map(|s| s.f_bavail.saturating_mul(s.f_frsize)).unwrap_or(u64::MAX)
}
