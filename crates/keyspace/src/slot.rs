//! The 16384 hash slots: CRC16 of the key or of its hash tag, as Redis Cluster defines them
//! (<https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How many hash slots there are.
pub const SLOTS: u16 = 16384;

/// A hash slot, 0 to 16383.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u16);

impl Slot {
    /// The slot with this number, if there is one.
    pub const fn new(number: u16) -> Option<Self> {
        if number < SLOTS { Some(Self(number)) } else { None }
    }

    /// The slot of a key: CRC16 (XMODEM) of its hash tag, or of all of it where it has none.
    pub fn of_key(key: &[u8]) -> Self {
        Self(crc16(hash_tag(key)) & (SLOTS - 1))
    }

    /// Its number.
    pub const fn number(self) -> u16 {
        self.0
    }

    /// The two bytes, big endian, that every key of this slot begins with.
    pub const fn prefix(self) -> [u8; 2] {
        self.0.to_be_bytes()
    }

    /// The slot that an encoded key begins with; `None` if it is too short or beyond the last slot.
    pub fn of_encoded(key: &[u8]) -> Option<Self> {
        let prefix = key.first_chunk::<2>()?;
        Self::new(u16::from_be_bytes(*prefix))
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The part of a key that decides its slot: between the first `{` and the next `}`, if not empty.
pub fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|&b| b == b'{') else { return key };
    let rest = &key[open + 1..];
    match rest.iter().position(|&b| b == b'}') {
        Some(0) | None => key,
        Some(close) => &rest[..close],
    }
}

const CRC16: [u16; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = (i as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 != 0 { (crc << 1) ^ 0x1021 } else { crc << 1 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
};

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &b| (crc << 8) ^ CRC16[usize::from((crc >> 8) as u8 ^ b)])
}

/// Slots from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotRange {
    /// The first slot of the range.
    pub first: Slot,
    /// The last slot of the range, included.
    pub last: Slot,
}

impl fmt::Display for SlotRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            self.first.fmt(f)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// A set of slots: ranges that are sorted, disjoint and not adjacent. Written `0-8191,9000`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct SlotSet(Vec<SlotRange>);

impl SlotSet {
    /// Every slot.
    pub fn all() -> Self {
        Self(vec![SlotRange { first: Slot(0), last: Slot(SLOTS - 1) }])
    }

    /// The set of these ranges; they may overlap and come in any order.
    pub fn from_ranges(ranges: impl IntoIterator<Item = SlotRange>) -> Self {
        let mut ranges: Vec<_> = ranges.into_iter().filter(|r| r.first <= r.last).collect();
        ranges.sort_unstable();
        let mut merged: Vec<SlotRange> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match merged.last_mut() {
                Some(last) if range.first.0 <= last.last.0.saturating_add(1) => {
                    last.last = last.last.max(range.last);
                }
                _ => merged.push(range),
            }
        }
        Self(merged)
    }

    /// Its ranges, sorted, disjoint, not adjacent.
    pub fn ranges(&self) -> &[SlotRange] {
        &self.0
    }

    /// Whether it has this slot.
    pub fn contains(&self, slot: Slot) -> bool {
        let after = self.0.partition_point(|r| r.first <= slot);
        after > 0 && self.0[after - 1].last >= slot
    }

    /// The slots that both have.
    pub fn intersection(&self, other: &Self) -> Self {
        let mut both = Vec::new();
        for a in &self.0 {
            for b in &other.0 {
                let (first, last) = (a.first.max(b.first), a.last.min(b.last));
                if first <= last {
                    both.push(SlotRange { first, last });
                }
            }
        }
        Self::from_ranges(both)
    }

    /// The slots that either has.
    pub fn union(&self, other: &Self) -> Self {
        Self::from_ranges(self.0.iter().chain(&other.0).copied())
    }

    /// Its slots but those that the other has.
    pub fn difference(&self, other: &Self) -> Self {
        let mut gaps = Vec::new();
        let mut from = 0;
        for range in &other.0 {
            gaps.extend(run(from, range.first.0));
            from = range.last.0 + 1;
        }
        gaps.extend(run(from, SLOTS));
        self.intersection(&Self(gaps))
    }

    /// Whether it has no slot.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many slots it has.
    pub fn len(&self) -> usize {
        self.0.iter().map(|r| usize::from(r.last.0 - r.first.0) + 1).sum()
    }

    /// Each slot, in order.
    pub fn iter(&self) -> impl Iterator<Item = Slot> + '_ {
        self.0.iter().flat_map(|r| (r.first.0..=r.last.0).map(Slot))
    }
}

/// The slots from the first number up to the second, not included; `None` if there are none.
fn run(from: u16, to: u16) -> Option<SlotRange> {
    (from < to).then(|| SlotRange { first: Slot(from), last: Slot(to - 1) })
}

impl fmt::Display for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, range) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            range.fmt(f)?;
        }
        Ok(())
    }
}

/// Why a text is no set of slots.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no set of slots: write ranges of 0 to 16383, such as `0-8191` or `0-99,200`")]
pub struct ParseSlotsError(String);

impl FromStr for SlotSet {
    type Err = ParseSlotsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseSlotsError(text.to_owned());
        let slot = |s: &str| s.trim().parse().ok().and_then(Slot::new).ok_or_else(error);
        let mut ranges = Vec::new();
        for part in text.split(',').filter(|p| !p.trim().is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let range = SlotRange { first: slot(first)?, last: slot(last)? };
            if range.first > range.last {
                return Err(error());
            }
            ranges.push(range);
        }
        Ok(Self::from_ranges(ranges))
    }
}

impl From<SlotSet> for String {
    fn from(slots: SlotSet) -> Self {
        slots.to_string()
    }
}

impl TryFrom<String> for SlotSet {
    type Error = ParseSlotsError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        // Answers of CLUSTER KEYSLOT of redis-server 7.0.
        for (key, slot) in [
            ("foo", 12182),
            ("123456789", 12739),
            ("{user1000}.following", 3443),
            ("{user1000}.followers", 3443),
            ("foo{}{bar}", 8363),
            ("foo{{bar}}zap", 4015),
            ("foo{bar}{zap}", 5061),
            ("", 0),
        ] {
            assert_eq!(Slot::of_key(key.as_bytes()).number(), slot, "{key}");
        }
    }

    #[test]
    fn sets_merge_intersect_and_print() {
        let set: SlotSet = "5-7, 0-2,3,100-200,150-16383".parse().unwrap();
        assert_eq!(set.to_string(), "0-3,5-7,100-16383");
        assert_eq!(set.len(), 4 + 3 + 16284);
        assert!(set.contains(Slot(7)) && !set.contains(Slot(4)) && !set.contains(Slot(8)));
        let other: SlotSet = "2-5,16000-16383".parse().unwrap();
        assert_eq!(set.intersection(&other).to_string(), "2-3,5,16000-16383");
        assert_eq!(set.difference(&other).to_string(), "0-1,6-7,100-15999");
        assert_eq!(other.difference(&set).to_string(), "4");
        assert_eq!(set.difference(&SlotSet::all()), SlotSet::default());
        assert_eq!(set.difference(&SlotSet::default()), set);
        assert_eq!(set.union(&"4,8-99".parse().unwrap()), SlotSet::all());
        for bad in ["16384", "7-5", "a", "1-2-3", "-1"] {
            assert!(bad.parse::<SlotSet>().is_err(), "{bad}");
        }
    }
}
