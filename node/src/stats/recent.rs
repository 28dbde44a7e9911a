//! How long commands take just now: what a sidecar looks at before it asks more of the machine.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Histogram, commands};

/// What counts as just now; the answer is at most twice as old.
const WINDOW: Duration = Duration::from_secs(1);
/// Of fewer commands nothing is said.
const TELLING: u64 = 100;

struct Recent {
    since: Instant,
    then: Histogram,
    p99_us: Option<u64>,
}

static RECENT: Mutex<Option<Recent>> = Mutex::new(None);

/// Microseconds below which 99 of 100 commands took, in the last full window before this question.
pub(crate) fn p99_us() -> Option<u64> {
    let mut held = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
    let recent = match &mut *held {
        Some(recent) if recent.since.elapsed() < WINDOW => return recent.p99_us,
        Some(recent) => recent,
        None => {
            *held = Some(Recent { since: Instant::now(), then: commands::times(), p99_us: None });
            return None;
        }
    };
    let now = commands::times();
    recent.p99_us = p99_of(&now.since(&recent.then));
    (recent.since, recent.then) = (Instant::now(), now);
    recent.p99_us
}

fn p99_of(times: &Histogram) -> Option<u64> {
    (times.total() >= TELLING).then(|| times.percentile(99.0) / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_before_does_not_count() {
        let times = Histogram::default();
        (0..1000).for_each(|_| times.add(50_000_000));
        let then = Histogram::default();
        then.merge(&times);
        (0..99).for_each(|_| times.add(20_000));
        assert_eq!(p99_of(&times.since(&then)), None, "too few");
        times.add(20_000);
        let p99 = p99_of(&times.since(&then));
        assert!(p99.is_some_and(|p99| (20..=22).contains(&p99)), "{p99:?}");
        then.clear();
        assert!(p99_of(&times.since(&then)).is_some_and(|p99| p99 >= 50_000));
    }
}
