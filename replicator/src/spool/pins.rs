//! Which files followers still need.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Spool;
use crate::identity::DatabaseId;

/// What one follower needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Need {
    /// The database and the lowest file number; `None`: everything there is.
    from: Option<(DatabaseId, u64)>,
    /// The most bytes of files that are kept for it alone to need them.
    within: Option<u64>,
    /// How old its files may become, if that is not as for all.
    age: Option<Duration>,
    /// Its files went past the budget: nothing is kept for it until it has been seeded.
    lost: Option<String>,
}

/// What all followers need.
#[derive(Clone, Debug, Default)]
pub(super) struct Pins(BTreeMap<String, Need>);

impl Pins {
    pub(super) fn add(&mut self, follower: &str, within: Option<u64>, age: Option<Duration>) {
        let need = self.0.entry(follower.to_owned()).or_default();
        (need.within, need.age) = (within, age);
    }

    /// How old files may become that these followers need: as old as the most patient of them says.
    pub(super) fn age(&self, followers: &[String], usual: Duration) -> Duration {
        let of = |name| self.0.get(name).and_then(|need: &Need| need.age).unwrap_or(usual);
        followers.iter().map(of).max().unwrap_or(usual)
    }

    /// Followers with a budget of their own that is less than what is kept for them; with both.
    pub(super) fn past_their_own(
        &self,
        bytes: impl Fn(Option<&(DatabaseId, u64)>) -> u64,
    ) -> Vec<(String, u64, u64)> {
        let past = |(name, need): (&String, &Need)| {
            let within = need.within.filter(|_| need.lost.is_none())?;
            let kept = bytes(need.from.as_ref());
            (kept > within).then(|| (name.clone(), kept, within))
        };
        self.0.iter().filter_map(past).collect()
    }

    /// Whether any went.
    pub(super) fn retain(&mut self, keep: impl Fn(&str) -> bool) -> bool {
        let before = self.0.len();
        self.0.retain(|follower, _| keep(follower));
        self.0.len() != before
    }

    /// The followers that need this file.
    pub(super) fn needing(&self, database: &DatabaseId, number: u64) -> Vec<String> {
        let needs = |need: &&Need| match &need.from {
            _ if need.lost.is_some() => false,
            None => true,
            Some((of, from)) => of == database && number >= *from,
        };
        self.0.iter().filter(|(_, need)| needs(need)).map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn lose(&mut self, follower: &str, why: &str) {
        if let Some(need) = self.0.get_mut(follower) {
            need.lost = Some(why.to_owned());
        }
    }
}

/// Keeps files for one follower.
#[derive(Clone, Debug)]
pub struct Pin {
    spool: Spool,
    follower: String,
}

impl Pin {
    pub(super) fn new(spool: Spool, follower: String) -> Self {
        Self { spool, follower }
    }

    /// The follower needs nothing before this file; also ends being lost.
    pub fn advance(&self, database: &DatabaseId, number: u64) {
        self.change(|need| {
            *need = Need { from: Some((database.clone(), number)), lost: None, ..*need };
        });
    }

    /// Keeps everything there is from now on: it is about to be seeded. Ends being lost.
    pub fn hold(&self) {
        self.change(|need| {
            *need = Need { within: need.within, age: need.age, ..Need::default() };
        });
    }

    /// Keeps nothing until it holds or advances again.
    pub fn release(&self) {
        self.change(|need| {
            need.from = None;
            need.lost = Some("it keeps nothing now".to_owned());
        });
    }

    /// A follower that is one no more needs nothing, whatever is still said of it.
    fn change(&self, change: impl FnOnce(&mut Need)) {
        self.spool.locked(|state| {
            if let Some(need) = state.pins.0.get_mut(&self.follower) {
                change(need);
            }
        });
    }

    /// Why its files were dropped, if they were.
    pub fn lost(&self) -> Option<String> {
        self.spool
            .locked(|state| state.pins.0.get(&self.follower).and_then(|need| need.lost.clone()))
    }
}
