//! From answers and silence to up and down. One that comes back soon is not believed at once the next
//! time: each return within the grace doubles the silence that it takes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use topology::members::Sight;
use topology::record::UnixMs;

use crate::times::Times;

/// So many returns are remembered: the silence that is asked for has reached the grace long before.
const RETURNS_MAX: usize = 16;

/// What is seen of one primary.
#[derive(Debug)]
pub(crate) struct Damped {
    /// When it answered last; before the first answer, when it was asked first.
    heard: Instant,
    /// `None` before there was an answer, or silence for long enough.
    sight: Option<Sight>,
    /// What was wrong with the last probe.
    reason: Option<String>,
    returns: VecDeque<Instant>,
}

impl Damped {
    pub(crate) fn new(now: Instant) -> Self {
        Self { heard: now, sight: None, reason: None, returns: VecDeque::new() }
    }

    /// What is said of it, once there is something to say.
    pub(crate) fn sight(&self) -> Option<&Sight> {
        self.sight.as_ref()
    }

    /// How long it has not answered.
    pub(crate) fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.heard)
    }

    /// When it is to be called down; `None` while it is.
    pub(crate) fn due(&self, now: Instant, times: &Times) -> Option<Instant> {
        let down = self.sight.as_ref().is_some_and(|sight| !sight.up);
        (!down).then(|| self.heard + self.patience(now, times))
    }

    /// The silence that it takes now.
    fn patience(&self, now: Instant, times: &Times) -> Duration {
        let doubled = 1u32.checked_shl(self.flaps(now, times)).unwrap_or(u32::MAX);
        times.timeout.saturating_mul(doubled).min(times.grace)
    }

    fn flaps(&self, now: Instant, times: &Times) -> u32 {
        let recent = |at: &&Instant| now.saturating_duration_since(**at) < times.grace;
        u32::try_from(self.returns.iter().filter(recent).count()).unwrap_or(u32::MAX)
    }

    /// It answered, and well. Whether that changes what is said of it.
    pub(crate) fn heard(&mut self, now: Instant, wall: UnixMs, times: &Times) -> bool {
        self.heard = now;
        self.reason = None;
        if self.sight.as_ref().is_some_and(|sight| sight.up) {
            return false;
        }
        if self.sight.is_some() {
            if self.returns.len() == RETURNS_MAX {
                self.returns.pop_front();
            }
            self.returns.push_back(now);
        }
        let flaps = self.flaps(now, times);
        self.sight = Some(Sight { up: true, since: wall, reason: None, flaps });
        true
    }

    /// A probe failed, or time has passed. Whether that changes what is said of it.
    pub(crate) fn missed(
        &mut self,
        now: Instant,
        wall: UnixMs,
        times: &Times,
        reason: Option<String>,
    ) -> bool {
        if reason.is_some() {
            self.reason = reason;
        }
        if self.due(now, times).is_none_or(|due| now < due) {
            return false;
        }
        let why = self.reason.clone().unwrap_or_else(|| "it does not answer".to_owned());
        let silence = self.silence(now).as_millis();
        let flaps = self.flaps(now, times);
        let reason = Some(format!("nothing good was heard for {silence} ms: {why}"));
        self.sight = Some(Sight { up: false, since: wall, reason, flaps });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times = Times {
        interval: Duration::from_secs(1),
        after: Duration::from_secs(2),
        timeout: Duration::from_secs(3),
        grace: Duration::from_secs(60),
    };

    /// How often it is called down if it is silent for `silent` seconds and answers once, so many times.
    fn downs(silent: u64, times: u64) -> u64 {
        let start = Instant::now();
        let mut seen = Damped::new(start);
        let (mut now, mut downs) = (start, 0);
        seen.heard(now, UnixMs(0), &TIMES);
        for _ in 0..times {
            for _ in 0..silent * 10 {
                now += Duration::from_millis(100);
                downs += u64::from(seen.missed(now, UnixMs(1), &TIMES, None));
            }
            seen.heard(now, UnixMs(2), &TIMES);
        }
        downs
    }

    #[test]
    fn short_silence_is_nothing_and_one_that_flaps_is_believed_less_each_time() {
        assert_eq!(downs(2, 30), 0, "stopped for 2 s and let go, for a minute");
        assert_eq!(downs(4, 1), 1);
        assert_eq!(downs(4, 10), 1, "the second time takes 6 s");
        assert_eq!(downs(7, 5), 2, "the third takes 12 s");
        // After a grace without a return it is as it was.
        let start = Instant::now();
        let mut seen = Damped::new(start);
        let at = |secs| start + Duration::from_secs(secs);
        seen.heard(at(0), UnixMs(0), &TIMES);
        assert!(seen.missed(at(3), UnixMs(3), &TIMES, Some("refused".to_owned())));
        let said = seen.sight().and_then(|sight| sight.reason.clone()).unwrap();
        assert!(said.contains("3000 ms") && said.contains("refused"), "{said}");
        seen.heard(at(4), UnixMs(4), &TIMES);
        assert_eq!(seen.sight().map(|s| (s.up, s.flaps)), Some((true, 1)));
        seen.heard(at(64), UnixMs(64), &TIMES);
        assert!(!seen.missed(at(66), UnixMs(66), &TIMES, None));
        assert!(seen.missed(at(67), UnixMs(67), &TIMES, None));
    }

    #[test]
    fn before_it_was_heard_or_missed_there_is_no_say() {
        let start = Instant::now();
        let mut seen = Damped::new(start);
        assert_eq!(seen.sight(), None);
        assert!(!seen.missed(start + Duration::from_secs(1), UnixMs(1), &TIMES, None));
        assert_eq!(seen.sight(), None);
        assert!(seen.missed(start + Duration::from_secs(3), UnixMs(3), &TIMES, None));
        assert!(seen.sight().is_some_and(|sight| !sight.up));
    }
}
