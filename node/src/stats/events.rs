//! Events that took long: LATENCY HISTORY, LATEST, GRAPH and DOCTOR. Nothing is remembered while
//! `latency-monitor-threshold` is 0.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::command::{Flags, Spec};
use crate::settings;

/// Samples that are kept of an event.
const SAMPLES_MAX: usize = 160;

/// One second in which an event took long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    /// Unix seconds.
    pub(crate) at_s: u64,
    /// The longest in that second, in milliseconds.
    pub(crate) took_ms: u64,
}

/// What is remembered of an event.
#[derive(Clone, Debug, Default)]
pub(crate) struct Series {
    /// The last samples, the oldest first.
    pub(crate) samples: VecDeque<Sample>,
    /// The longest of all, in milliseconds.
    pub(crate) max_ms: u64,
}

static SERIES: Mutex<BTreeMap<&'static str, Series>> = Mutex::new(BTreeMap::new());

fn series() -> MutexGuard<'static, BTreeMap<&'static str, Series>> {
    SERIES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Remembers an event, if it took long enough.
pub(crate) fn note(event: &'static str, took: Duration) {
    let threshold = settings::LATENCY_MS.get();
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    if threshold == 0 || took_ms < threshold.unsigned_abs() {
        return;
    }
    let at_s = ops::clock::unix_ms() / 1000;
    let mut all = series();
    let series = all.entry(event).or_default();
    series.max_ms = series.max_ms.max(took_ms);
    match series.samples.back_mut() {
        Some(last) if last.at_s == at_s => last.took_ms = last.took_ms.max(took_ms),
        _ => series.samples.push_back(Sample { at_s, took_ms }),
    }
    if series.samples.len() > SAMPLES_MAX {
        series.samples.pop_front();
    }
}

/// Remembers a command, if it took long enough.
pub(crate) fn command(spec: &Spec, took: Duration) {
    note(if spec.flags.has(Flags::FAST) { "fast-command" } else { "command" }, took);
}

/// All events, by name.
pub(crate) fn all() -> BTreeMap<&'static str, Series> {
    series().clone()
}

/// One event.
pub(crate) fn named(event: &[u8]) -> Option<Series> {
    let all = series();
    all.iter().find(|(name, _)| event.eq_ignore_ascii_case(name.as_bytes())).map(|(_, s)| s.clone())
}

/// Forgets these events, or all: how many there were.
pub(crate) fn forget(events: &[&[u8]]) -> usize {
    let mut all = series();
    let before = all.len();
    let named = |name: &str| events.iter().any(|e| e.eq_ignore_ascii_case(name.as_bytes()));
    all.retain(|name, _| !events.is_empty() && !named(name));
    before - all.len()
}
