//! How far a follower's clock is from ours, asked with the keep-alive.
//!
//! An answer says what the clock showed there at some moment between our question and the answer's
//! arrival. Taken for the middle, it is wrong by half the round trip at most, so of the last few the
//! quickest is believed.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Answers that one is chosen of: as many seconds.
const ANSWERS: usize = 8;
/// An answer that took longer says nothing: our own clock may have been set meanwhile.
const ROUND_TRIP_MAX_US: u64 = 60_000_000;

/// What is known of a follower's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    /// Microseconds that it is ahead of ours; below zero: behind.
    pub(super) ahead_us: i64,
    /// How long question and answer took.
    pub(super) round_trip_us: u64,
}

impl Reading {
    /// Whether it is certain that the clocks are further apart than this.
    pub(super) fn is_beyond(self, max: Duration) -> bool {
        let max = u64::try_from(max.as_micros()).unwrap_or(u64::MAX);
        self.ahead_us.unsigned_abs() > max.saturating_add(self.round_trip_us / 2)
    }
}

/// A follower's clock.
#[derive(Debug, Default)]
pub(super) struct PeerClock(VecDeque<Reading>);

impl PeerClock {
    /// An answer to what was asked at `asked_us` came at `now_us`, both of our clock; it says `at_us`.
    pub(super) fn answered(&mut self, asked_us: u64, at_us: u64, now_us: u64) -> Option<Reading> {
        let round_trip_us = now_us.checked_sub(asked_us).filter(|us| *us < ROUND_TRIP_MAX_US)?;
        let middle = i128::from(asked_us) + i128::from(round_trip_us / 2);
        let ahead = i128::from(at_us) - middle;
        let bound = |bound: i64| i128::from(bound);
        let ahead_us = ahead.clamp(bound(i64::MIN), bound(i64::MAX)) as i64;
        if self.0.len() == ANSWERS {
            self.0.pop_front();
        }
        self.0.push_back(Reading { ahead_us, round_trip_us });
        self.0.iter().min_by_key(|reading| reading.round_trip_us).copied()
    }
}

/// Microseconds since 1970 on the wall clock.
pub(crate) fn unix_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quickest_answer_is_believed_and_half_of_its_round_trip_is_doubt() {
        let mut clock = PeerClock::default();
        // Two seconds ahead, half a millisecond each way.
        let reading = clock.answered(1_000_000, 3_000_500, 1_001_000).unwrap();
        assert_eq!(reading, Reading { ahead_us: 2_000_000, round_trip_us: 1000 });
        // One that waited for a second on its way back seems to say less.
        assert_eq!(clock.answered(5_000_000, 7_000_500, 6_001_000), Some(reading));
        assert!(reading.is_beyond(Duration::from_millis(1999)));
        assert!(!reading.is_beyond(Duration::from_secs(2)));
        // A slow link alone is no alarm: it may all have been one way.
        let mut far = PeerClock::default();
        let reading = far.answered(0, 400_000, 400_000).unwrap();
        assert_eq!(reading.ahead_us, 200_000);
        assert!(!reading.is_beyond(Duration::from_millis(1)));
    }

    #[test]
    fn what_cannot_be_is_no_answer() {
        let mut clock = PeerClock::default();
        assert_eq!(clock.answered(2, 1, 1), None, "our clock was set back");
        assert_eq!(clock.answered(0, 1, ROUND_TRIP_MAX_US), None);
        let reading = clock.answered(1, u64::MAX, 2).unwrap();
        assert!(reading.ahead_us > 0 && reading.is_beyond(Duration::from_secs(1)));
    }

    #[test]
    fn a_clock_that_is_set_is_seen_once_the_old_answers_are_forgotten() {
        let mut clock = PeerClock::default();
        for second in 0..20 {
            clock.answered(second, second + 50, second + 100);
        }
        let mut last = None;
        for second in 20..20 + ANSWERS as u64 {
            last = clock.answered(second, second + 9_000_050, second + 200);
        }
        assert_eq!(last.map(|reading| reading.ahead_us), Some(8_999_950));
    }
}
