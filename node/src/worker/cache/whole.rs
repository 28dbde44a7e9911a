//! Collections of which all data records are in the cache: what it does not find there is not in
//! the database either.

use hashbrown::HashSet;
use keyspace::Hlc;

/// Versions that are remembered in each of two generations; the older one goes as a whole.
const VERSIONS_MAX: usize = 32 << 10;

type Versions = HashSet<Hlc, foldhash::fast::FixedState>;

/// Versions of collections that were made here, and of which the cache has let go of nothing.
#[derive(Default)]
pub(super) struct Whole {
    young: Versions,
    old: Versions,
}

impl Whole {
    pub(super) fn add(&mut self, version: Hlc) {
        if self.young.len() >= VERSIONS_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(version);
    }

    /// Whether it is one of them. Those that are asked for stay.
    pub(super) fn has(&mut self, version: Hlc) -> bool {
        if self.young.contains(&version) {
            return true;
        }
        let known = self.old.remove(&version);
        if known {
            self.add(version);
        }
        known
    }

    /// The cache let go of one of its records.
    pub(super) fn remove(&mut self, version: Hlc) {
        if !self.young.remove(&version) {
            self.old.remove(&version);
        }
    }
}
