//! The two clocks: one that runs through suspend and never steps, and the wall's.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Time since this machine booted, suspended time included (`CLOCK_BOOTTIME`). Leases and
/// deadlines of one machine are counted on it.
pub fn boot_now() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let secs = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::new(secs, u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Milliseconds since 1970, UTC, on the wall clock, which may step.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The random id of this boot of this machine: readings of [`boot_now`] compare only within one.
pub fn boot_id() -> std::io::Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    Ok(std::fs::read_to_string(path)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_run() {
        let before = boot_now();
        assert!(boot_now() >= before && before > Duration::ZERO);
        assert!(unix_ms() > 1_700_000_000_000);
        assert_eq!(boot_id().unwrap().len(), 36);
    }
}
