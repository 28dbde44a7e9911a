//! Where the members of sorted sets begin and end: what was popped off an end stays in the database
//! as deleted records until it is compacted, and a look at the end need not pass them again.

use hashbrown::HashMap;
use keyspace::Hlc;

use crate::worker::Direction;

/// Sorted sets whose ends are remembered; beyond them all are forgotten.
const VERSIONS_MAX: usize = 4096;

/// No score record of a version is below the first bound or above the second one, as subkeys.
#[derive(Default)]
struct Bounds {
    low: Option<Vec<u8>>,
    high: Option<Vec<u8>>,
}

/// The ends of some collections, by version.
#[derive(Default)]
pub(super) struct Ends(HashMap<Hlc, Bounds, foldhash::fast::FixedState>);

impl Ends {
    /// Where to begin in this direction.
    pub(super) fn of(&self, version: Hlc, direction: Direction) -> Option<&[u8]> {
        let bounds = self.0.get(&version)?;
        match direction {
            Direction::Up => bounds.low.as_deref(),
            Direction::Down => bounds.high.as_deref(),
        }
    }

    /// The first record in this direction, of all that there are, was this one.
    pub(super) fn found(&mut self, version: Hlc, direction: Direction, subkey: &[u8]) {
        if self.0.len() >= VERSIONS_MAX && !self.0.contains_key(&version) {
            self.0.clear();
        }
        let bounds = self.0.entry(version).or_default();
        let bound = match direction {
            Direction::Up => bounds.low.get_or_insert_default(),
            Direction::Down => bounds.high.get_or_insert_default(),
        };
        bound.clear();
        bound.extend_from_slice(subkey);
    }

    /// A record is written.
    pub(super) fn put(&mut self, version: Hlc, subkey: &[u8]) {
        let Some(bounds) = self.0.get_mut(&version) else { return };
        for (bound, beyond) in [
            (&mut bounds.low, std::cmp::Ordering::Less),
            (&mut bounds.high, std::cmp::Ordering::Greater),
        ] {
            if let Some(bound) = bound
                && subkey.cmp(&bound[..]) == beyond
            {
                bound.clear();
                bound.extend_from_slice(subkey);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_goes_back_to_what_is_written_beyond_it() {
        let mut ends = Ends::default();
        let version = Hlc(1);
        ends.put(version, b"a");
        assert_eq!(ends.of(version, Direction::Up), None, "nothing is known yet");
        ends.found(version, Direction::Up, b"m");
        ends.put(version, b"x");
        assert_eq!(ends.of(version, Direction::Up), Some(&b"m"[..]));
        assert_eq!(ends.of(version, Direction::Down), None);
        ends.put(version, b"c");
        assert_eq!(ends.of(version, Direction::Up), Some(&b"c"[..]));
        ends.found(version, Direction::Down, b"x");
        ends.put(version, b"z");
        assert_eq!(ends.of(version, Direction::Down), Some(&b"z"[..]));
    }
}
