//! How long something took, in 16 steps for each doubling: two decimal digits, more or less.

use std::sync::atomic::{AtomicU32, Ordering};

/// Steps for each doubling, as a power of two.
const STEP_BITS: u32 = 4;
const STEPS: usize = 1 << STEP_BITS;
/// Times from 2^34 nanoseconds (17 s) on are counted as that.
const TIME_BITS: u32 = 34;
const BUCKETS: usize = (TIME_BITS - STEP_BITS + 1) as usize * STEPS;

/// Counts of times. One thread writes, others read.
pub(crate) struct Histogram(Box<[AtomicU32]>);

impl Default for Histogram {
    fn default() -> Self {
        Self((0..BUCKETS).map(|_| AtomicU32::new(0)).collect())
    }
}

fn bucket(nanos: u64) -> usize {
    let nanos = nanos.min((1 << TIME_BITS) - 1);
    if nanos < STEPS as u64 {
        return nanos as usize;
    }
    let octave = nanos.ilog2() - STEP_BITS;
    (octave as usize + 1) * STEPS + (nanos >> octave) as usize % STEPS
}

/// The greatest time that a bucket counts, in nanoseconds.
fn ceiling(bucket: usize) -> u64 {
    let (octave, step) = (bucket / STEPS, (bucket % STEPS) as u64);
    if octave == 0 {
        return step;
    }
    ((STEPS as u64 + step + 1) << (octave - 1)) - 1
}

impl Histogram {
    /// Counts one time.
    pub(crate) fn add(&self, nanos: u64) {
        let count = &self.0[bucket(nanos)];
        count.store(count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Forgets all.
    pub(crate) fn clear(&self) {
        self.0.iter().for_each(|count| count.store(0, Ordering::Relaxed));
    }

    /// Adds what another counted.
    pub(crate) fn merge(&self, other: &Self) {
        for (sum, count) in self.0.iter().zip(&other.0) {
            sum.fetch_add(count.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// What was counted since another was: a sum of the same counters, earlier.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let pairs = self.0.iter().zip(&earlier.0);
        let counts = pairs.map(|(now, then)| {
            let (now, then) = (now.load(Ordering::Relaxed), then.load(Ordering::Relaxed));
            // Less than before: they were forgotten meanwhile.
            AtomicU32::new(now.checked_sub(then).unwrap_or(now))
        });
        Self(counts.collect())
    }

    fn counts(&self) -> impl Iterator<Item = (u64, u64)> {
        let counts = self.0.iter().map(|count| u64::from(count.load(Ordering::Relaxed)));
        counts.enumerate().map(|(bucket, count)| (ceiling(bucket), count))
    }

    /// How many times were counted.
    pub(crate) fn total(&self) -> u64 {
        self.counts().map(|(_, count)| count).sum()
    }

    /// The time below which so many of a hundred lie, in nanoseconds.
    pub(crate) fn percentile(&self, percent: f64) -> u64 {
        let wanted = ((percent / 100.0 * self.total() as f64).ceil() as u64).max(1);
        let mut seen = 0;
        let reached = self.counts().find(|(_, count)| {
            seen += count;
            seen >= wanted
        });
        reached.map_or(0, |(ceiling, _)| ceiling)
    }

    /// For each doubling of 1.024 microseconds in which there is something: its end in
    /// microseconds, and how many times lie before it.
    pub(crate) fn doublings(&self) -> Vec<(u64, u64)> {
        let mut all: Vec<(u64, u64)> = Vec::new();
        let (mut end, mut seen) = (1024, 0);
        for (ceiling, count) in self.counts().filter(|(_, count)| *count > 0) {
            while ceiling >= end {
                end *= 2;
            }
            seen += count;
            match all.last_mut() {
                Some(last) if last.0 == end / 1000 => last.1 = seen,
                _ => all.push((end / 1000, seen)),
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_is_in_the_bucket_that_ends_at_or_after_it() {
        for nanos in (0..100).chain([1023, 1024, 1025, 999_999, 1 << 30, (1 << 34) - 1]) {
            let bucket = bucket(nanos);
            assert!(ceiling(bucket) >= nanos && bucket < BUCKETS, "{nanos}");
            assert!(bucket == 0 || ceiling(bucket - 1) < nanos, "{nanos}");
            assert!(ceiling(bucket) - nanos <= nanos / 16 + 1, "{nanos}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_and_doublings() {
        let all = Histogram::default();
        (0..99).for_each(|_| all.add(1000));
        all.add(1_000_000);
        assert_eq!(all.total(), 100);
        assert!((1000..1070).contains(&all.percentile(50.0)));
        assert!(all.percentile(100.0) >= 1_000_000);
        assert_eq!(all.doublings(), [(1, 99), (1048, 100)]);
        let sum = Histogram::default();
        sum.merge(&all);
        sum.merge(&all);
        assert_eq!(sum.total(), 200);
        sum.clear();
        assert_eq!((sum.total(), sum.doublings()), (0, Vec::new()));
    }
}
