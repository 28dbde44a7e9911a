//! A command's arguments and the small pieces that many commands read from them.

use std::ops::Range;
use std::time::Duration;

use super::Fail;
use crate::worker::Key;

/// The arguments of one command, its name first: slices of what the connection read.
#[derive(Clone, Copy, Debug)]
pub struct Args<'a> {
    bytes: &'a [u8],
    ranges: &'a [Range<usize>],
}

impl<'a> Args<'a> {
    /// Arguments at these ranges of `bytes`.
    pub const fn new(bytes: &'a [u8], ranges: &'a [Range<usize>]) -> Self {
        Self { bytes, ranges }
    }

    /// How many, with the name: at least one in a command.
    #[allow(clippy::len_without_is_empty, reason = "a command has a name")]
    pub const fn len(&self) -> usize {
        self.ranges.len()
    }

    /// The argument at this index, below `len`.
    pub fn at(&self, index: usize) -> &'a [u8] {
        &self.bytes[self.ranges[index].clone()]
    }

    /// The argument at this index, if there is one.
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        self.ranges.get(index).map(|range| &self.bytes[range.clone()])
    }

    /// The arguments from this index on.
    pub fn from(
        &self,
        index: usize,
    ) -> impl DoubleEndedIterator<Item = &'a [u8]> + Clone + use<'a> {
        let bytes = self.bytes;
        self.ranges[index.min(self.ranges.len())..].iter().map(move |range| &bytes[range.clone()])
    }

    /// Those from this index on, as a command of their own.
    pub fn rest(&self, index: usize) -> Self {
        Self { bytes: self.bytes, ranges: &self.ranges[index.min(self.ranges.len())..] }
    }

    /// Pairs of arguments from this index on.
    pub fn pairs(&self, index: usize) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone + 'a {
        let bytes = self.bytes;
        let rest = &self.ranges[index.min(self.ranges.len())..];
        rest.chunks_exact(2).map(move |pair| (&bytes[pair[0].clone()], &bytes[pair[1].clone()]))
    }

    /// The key at this index.
    pub fn key(&self, index: usize) -> Key<'a> {
        Key::new(self.at(index))
    }

    /// An integer.
    pub fn integer(&self, index: usize) -> Result<i64, Fail> {
        resp::integer(self.at(index)).ok_or(Fail::NotInteger)
    }

    /// An integer that is not negative, with the error text of those that must be positive.
    pub fn positive(&self, index: usize) -> Result<u64, Fail> {
        let number = self.integer(index).map_err(|_| Fail::NotPositive)?;
        u64::try_from(number).map_err(|_| Fail::NotPositive)
    }

    /// Whether the argument is this word, in either case.
    pub fn is(&self, index: usize, word: &str) -> bool {
        self.get(index).is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    }
}

/// A float as Redis reads it: C's notation, `inf` and `infinity`, no spaces, no NaN.
pub fn float(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let first = unsigned.bytes().next()?;
    let named = ["inf", "infinity"].iter().any(|name| unsigned.eq_ignore_ascii_case(name));
    if !(named || first.is_ascii_digit() || first == b'.') {
        return None;
    }
    let value: f64 = text.parse().ok()?;
    (!value.is_nan() && (named || value.is_finite())).then_some(value)
}

/// How long a command may wait, as Redis reads seconds: with a fraction, and 0 for ever (`None`).
pub(super) fn seconds(text: &[u8]) -> Result<Option<Duration>, Fail> {
    let seconds = float(text).ok_or(Fail::text("ERR timeout is not a float or out of range"))?;
    let ms = (seconds * 1000.0).ceil();
    match ms {
        // 2^63, past which Redis's own arithmetic ends.
        ms if ms >= 9_223_372_036_854_775_808.0 => Err(Fail::text("ERR timeout is out of range")),
        ms if ms < 0.0 => Err(Fail::text("ERR timeout is negative")),
        ms => after(ms as u64),
    }
}

