//! What a batch has written, in the order of keys: commands iterate over it and the database
//! together, so that nothing has to be committed before they run.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use keyspace::Cf;

use super::cursor::Direction;
use super::overlay::Overlay;

/// A key with its value; `None`: deleted.
type Written = (Vec<u8>, Option<Vec<u8>>);

/// All records of a batch, by family. The limit of a batch bounds it.
#[derive(Clone, Default)]
pub(super) struct Ordered([BTreeMap<Vec<u8>, Option<Vec<u8>>>; Cf::ALL.len()]);

impl Ordered {
    /// What is in an overlay.
    pub(super) fn of(overlay: &Overlay) -> Self {
        let mut ordered = Self::default();
        // In the order of the writes: the last of a record stays.
        overlay.all().for_each(|(cf, key, value)| ordered.set(cf, key, value));
        ordered
    }

    pub(super) fn set(&mut self, cf: Cf, key: &[u8], value: Option<&[u8]>) {
        let value = value.map(<[u8]>::to_vec);
        let family = &mut self.0[cf.id() as usize];
        match family.get_mut(key) {
            Some(known) => *known = value,
            None => drop(family.insert(key.to_vec(), value)),
        }
    }

    /// The first in this direction of a family's records between two bounds, the upper one excluded.
    fn first(
        &self,
        cf: Cf,
        (lower, upper): (Bound<&[u8]>, &[u8]),
        direction: Direction,
    ) -> Option<Written> {
        let mut range = self.0[cf.id() as usize].range::<[u8], _>((lower, Bound::Excluded(upper)));
        let found = match direction {
            Direction::Up => range.next(),
            Direction::Down => range.next_back(),
        };
        found.map(|(key, value)| (key.clone(), value.clone()))
    }
}

/// Uncommitted records of a range, to be read over those of the database: as they were when it was
/// made, whatever is written since.
pub struct Over {
    all: Arc<Ordered>,
    cf: Cf,
    /// Where the records are: the upper bound is excluded.
    bounds: (Vec<u8>, Vec<u8>),
    /// The next of them, once it was looked for.
    next: Option<Option<Written>>,
    /// The one that was given out last: the next is beyond it.
    given: Option<Written>,
    /// Nothing of the database is seen.
    blank: bool,
}

/// Which record comes next.
pub(super) enum Turn {
    /// The database's.
    Stored,
    /// An uncommitted one, in place of the database's too if `both`.
    Written {
        both: bool,
    },
    End,
}

impl Default for Over {
    /// No records.
    fn default() -> Self {
        Self::new(Arc::default(), Cf::Meta, (b"", b""), false)
    }
}

impl Over {
    /// Those of a family from a lower bound, included, to an upper one, not included.
    pub(super) fn new(
        all: Arc<Ordered>,
        cf: Cf,
        (lower, upper): (&[u8], &[u8]),
        blank: bool,
    ) -> Self {
        let bounds = (lower.to_vec(), upper.max(lower).to_vec());
        Self { all, cf, bounds, next: None, given: None, blank }
    }

    /// The records, in order.
    pub fn records(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let range = (Bound::Included(&self.bounds.0[..]), Bound::Excluded(&self.bounds.1[..]));
        let records = self.all.0[self.cf.id() as usize].range::<[u8], _>(range);
        records.map(|(key, value)| (&key[..], value.as_deref()))
    }

    /// Whether nothing of the database is seen.
    pub fn is_blank(&self) -> bool {
        self.blank
    }

    /// The uncommitted record that it came to.
    pub(super) fn given(&self) -> Option<(&[u8], Option<&[u8]>)> {
        self.given.as_ref().map(|(key, value)| (&key[..], value.as_deref()))
    }

    /// Whose turn it is, where the database stands at `stored`.
    pub(super) fn turn(&mut self, stored: Option<&[u8]>, direction: Direction) -> Turn {
        let (all, cf) = (&self.all, self.cf);
        let mut bounds = (Bound::Included(&self.bounds.0[..]), &self.bounds.1[..]);
        match (&self.given, direction) {
            (Some((key, _)), Direction::Up) => bounds.0 = Bound::Excluded(key),
            (Some((key, _)), Direction::Down) => bounds.1 = key,
            (None, _) => {}
        }
        let next = self.next.get_or_insert_with(|| all.first(cf, bounds, direction));
        let Some((key, _)) = next else {
            return if stored.is_some() { Turn::Stored } else { Turn::End };
        };
        let order = stored.map_or(Ordering::Greater, |stored| {
            let order = stored.cmp(&key[..]);
            if direction == Direction::Up { order } else { order.reverse() }
        });
        if order == Ordering::Less {
            return Turn::Stored;
        }
        self.given = self.next.take().flatten();
        Turn::Written { both: order == Ordering::Equal }
    }
}
