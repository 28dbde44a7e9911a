//! What a transaction has written, in the order of keys: its commands iterate over it and the
//! database together, so that nothing has to be committed before the last of them has run.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use keyspace::Cf;

use super::cursor::Direction;

/// A key with its value; `None`: deleted.
type Written = (Vec<u8>, Option<Vec<u8>>);

/// All records that a transaction wrote. The limit of a batch bounds it.
#[derive(Default)]
pub(super) struct Ordered {
    records: BTreeMap<(u32, Vec<u8>), Option<Vec<u8>>>,
    blank: bool,
}

impl Ordered {
    pub(super) fn set(&mut self, cf: Cf, key: &[u8], value: Option<&[u8]>) {
        self.records.insert((cf.id(), key.to_vec()), value.map(<[u8]>::to_vec));
    }

    /// Everything was swept: nothing of the database is seen any more.
    pub(super) fn sweep(&mut self) {
        self.records.clear();
        self.blank = true;
    }

    pub(super) fn is_blank(&self) -> bool {
        self.blank
    }

    /// Those of a family from `lower`, included, to `upper`, not included.
    pub(super) fn over(&self, cf: Cf, lower: &[u8], upper: &[u8]) -> Over {
        let range = (cf.id(), lower.to_vec())..(cf.id(), upper.to_vec());
        let records = self.records.range(range);
        Over {
            records: records.map(|((_, key), value)| (key.clone(), value.clone())).collect(),
            blank: self.blank,
            next: 0,
        }
    }
}

/// Uncommitted records of a range, to be read over those of the database.
#[derive(Default)]
pub struct Over {
    pub(super) records: Vec<Written>,
    /// Nothing of the database is seen.
    pub(super) blank: bool,
    next: usize,
}

/// Which record comes next.
pub(super) enum Turn {
    /// The database's.
    Stored,
    /// An uncommitted one, in place of the database's too if `both`.
    Written {
        at: usize,
        both: bool,
    },
    End,
}

impl Over {
    /// The records, in order.
    pub fn records(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.records.iter().map(|(key, value)| (&key[..], value.as_deref()))
    }

    /// Whether nothing of the database is seen.
    pub fn is_blank(&self) -> bool {
        self.blank
    }

    /// Whose turn it is, where the database stands at `stored`.
    pub(super) fn turn(&mut self, stored: Option<&[u8]>, direction: Direction) -> Turn {
        let left = self.records.len().checked_sub(self.next + 1);
        let at = match direction {
            Direction::Up => left.map(|_| self.next),
            Direction::Down => left,
        };
        let Some(at) = at else {
            return if stored.is_some() { Turn::Stored } else { Turn::End };
        };
        let order = stored.map_or(Ordering::Greater, |stored| {
            let order = stored.cmp(&self.records[at].0);
            if direction == Direction::Up { order } else { order.reverse() }
        });
        if order == Ordering::Less {
            return Turn::Stored;
        }
        self.next += 1;
        Turn::Written { at, both: order == Ordering::Equal }
    }
}
