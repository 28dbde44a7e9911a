//! Moments for people.

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

/// Milliseconds since 1970 as RFC 3339 in UTC, to the second; `?` for a year that has no four digits.
pub(crate) fn utc(ms: u64) -> String {
    let mut out = String::new();
    let written = UNIX_EPOCH
        .checked_add(Duration::from_millis(ms))
        .map(|at| write!(out, "{}", humantime::format_rfc3339_seconds(at)));
    match written {
        Some(Ok(())) => out,
        _ => "?".to_owned(),
    }
}

/// A span for people: the largest unit that it has two of.
pub(crate) fn ago(ms: u64) -> String {
    const UNITS: [(u64, &str); 4] =
        [(86_400_000, "days"), (3_600_000, "hours"), (60_000, "minutes"), (1_000, "s")];
    let unit = UNITS.into_iter().find(|(unit, _)| ms >= unit * 2);
    unit.map_or(format!("{ms} ms ago"), |(unit, name)| format!("{} {name} ago", ms / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_spans_read_well() {
        assert_eq!(utc(1_795_335_600_999), "2026-11-22T08:20:00Z");
        assert_eq!(utc(u64::MAX), "?");
        for (ms, says) in [(500, "500 ms ago"), (90_000, "90 s ago"), (7_200_000, "2 hours ago")] {
            assert_eq!(ago(ms), says);
        }
    }
}
