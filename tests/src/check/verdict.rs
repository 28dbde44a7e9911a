//! What the checker found.

use serde::Serialize;

/// How many findings are kept word by word.
const FINDINGS_MAX: usize = 30;

/// Counts, and the first findings in words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    /// Of those, the ones that are not there.
    pub lost: u64,
    /// Writes that took effect more than once.
    pub duplicated: u64,
    /// List elements that are not in the order in which they were pushed.
    pub disordered: u64,
    /// Writes that are there though they were refused, or were never made.
    pub resurrected: u64,
    /// Values that nobody wrote.
    pub damaged: u64,
    /// Unknown outcomes that turn out to have happened.
    pub unknown_applied: u64,
    /// Unknown outcomes that turn out not to have happened.
    pub unknown_not_applied: u64,
    /// The first findings.
    pub findings: Vec<String>,
}

impl Verdict {
    /// Whether every promise was kept.
    pub const fn is_good(&self) -> bool {
        self.lost == 0
            && self.duplicated == 0
            && self.disordered == 0
            && self.resurrected == 0
            && self.damaged == 0
    }

    /// Fails the story if a promise was broken, with the findings.
    pub fn assert_good(&self) {
        assert!(self.is_good(), "the checker found broken promises: {self:#?}");
    }

    pub(super) fn find(&mut self, finding: impl FnOnce() -> String) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding());
        }
    }
}
