//! Which snapshots are kept as they grow older. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{Snapshot, State};
use crate::SnapshotId;

/// How many to keep, for each cluster of each service. Of a period the newest one is kept; periods
/// without a snapshot do not count. All in UTC, weeks begin on Monday.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The newest ones.
    pub last: usize,
    /// One of each of so many hours.
    pub hourly: usize,
    /// Of each of so many days.
    pub daily: usize,
    /// Of each of so many weeks.
    pub weekly: usize,
    /// Of each of so many months.
    pub monthly: usize,
}

/// Why one is kept; the word that people read.
pub type Reasons = Vec<&'static str>;

impl Policy {
    /// What is kept of these, which are in the order in which they were sealed, and why. Whatever was
    /// asked for, the newest one, the last that was proven and the last that was verified or proven stay.
    pub fn kept<'a>(
        &self,
        sealed: impl IntoIterator<Item = &'a (Snapshot, State)>,
    ) -> BTreeMap<SnapshotId, Reasons> {
        let mut clusters: BTreeMap<(&str, &str), Vec<&(Snapshot, State)>> = BTreeMap::new();
        for held in sealed {
            let of = (held.0.service.as_str(), held.0.cluster.as_str());
            clusters.entry(of).or_default().push(held);
        }
        let mut kept = BTreeMap::<SnapshotId, Reasons>::new();
        for mut held in clusters.into_values() {
            held.sort_by_key(|(snapshot, _)| snapshot.sealed_at);
            held.reverse();
            self.of_cluster(&held, &mut kept);
        }
        kept
    }

    /// `held`, newest first.
    fn of_cluster(&self, held: &[&(Snapshot, State)], kept: &mut BTreeMap<SnapshotId, Reasons>) {
        let mut keep = |snapshot: &Snapshot, why| {
            kept.entry(snapshot.id.clone()).or_default().push(why);
        };
        if let Some((newest, _)) = held.first() {
            keep(newest, "newest");
        }
        let last_of = |least: State| held.iter().find(move |(_, state)| *state >= least);
        for (least, why) in [(State::Proven, "last proven"), (State::Verified, "last verified")] {
            if let Some((snapshot, _)) = last_of(least) {
                keep(snapshot, why);
            }
        }
        held.iter().take(self.last).for_each(|(snapshot, _)| keep(snapshot, "last"));
        let periods: [(usize, Period, &'static str); 4] = [
            (self.hourly, hour, "hourly"),
            (self.daily, day, "daily"),
            (self.weekly, week, "weekly"),
            (self.monthly, month, "monthly"),
        ];
        for (count, period, why) in periods {
            let mut seen = BTreeSet::new();
            for (snapshot, _) in held {
                if seen.len() == count {
                    break;
                }
                if seen.insert(period(snapshot.sealed_at)) {
                    keep(snapshot, why);
                }
            }
        }
    }
}

/// The number of the period that a time is in: milliseconds since 1970, UTC.
type Period = fn(u64) -> u64;

const DAY_MS: u64 = 24 * 3600 * 1000;

fn hour(ms: u64) -> u64 {
    ms / (3600 * 1000)
}

fn day(ms: u64) -> u64 {
    ms / DAY_MS
}

/// 1970-01-01 was a Thursday.
fn week(ms: u64) -> u64 {
    (day(ms) + 3) / 7
}

/// By the rules of the Gregorian calendar (H. Hinnant, "chrono-compatible low-level date algorithms").
fn month(ms: u64) -> u64 {
    let since = day(ms) + 719_468;
    let (era, of_era) = (since / 146_097, since % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    // Months from March on.
    let month = (5 * of_year + 2) / 153;
    (era * 400 + year) * 12 + month
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn held(time: &str, state: State) -> (Snapshot, State) {
        let at = humantime::parse_rfc3339_weak(time).unwrap();
        let sealed_at = at.duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        let id = SnapshotId::new(UNIX_EPOCH + Duration::from_millis(sealed_at), 7);
        let (service, cluster) = ("demo".to_owned(), "a".to_owned());
        let snapshot = Snapshot { id, service, cluster, sealed_at, cut: None, shards: Vec::new() };
        (snapshot, state)
    }

    fn kept(policy: Policy, held: &[(Snapshot, State)]) -> Vec<usize> {
        let kept = policy.kept(held);
        let ids = held.iter().enumerate().filter(|(_, (s, _))| kept.contains_key(&s.id));
        ids.map(|(n, _)| n).collect()
    }

    #[test]
    fn one_of_each_period_and_never_the_last_proven() {
        let times = [
            "2026-09-30 23:59:00",
            "2026-10-01 00:01:00",
            "2026-10-31 12:00:00",
            "2026-11-15 12:00:00", // a Sunday
            "2026-11-16 00:00:00",
            "2026-11-22 09:10:00",
            "2026-11-22 09:50:00",
            "2026-11-22 10:00:00",
        ];
        let all: Vec<_> = times.iter().map(|time| held(time, State::Sealed)).collect();
        let of = |policy: Policy| kept(policy, &all);
        let none = Policy::default();
        assert_eq!(of(none), [7], "the newest one always stays");
        assert_eq!(of(Policy { last: 2, ..none }), [6, 7]);
        assert_eq!(of(Policy { hourly: 2, ..none }), [6, 7]);
        assert_eq!(of(Policy { daily: 3, ..none }), [3, 4, 7]);
        assert_eq!(of(Policy { weekly: 2, ..none }), [3, 7], "weeks begin on Monday");
        assert_eq!(of(Policy { monthly: 9, ..none }), [0, 2, 7]);
        assert_eq!(of(Policy { last: 99, ..none }).len(), 8);
        let mut some = all.clone();
        some[1].1 = State::Proven;
        some[2].1 = State::Verified;
        assert_eq!(kept(none, &some), [1, 2, 7]);
        // Another cluster's snapshots are counted by themselves.
        some[0].0.cluster = "b".to_owned();
        assert_eq!(kept(none, &some), [0, 1, 2, 7]);
    }

    #[test]
    fn months_follow_each_other() {
        let mut last = 0;
        for day in 0..50_000 {
            let this = month(day * DAY_MS);
            assert!(this == last || this == last + 1 || last == 0, "day {day}");
            last = this;
        }
    }
}
