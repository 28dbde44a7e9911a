//! Iterating over records that share a prefix, with both bounds set.

use keyspace::Cf;
use rocksdb::{DBRawIterator, ReadOptions};

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
        Self { records, direction, started: false }
    }

    /// The next key and value, whole as stored; `None` at the end.
    pub fn step(&mut self) -> Result<Option<Record<'_>>, Fail> {
        match (std::mem::replace(&mut self.started, true), self.direction) {
            (false, Direction::Up) => self.records.seek_to_first(),
            (false, Direction::Down) => self.records.seek_to_last(),
            (true, Direction::Up) => self.records.next(),
            (true, Direction::Down) => self.records.prev(),
        }
        if self.records.valid() {
            return Ok(self.records.item());
        }
        self.records.status()?;
        Ok(None)
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
