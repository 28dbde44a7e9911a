//! `latency-tracking-info-percentiles`: which percentiles INFO latencystats shows.

use std::sync::{Mutex, PoisonError};

/// Which they are when nobody has said anything.
pub(super) const DEFAULT: &str = "50 99 99.9";

/// Percentiles, each of 0 to 100.
pub(in crate::server) struct Percentiles(Mutex<Vec<f64>>);

impl Default for Percentiles {
    fn default() -> Self {
        Self(Mutex::new(vec![50.0, 99.0, 99.9]))
    }
}

impl Percentiles {
    /// Which they are.
    pub(in crate::server) fn get(&self) -> Vec<f64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, percentiles: Vec<f64>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = percentiles;
    }

    pub(super) fn show(&self) -> String {
        self.get().iter().map(f64::to_string).collect::<Vec<_>>().join(" ")
    }
}

/// Why a list of them is none.
pub(super) fn read(value: &[u8]) -> Result<Vec<f64>, String> {
    let text = String::from_utf8_lossy(value);
    let one = |word: &str| {
        let percentile = word.parse().ok().filter(|p| (0.0..=100.0).contains(p));
        percentile.ok_or_else(|| {
            "latency-tracking-info-percentiles should contain a list of values between 0.0 and 100.0"
                .to_owned()
        })
    };
    text.split_whitespace().map(one).collect()
}
