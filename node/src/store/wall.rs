//! The wall clock, as far as it is believed.
//!
//! Stamps follow it, and what has expired is deleted by it, so a clock that jumps a year ahead would
//! delete data and make every later stamp wrong for ever. The boot clock does not jump: a wall clock
//! that has moved on further than that one, by more than a bound, is not followed.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// How far the wall clock may move ahead of the boot clock between two looks.
const JUMP_MAX: Duration = Duration::from_secs(60);
/// Readings so close to the last one that was checked are not checked again.
const UNCHECKED_MS: u64 = 1_000;
/// Drift is noted once it is so large.
const NOTED_MS: i64 = 100;

/// A wall clock that does not jump ahead.
#[derive(Debug)]
pub(super) struct Wall {
    /// The last reading that was checked.
    checked_ms: AtomicU64,
    /// The wall clock less the boot clock, when they were last believed.
    offset_ms: AtomicI64,
    /// How far the wall clock is ahead of what is believed; 0 while it is believed.
    ahead_ms: AtomicU64,
}

impl Wall {
    /// Believes the wall clock as it is now.
    pub(super) fn start() -> Self {
        Self::at(ops::clock::unix_ms(), boot_ms())
    }

    fn at(wall_ms: u64, boot_ms: u64) -> Self {
        Self {
            checked_ms: AtomicU64::new(wall_ms),
            offset_ms: AtomicI64::new(difference(wall_ms, boot_ms)),
            ahead_ms: AtomicU64::new(0),
        }
    }

    /// Unix milliseconds now.
    pub(super) fn now_ms(&self) -> u64 {
        let mut wall_ms = ops::clock::unix_ms();
        if ops::failpoint::hit("clock-ahead") {
            wall_ms += 3_600_000;
        }
        if ops::failpoint::hit("clock-behind") {
            wall_ms -= 3_600_000;
        }
        let since = wall_ms.wrapping_sub(self.checked_ms.load(Ordering::Relaxed));
        if since < UNCHECKED_MS { wall_ms } else { self.check(wall_ms, boot_ms()) }
    }

    /// How far the wall clock is ahead of what is believed, if it jumped.
    pub(super) fn ahead(&self) -> Option<Duration> {
        let ahead = self.ahead_ms.load(Ordering::Relaxed);
        (ahead > 0).then(|| Duration::from_millis(ahead))
    }

    fn check(&self, wall_ms: u64, boot_ms: u64) -> u64 {
        let believed = self.offset_ms.load(Ordering::Relaxed);
        let offset = difference(wall_ms, boot_ms);
        let ahead = offset.saturating_sub(believed);
        let bound = i64::try_from(JUMP_MAX.as_millis()).unwrap_or(i64::MAX);
        if ahead > bound {
            let first = self.ahead_ms.swap(ahead.unsigned_abs(), Ordering::Relaxed) == 0;
            if first {
                tracing::error!(
                    ahead_ms = ahead,
                    "the wall clock jumped ahead: it is not followed, and time goes on from where it \
                     was; set the clock right, or restart this node if it is right now"
                );
            }
            return boot_ms.saturating_add_signed(believed);
        }
        if self.ahead_ms.swap(0, Ordering::Relaxed) > 0 {
            tracing::info!("the wall clock is believed again");
        }
        // A step back is followed in what it says and not in what is believed, so that the way
        // forward again is no jump; what moves slowly is drift.
        if (-bound..=-NOTED_MS).contains(&ahead) || ahead >= NOTED_MS {
            self.offset_ms.store(offset, Ordering::Relaxed);
        }
        self.checked_ms.store(wall_ms, Ordering::Relaxed);
        wall_ms
    }
}

fn boot_ms() -> u64 {
    u64::try_from(ops::clock::boot_now().as_millis()).unwrap_or(u64::MAX)
}

fn difference(wall_ms: u64, boot_ms: u64) -> i64 {
    i64::try_from(wall_ms).unwrap_or(i64::MAX).saturating_sub_unsigned(boot_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_ahead_is_not_followed_and_all_else_is() {
        let hour = 3_600_000;
        let wall = Wall::at(1_000_000_000, 5_000);
        assert_eq!(wall.check(1_000_002_000, 7_000), 1_000_002_000);
        // Slow drift, a second every minute, adds up to more than the bound.
        for minute in 1..100 {
            let (now, boot) = (1_000_002_000 + minute * 61_000, 7_000 + minute * 60_000);
            assert_eq!(wall.check(now, boot), now);
        }
        let (now, boot) = (1_000_002_000 + 99 * 61_000, 7_000 + 99 * 60_000);
        assert_eq!(wall.check(now + hour, boot), now);
        assert_eq!(wall.check(now + hour + 10, boot + 10), now + 10);
        assert_eq!(wall.ahead(), Some(Duration::from_millis(hour)));
        assert_eq!(wall.check(now + 20, boot + 20), now + 20);
        assert_eq!(wall.ahead(), None);
        // Set back by an hour, and right again.
        assert_eq!(wall.check(now - hour, boot + 30), now - hour);
        assert_eq!(wall.check(now + 40, boot + 40), now + 40);
        assert_eq!(wall.ahead(), None);
    }
}
