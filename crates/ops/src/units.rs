//! Sizes and durations as people write them in config and on command lines.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A number of bytes, written `64MiB`, `1.5GB` or `4096`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(into = "String", try_from = "SizeText")]
pub struct Size(pub u64);

/// A duration, written `500ms`, `10s` or `1h30m`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(into = "String", try_from = "String")]
pub struct Span(pub Duration);

/// A share of something, written `30%`: above 0 and up to 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Share(pub f64);

impl FromStr for Share {
    type Err = ParseUnitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.trim().strip_suffix('%').and_then(|n| n.trim().parse::<f64>().ok());
        let share = number.map(|n| n / 100.0).filter(|share| *share > 0.0 && *share <= 1.0);
        share.map(Self).ok_or_else(|| ParseUnitError::Share(text.to_owned()))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0 * 100.0)
    }
}

impl From<Share> for String {
    fn from(share: Share) -> Self {
        share.to_string()
    }
}

impl TryFrom<String> for Share {
    type Error = ParseUnitError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// Why a text is no size or duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseUnitError {
    /// No size.
    #[error("`{0}` is no size: write bytes with a unit, such as `64MiB` or `1GB`")]
    Size(String),
    /// No share.
    #[error("`{0}` is no share: write a percentage above 0 and up to 100, such as `30%`")]
    Share(String),
    /// No duration.
    #[error("`{0}` is no duration: write a number with a unit, such as `500ms`, `10s` or `2h`")]
    Span(String),
}

const BINARY: [(&str, u64); 4] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

impl Size {
    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// The number of bytes, for lengths in memory; the greatest length where it does not fit.
    pub fn len(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// Whether it is no byte at all.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// About how much, for people: `25.9 GiB`.
    pub fn about(self) -> String {
        let unit = BINARY.iter().find(|(_, unit)| self.0 >= *unit);
        match unit {
            Some((name, unit)) => format!("{:.1} {name}", self.0 as f64 / *unit as f64),
            None => format!("{} B", self.0),
        }
    }

    /// This many mebibytes.
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }
}

impl FromStr for Size {
    type Err = ParseUnitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.trim().parse::<bytesize::ByteSize>();
        parsed.map(|size| Self(size.as_u64())).map_err(|_| ParseUnitError::Size(text.to_owned()))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = BINARY.iter().find(|(_, unit)| self.0 >= *unit && self.0.is_multiple_of(*unit));
        match exact {
            Some((name, unit)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.to_string()
    }
}

/// A size in a config file: text with a unit, or a bare number of bytes.
#[derive(Deserialize)]
#[serde(untagged)]
enum SizeText {
    Bytes(u64),
    Text(String),
}

impl TryFrom<SizeText> for Size {
    type Error = ParseUnitError;

    fn try_from(text: SizeText) -> Result<Self, Self::Error> {
        match text {
            SizeText::Bytes(bytes) => Ok(Self(bytes)),
            SizeText::Text(text) => text.parse(),
        }
    }
}

impl Span {
    /// About how long, for people: its two greatest units, `4h 12m`.
    pub fn about(self) -> String {
        const UNITS: [(&str, u128); 5] =
            [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
        let ms = self.0.as_millis();
        let Some(first) = UNITS.iter().position(|(_, unit)| ms >= *unit) else {
            return "0ms".to_owned();
        };
        let (name, unit) = UNITS[first];
        let next = UNITS.get(first + 1).filter(|_| first < 3);
        let rest = next.map(|(name, unit_of)| (name, ms % unit / unit_of)).filter(|(_, n)| *n > 0);
        match rest {
            Some((less, count)) => format!("{}{name} {count}{less}", ms / unit),
            None => format!("{}{name}", ms / unit),
        }
    }

    /// The duration.
    pub const fn duration(self) -> Duration {
        self.0
    }

    /// This many milliseconds.
    pub const fn ms(count: u64) -> Self {
        Self(Duration::from_millis(count))
    }

    /// This many seconds.
    pub const fn secs(count: u64) -> Self {
        Self(Duration::from_secs(count))
    }
}

impl FromStr for Span {
    type Err = ParseUnitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = humantime::parse_duration(text.trim());
        parsed.map(Self).map_err(|_| ParseUnitError::Span(text.to_owned()))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&humantime::format_duration(self.0).to_string().replace(' ', ""))
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

impl TryFrom<String> for Span {
    type Error = ParseUnitError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_back_as_they_print() {
        for (text, bytes, prints) in [
            ("64MiB", 64 << 20, "64MiB"),
            ("64 mib", 64 << 20, "64MiB"),
            ("4096", 4096, "4KiB"),
            ("1GB", 1_000_000_000, "1000000000B"),
            ("0", 0, "0B"),
        ] {
            let size: Size = text.parse().unwrap();
            assert_eq!((size.bytes(), size.to_string().as_str()), (bytes, prints), "{text}");
            assert_eq!(prints.parse(), Ok(size));
        }
        assert!("lots".parse::<Size>().unwrap_err().to_string().contains("64MiB"));
        assert!("-1".parse::<Size>().is_err());
    }

    #[test]
    fn spans_read_back_as_they_print() {
        for (text, ms, prints) in
            [("500ms", 500, "500ms"), ("1h30m", 5_400_000, "1h30m"), ("90s", 90_000, "1m30s")]
        {
            let span: Span = text.parse().unwrap();
            assert_eq!((span, span.to_string().as_str()), (Span::ms(ms), prints), "{text}");
            assert_eq!(prints.parse(), Ok(span));
        }
        assert!("10".parse::<Span>().unwrap_err().to_string().contains("500ms"));
    }

    #[test]
    fn people_read_about_how_much_and_how_long() {
        for (bytes, text) in [(17, "17 B"), (1536, "1.5 KiB"), (27_800_000_000, "25.9 GiB")] {
            assert_eq!(Size(bytes).about(), text);
        }
        for (ms, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (12_400, "12s"),
            (61_000, "1m 1s"),
            (6 * 3_600_000, "6h"),
            (15_132_000, "4h 12m"),
            (200_000_000, "2d 7h"),
        ] {
            assert_eq!(Span(Duration::from_millis(ms)).about(), text);
        }
    }
}
