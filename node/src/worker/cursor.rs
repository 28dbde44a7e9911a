//! Iterating over records that share a prefix, with both bounds set.

use keyspace::Cf;
use rocksdb::{DBRawIterator, ReadOptions};

use super::ordered::{Over, Turn};
use crate::command::Fail;
use crate::store::Store;

/// Which way a cursor goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the lower bound up.
    Up,
    /// From the upper bound down.
    Down,
}

/// A key and its value.
pub type Record<'c> = (&'c [u8], &'c [u8]);

/// Records of a column family between two keys, as they were when the cursor was made.
pub struct Cursor<'a> {
    records: DBRawIterator<'a>,
    direction: Direction,
    started: bool,
    /// What the batch has written in this range.
    over: Option<Over>,
    /// With that: the iterator's record was given out, or stood for.
    given: bool,
    /// With that: the record that was given out last is one of those.
    written: bool,
}

impl<'a> Cursor<'a> {
    /// From `lower`, included, to `upper`, not included.
    pub fn new(
        store: &'a Store,
        cf: Cf,
        lower: Vec<u8>,
        upper: Vec<u8>,
        direction: Direction,
    ) -> Self {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(lower);
        options.set_iterate_upper_bound(upper);
        options.set_total_order_seek(true);
        let records = store.db().raw_iterator_cf_opt(store.cf(cf), options);
        Self { records, direction, started: false, over: None, given: false, written: false }
    }

    /// With uncommitted records over those of the database.
    pub(super) fn with(mut self, over: Option<Over>) -> Self {
        self.over = over;
        if self.over.is_some() {
            self.advance();
        }
        self
    }

    fn advance(&mut self) {
        match (std::mem::replace(&mut self.started, true), self.direction) {
            (false, Direction::Up) => self.records.seek_to_first(),
            (false, Direction::Down) => self.records.seek_to_last(),
            (true, Direction::Up) => self.records.next(),
            (true, Direction::Down) => self.records.prev(),
        }
    }

    /// The next key and value, whole as stored; `None` at the end.
    pub fn step(&mut self) -> Result<Option<Record<'_>>, Fail> {
        Ok(if self.forward()? { self.current() } else { None })
    }

    /// Goes to the next record. False: there is none.
    pub(super) fn forward(&mut self) -> Result<bool, Fail> {
        if self.over.is_some() {
            return self.forward_over();
        }
        self.advance();
        if self.records.valid() {
            return Ok(true);
        }
        self.records.status()?;
        Ok(false)
    }

    /// The record that it went to.
    pub(super) fn current(&self) -> Option<Record<'_>> {
        match &self.over {
            Some(over) if self.written => {
                over.given().and_then(|(key, value)| value.map(|value| (key, value)))
            }
            _ => self.records.item(),
        }
    }

    /// The iterator stands one record ahead, or on the one that was given out.
    fn forward_over(&mut self) -> Result<bool, Fail> {
        let Some(over) = &mut self.over else { return Ok(false) };
        loop {
            if std::mem::take(&mut self.given) {
                match self.direction {
                    Direction::Up => self.records.next(),
                    Direction::Down => self.records.prev(),
                }
            }
            if !self.records.valid() {
                self.records.status()?;
            }
            let stored = if over.is_blank() { None } else { self.records.key() };
            match over.turn(stored, self.direction) {
                Turn::End => return Ok(false),
                Turn::Stored => {
                    (self.given, self.written) = (true, false);
                    return Ok(true);
                }
                Turn::Written { both } => {
                    (self.given, self.written) = (both, true);
                    if over.given().is_some_and(|(_, value)| value.is_some()) {
                        return Ok(true);
                    }
                }
            }
        }
    }
}

/// The least key above all keys that begin with `prefix`: an upper bound.
pub(super) fn after_prefix(mut prefix: Vec<u8>) -> Vec<u8> {
    while let Some(last) = prefix.pop() {
        if last < u8::MAX {
            prefix.push(last + 1);
            return prefix;
        }
    }
    // Keys begin with a slot below 16384, so no prefix of ours is all 0xff.
    vec![u8::MAX; 3]
}

#[cfg(test)]
mod tests {
    use super::after_prefix;

    #[test]
    fn an_upper_bound_is_just_above_its_prefix() {
        assert_eq!(after_prefix(vec![0, 1]), vec![0, 2]);
        assert_eq!(after_prefix(vec![0, 0xff]), vec![1]);
    }
}
