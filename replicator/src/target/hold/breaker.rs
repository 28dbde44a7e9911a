//! Counts what a stream deletes, by its own stamps: a standby that catches up with a day applies in a
//! minute what took the source a day.

use std::collections::VecDeque;

use keyspace::{Cf, Slot, SlotRange, SlotSet};
use wal::batch::Record;
use wal::frame::FrameRef;

/// The window, in milliseconds.
const WINDOW_MS: u64 = 60_000;
/// Fewer deletes in a window never trip it: of a handful of keys any share is reached soon.
const DELETES_MIN: u64 = 100;

/// What a frame deletes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deletes {
    /// Keys.
    pub keys: u64,
    /// Slots that are emptied, of those that come from the source.
    pub slots: u64,
    /// All of them.
    pub of_slots: u64,
}

impl Deletes {
    /// Counts.
    ///
    /// # Errors
    /// In words: the frame cannot be read.
    pub fn of(frame: &[u8], slots: &SlotSet) -> Result<Self, String> {
        let parsed = FrameRef::parse(frame).map_err(|why| why.to_string())?;
        let (frame, _) = parsed.ok_or("it is cut off")?;
        let mut scratch = Vec::new();
        let body = frame.decode(&mut scratch).map_err(|why| why.to_string())?;
        let mut deletes = Self { of_slots: slots.len() as u64, ..Self::default() };
        let mut emptied = Vec::new();
        for batch in body.batches() {
            for record in batch.batch.records() {
                match record {
                    Record::Delete { cf: Cf::Meta, .. } => deletes.keys += 1,
                    Record::DeleteRange { cf: Cf::Meta, begin, end } => {
                        emptied.extend(range(begin, end));
                    }
                    _ => {}
                }
            }
        }
        deletes.slots = SlotSet::from_ranges(emptied).intersection(slots).len() as u64;
        Ok(deletes)
    }

    /// Whether it deletes nothing.
    pub fn is_none(&self) -> bool {
        self.keys == 0 && self.slots == 0
    }

    fn is_flush(&self) -> bool {
        self.slots > 0 && self.slots == self.of_slots
    }
}

fn range(begin: &[u8], end: &[u8]) -> Option<SlotRange> {
    let first = Slot::of_encoded(begin)?;
    let after = u16::from_be_bytes(*end.first_chunk::<2>()?);
    let last = Slot::new(if end.len() > 2 { after } else { after.checked_sub(1)? })?;
    Some(SlotRange { first, last })
}

/// What was deleted in the last minute of a stream.
#[derive(Clone, Debug, Default)]
pub struct Breaker {
    /// By second of the stamps.
    window: VecDeque<(u64, u64)>,
    sum: u64,
    /// The keys that there were when the minute began.
    base: u64,
}

impl Breaker {
    /// One that goes on with what was counted: deletes by the stamp of their second.
    pub fn again(window: &[(u64, u64)]) -> Self {
        let sum =
            window.iter().map(|(_, count)| count).fold(0, |sum: u64, n| sum.saturating_add(*n));
        Self { window: window.iter().copied().collect(), sum, base: 0 }
    }

    /// What was counted in the last minute.
    pub fn window(&self) -> Vec<(u64, u64)> {
        self.window.iter().copied().collect()
    }

    /// Says how many keys the node has, with all that was counted applied.
    pub fn measured(&mut self, keys: u64) {
        self.base = keys.saturating_add(self.sum);
    }

    /// Adds a frame that ends at this stamp, unless it must not be applied: why.
    pub fn judge(&mut self, at_ms: u64, deletes: Deletes, share: f64) -> Option<String> {
        while let Some((at, count)) = self.window.front().copied() {
            if at.saturating_add(WINDOW_MS) > at_ms {
                break;
            }
            self.sum -= count;
            self.window.pop_front();
        }
        if deletes.is_flush() {
            return Some("it deletes everything (FLUSHALL)".to_owned());
        }
        let base = self.base;
        let by_slots = base.saturating_mul(deletes.slots) / deletes.of_slots.max(1);
        let now = deletes.keys + by_slots;
        let before = self.sum;
        if before + now >= DELETES_MIN && (before + now) as f64 > share * base as f64 {
            return Some(format!(
                "it deletes {} of about {base} keys within a minute of its own time, and {:.0} % may be",
                before + now,
                share * 100.0
            ));
        }
        if now > 0 {
            self.sum += now;
            match self.window.back_mut() {
                Some((at, count)) if *at / 1000 == at_ms / 1000 => *count += now,
                _ => self.window.push_back((at_ms, now)),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(keys: u64) -> Deletes {
        Deletes { keys, slots: 0, of_slots: 16384 }
    }

    #[test]
    fn a_share_in_a_minute_trips_it_and_more_time_does_not() {
        let mut breaker = Breaker::default();
        let mut left = 1000;
        for second in 0..10 {
            breaker.measured(left);
            assert_eq!(breaker.judge(second * 1000, keys(40), 0.5), None, "{second}");
            left -= 40;
        }
        breaker.measured(left);
        let why = breaker.judge(10_000, keys(101), 0.5).unwrap();
        assert!(why.contains("501 of about 1000"), "{why}");
        // A minute later they do not count any more.
        assert_eq!(breaker.judge(70_000, keys(101), 0.5), None);
    }

    #[test]
    fn what_is_on_its_way_to_the_node_does_not_hide_itself() {
        let mut breaker = Breaker::default();
        breaker.measured(300);
        let tripped = (0..300).find(|at| breaker.judge(*at, keys(1), 0.5).is_some());
        assert_eq!(tripped, Some(150));
    }

    #[test]
    fn a_flush_trips_it_whatever_there_is_and_a_few_deletes_never_do() {
        let mut breaker = Breaker::default();
        breaker.measured(99);
        assert_eq!(breaker.judge(1, keys(99), 0.1), None);
        let flush = Deletes { keys: 0, slots: 8192, of_slots: 8192 };
        assert!(breaker.judge(2, flush, 0.9).unwrap().contains("FLUSHALL"));
        let half = Deletes { keys: 0, slots: 4096, of_slots: 8192 };
        breaker.measured(10_000);
        assert!(breaker.judge(2, half, 0.4).is_some());
        assert_eq!(breaker.judge(2, half, 0.6), None);
    }

    #[test]
    fn slots_of_a_range_are_counted_as_far_as_they_come_from_the_source() {
        let found = range(&[0, 0], &[0x40, 0]).unwrap();
        assert_eq!((found.first.number(), found.last.number()), (0, 16383));
        assert_eq!(range(&[0, 5], &[0, 5, 1]).unwrap().last.number(), 5);
        assert_eq!(range(&[0, 0], &[0, 0]), None);
        assert_eq!(range(&[0], &[0, 0]), None);
    }
}