/// So many milliseconds, 0 for ever; an error past the end of Redis's calendar.
pub(super) fn after(ms: u64) -> Result<Option<Duration>, Fail> {
    if ms > i64::MAX as u64 - ops::clock::unix_ms() {
        return Err(Fail::text("ERR timeout is out of range"));
    }
    Ok((ms > 0).then(|| Duration::from_millis(ms)))
}

/// The arguments of LMPOP and ZMPOP.
pub(super) struct Many<'a> {
    /// The keys, of which the first that is there is popped.
    pub(super) keys: Vec<&'a [u8]>,
    /// Which end.
    pub(super) end: &'a [u8],
    /// How many to take at most.
    pub(super) count: u64,
}

impl<'a> Many<'a> {
    /// Reads `numkeys key... end [COUNT count]`.
    pub(super) fn read(args: &Args<'a>) -> Result<Self, Fail> {
        let above_zero = |index: usize, what: &str| {
            let number = args.integer(index).ok().and_then(|n| u64::try_from(n).ok());
            let bad = || Fail::text(format!("ERR {what} should be greater than 0"));
            number.filter(|&n| n > 0).ok_or_else(bad)
        };
        let keys = usize::try_from(above_zero(1, "numkeys")?).unwrap_or(usize::MAX);
        let at = keys.checked_add(2).ok_or(Fail::Syntax)?;
        let end = args.get(at).ok_or(Fail::Syntax)?;
        let count = match args.len() - at {
            1 => 1,
            3 if args.is(at + 1, "count") => above_zero(at + 2, "count")?,
            _ => return Err(Fail::Syntax),
        };
        Ok(Self { keys: args.from(2).take(keys).collect(), end, count })
    }
}

/// The elements of a sequence of `len` that Redis's inclusive indices mean, where negative ones
/// count from the end: a start and a count.
pub(super) fn window(start: i64, stop: i64, len: u64) -> (u64, u64) {
    let len = i64::try_from(len).unwrap_or(i64::MAX);
    let from_end = |index: i64| if index < 0 { index.saturating_add(len) } else { index };
    let start = from_end(start).max(0);
    let stop = from_end(stop).min(len - 1);
    if start > stop { (0, 0) } else { (start.unsigned_abs(), (stop - start).unsigned_abs() + 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_those_of_redis() {
        for (text, value) in [
            ("1", 1.0),
            ("-1.5e3", -1500.0),
            (".5", 0.5),
            ("+inf", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
        ] {
            assert_eq!(float(text.as_bytes()), Some(value), "{text}");
        }
        for bad in ["", "nan", " 1", "1 ", "a", "1e999", "--1", "1.2.3"] {
            assert_eq!(float(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn seconds_are_those_of_redis() {
        let millis = |text: &[u8]| seconds(text).map(|t| t.map(|t| t.as_millis()));
        assert_eq!(millis(b"0").ok(), Some(None));
        assert_eq!(millis(b"0.0001").ok(), Some(Some(1)));
        assert_eq!(millis(b"1.5").ok(), Some(Some(1500)));
        for (text, why) in [
            ("x", "ERR timeout is not a float or out of range"),
            ("-1", "ERR timeout is negative"),
            ("0x7FFFFFFFFFFFFF", "ERR timeout is not a float or out of range"),
            ("9223372036854775", "ERR timeout is out of range"),
            ("1e300", "ERR timeout is out of range"),
        ] {
            assert_eq!(seconds(text.as_bytes()).unwrap_err().line(), why, "{text}");
        }
    }

    #[test]
    fn windows_are_clipped() {
        assert_eq!(window(0, -1, 5), (0, 5));
        assert_eq!(window(-3, -2, 5), (2, 2));
        assert_eq!(window(3, 1, 5), (0, 0));
        assert_eq!(window(-100, 100, 5), (0, 5));
        assert_eq!(window(5, 9, 5), (0, 0));
        assert_eq!(window(0, -1, 0), (0, 0));
        assert_eq!(window(i64::MIN, i64::MAX, 5), (0, 5));
    }
}
