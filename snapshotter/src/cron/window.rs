//! Times of the day.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

const DAY_MINUTES: u64 = 24 * 60;

/// From one minute of the day to another, UTC; it may go past midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Window {
    from: u64,
    to: u64,
}

impl Window {
    /// How long it goes on at this time, in milliseconds since 1970; `None` outside of it.
    pub fn left(&self, unix_ms: u64) -> Option<Duration> {
        let day_ms = DAY_MINUTES * 60_000;
        let since = (unix_ms % day_ms + day_ms - self.from * 60_000) % day_ms;
        let long = (self.to + DAY_MINUTES - self.from) % DAY_MINUTES * 60_000;
        long.checked_sub(since).filter(|left| *left > 0).map(Duration::from_millis)
    }
}

impl FromStr for Window {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let minute = |text: &str| {
            let (hour, minute) = text.split_once(':')?;
            let two = |part: &str| (part.len() == 2).then(|| part.parse::<u64>().ok()).flatten();
            let (hour, minute) = (two(hour)?, two(minute)?);
            (hour < 24 && minute < 60).then_some(hour * 60 + minute)
        };
        let parts = text.split_once('-').and_then(|(from, to)| Some((minute(from)?, minute(to)?)));
        match parts {
            Some((from, to)) if from != to => Ok(Self { from, to }),
            _ => Err(format!("`{text}` is no window: write 02:00-05:00")),
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to } = self;
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

impl From<Window> for String {
    fn from(window: Window) -> Self {
        window.to_string()
    }
}

impl TryFrom<String> for Window {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_hold_what_is_between_their_ends() {
        let at = |hour: u64, minute: u64| {
            1_795_000_000_000 / 86_400_000 * 86_400_000 + (hour * 60 + minute) * 60_000
        };
        let minutes = |text: &str, at| {
            let window: Window = text.parse().unwrap();
            assert_eq!(window.to_string(), text);
            window.left(at).map(|left| left.as_secs() / 60)
        };
        assert_eq!(minutes("02:00-05:00", at(2, 0)), Some(180));
        assert_eq!(minutes("02:00-05:00", at(4, 59)), Some(1));
        assert_eq!(minutes("02:00-05:00", at(5, 0)), None);
        assert_eq!(minutes("02:00-05:00", at(1, 59)), None);
        assert_eq!(minutes("23:00-01:30", at(23, 30)), Some(120));
        assert_eq!(minutes("23:00-01:30", at(1, 0)), Some(30));
        assert_eq!(minutes("23:00-01:30", at(12, 0)), None);
        for bad in ["", "2:00-5:00", "02:00", "24:00-05:00", "02:00-02:00", "02:60-03:00"] {
            assert!(bad.parse::<Window>().is_err(), "{bad}");
        }
    }
}
