//! How fast the link to a follower is, from what it did to what was sent.

use std::time::{Duration, Instant};

use super::codec::LinkView;

/// How often the rate is worked out.
const EVERY: Duration = Duration::from_millis(200);
/// Less than this in that time says nothing about the link.
const TELLING_BYTES: u64 = 64 << 10;
/// Below this round trip a frame does not wait for more: it would be felt.
const FAR: Duration = Duration::from_millis(5);
/// The part of a round trip that a frame may gather for, and the most.
const GATHER_PART: u32 = 16;
const GATHER_MAX: Duration = Duration::from_millis(5);
/// How much the shortest round trip is forgotten at each acknowledgement.
const FORGET: f64 = 1.01;

/// Measures one connection.
#[derive(Debug)]
pub(super) struct Measure {
    since: Instant,
    sent: u64,
    busy: Duration,
    /// Time in which frames waited for room in the window.
    closed: Duration,
    round_trip: Duration,
}

impl Measure {
    pub(super) fn new(sent: u64, busy: Duration) -> Self {
        let (closed, round_trip) = (Duration::ZERO, Duration::MAX);
        Self { since: Instant::now(), sent, busy, closed, round_trip }
    }

    /// A frame waited so long for room in the window.
    pub(super) fn waited(&mut self, time: Duration) {
        self.closed += time;
    }

    /// A frame was acknowledged so long after it was sent.
    pub(super) fn acknowledged(&mut self, after: Duration, link: &LinkView) {
        let held = self.round_trip.as_secs_f64().min(1e6) * FORGET;
        self.round_trip = after.min(Duration::from_secs_f64(held));
        let gather = if self.round_trip < FAR {
            Duration::ZERO
        } else {
            (self.round_trip / GATHER_PART).min(GATHER_MAX)
        };
        link.set_gather(gather);
    }

    /// What the connection has sent so far, and how long that took; the answer is the rate, when it
    /// is known anew. Time in which nobody waited for the link does not count.
    pub(super) fn look(&mut self, sent: u64, busy: Duration, link: &LinkView) -> Option<u64> {
        if self.since.elapsed() < EVERY {
            return None;
        }
        let bytes = sent - self.sent;
        let waited = busy.saturating_sub(self.busy) + self.closed;
        (self.since, self.sent, self.busy, self.closed) =
            (Instant::now(), sent, busy, Duration::ZERO);
        if bytes < TELLING_BYTES {
            return None;
        }
        let rate = (bytes as f64 / waited.as_secs_f64().max(1e-6)) as u64;
        link.set_rate(rate);
        Some(rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_far_followers_make_frames_gather() {
        let (link, mut measure) = (LinkView::default(), Measure::new(0, Duration::ZERO));
        let ms = Duration::from_millis;
        for (after, gather) in [(ms(4), 0), (ms(4), 0)] {
            measure.acknowledged(after, &link);
            assert_eq!(link.gather(), ms(gather));
        }
        let mut measure = Measure::new(0, Duration::ZERO);
        measure.acknowledged(ms(400), &link);
        assert_eq!(link.gather(), GATHER_MAX);
        // One that was acknowledged late by chance changes nothing, a link that has changed does.
        measure.acknowledged(ms(32), &link);
        measure.acknowledged(ms(500), &link);
        assert!(link.gather() < ms(3), "{:?}", link.gather());
        (0..1000).for_each(|_| measure.acknowledged(ms(500), &link));
        assert_eq!(link.gather(), GATHER_MAX);
    }
}
