//! Stamps: hybrid logical clock values that rise along a log whatever the wall clock does.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// A stamp: 48 bits of milliseconds since 1970 (UTC), then 16 bits of counter.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Hlc(pub u64);

impl Hlc {
    /// The stamp of this moment and counter; milliseconds beyond 48 bits are cut to the greatest.
    pub const fn new(ms: u64, counter: u16) -> Self {
        let ms = if ms >= 1 << 48 { (1 << 48) - 1 } else { ms };
        Self(ms << 16 | counter as u64)
    }

    /// Milliseconds since 1970.
    pub const fn ms(self) -> u64 {
        self.0 >> 16
    }

    /// The counter that orders stamps of one millisecond.
    pub const fn counter(self) -> u16 {
        self.0 as u16
    }
}

impl fmt::Display for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.ms(), self.counter())
    }
}

/// Gives stamps that only rise, on a wall clock that may step back.
///
/// Pure but for its own counter: the caller brings the time.
#[derive(Debug, Default)]
pub struct HlcClock(AtomicU64);

impl HlcClock {
    /// A clock whose stamps are all above `floor`, the highest one known to have been given.
    pub const fn above(floor: Hlc) -> Self {
        Self(AtomicU64::new(floor.0))
    }

    /// The next stamp: the wall clock if that has moved on, else one more than the last.
    pub fn next(&self, now_ms: u64) -> Hlc {
        let wall = Hlc::new(now_ms, 0).0;
        let step = |last: u64| Some(wall.max(last.saturating_add(1)));
        let last = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, step);
        Hlc(wall.max(last.unwrap_or_else(|last| last).saturating_add(1)))
    }

    /// Makes later stamps rise above one that came from elsewhere.
    pub fn observe(&self, seen: Hlc) {
        self.0.fetch_max(seen.0, Ordering::AcqRel);
    }

    /// The last stamp given or observed.
    pub fn last(&self) -> Hlc {
        Hlc(self.0.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_rise_when_the_wall_clock_steps_back() {
        let clock = HlcClock::above(Hlc::new(1_000, 5));
        assert_eq!(clock.next(2_000), Hlc::new(2_000, 0));
        assert_eq!(clock.next(1_500), Hlc::new(2_000, 1));
        clock.observe(Hlc::new(9_000, 0xffff));
        assert_eq!(clock.next(2_001), Hlc::new(9_001, 0));
    }
}
