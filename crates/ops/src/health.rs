//! Health: named checks that say yes, no and why. Healthy means progress.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock;

/// The checks of a process. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<BTreeMap<String, State>>>);

#[derive(Debug)]
struct State {
    /// Why it fails, or `None` while it is well.
    failing: Option<String>,
    /// The last time it was well, on the boot clock.
    well_at: Duration,
    /// It must be well again within this age; `None` for a check of readiness alone.
    within: Option<Duration>,
}

impl State {
    fn problem(&self, now: Duration) -> Option<String> {
        if let Some(why) = &self.failing {
            return Some(why.clone());
        }
        let age = now.saturating_sub(self.well_at);
        let limit = self.within.filter(|limit| age > *limit)?;
        Some(format!("no progress for {} ms, allowed are {}", age.as_millis(), limit.as_millis()))
    }
}

/// One check; whoever does the work reports to it.
#[derive(Clone, Debug)]
pub struct Check {
    health: Health,
    name: String,
}

impl Health {
    /// No checks yet: healthy and ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// A check of readiness: `/readyz` fails until it is first [`ok`](Check::ok), and whenever it
    /// fails.
    pub fn check(&self, name: &str) -> Check {
        self.add(name, None, Some("starting".to_owned()))
    }

    /// A check of progress: `/healthz` and `/readyz` fail if it is not [`ok`](Check::ok) again
    /// within `age`.
    pub fn progress(&self, name: &str, age: Duration) -> Check {
        self.add(name, Some(age), None)
    }

    /// What stops this process from being alive and well: failed checks of progress, with reasons.
    pub fn dead(&self) -> BTreeMap<String, String> {
        self.problems(|state| state.within.is_some())
    }

    /// What stops this process from being of use: every failed check, with reasons.
    pub fn unready(&self) -> BTreeMap<String, String> {
        self.problems(|_| true)
    }

    fn problems(&self, of: impl Fn(&State) -> bool) -> BTreeMap<String, String> {
        let now = clock::boot_now();
        self.locked(|checks| {
            let asked = checks.iter().filter(|(_, state)| of(state));
            asked.filter_map(|(name, s)| Some((name.clone(), s.problem(now)?))).collect()
        })
    }

    fn add(&self, name: &str, within: Option<Duration>, failing: Option<String>) -> Check {
        let state = State { failing, well_at: clock::boot_now(), within };
        self.locked(|checks| checks.insert(name.to_owned(), state));
        Check { health: self.clone(), name: name.to_owned() }
    }

    fn locked<T>(&self, work: impl FnOnce(&mut BTreeMap<String, State>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Check {
    /// It works, now.
    pub fn ok(&self) {
        self.update(None);
    }

    /// It does not, for this reason.
    pub fn failing(&self, reason: impl Into<String>) {
        self.update(Some(reason.into()));
    }

    fn update(&self, failing: Option<String>) {
        self.health.locked(|checks| {
            let Some(state) = checks.get_mut(&self.name) else { return };
            if failing.is_none() {
                state.well_at = clock::boot_now();
            }
            state.failing = failing;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_of_readiness_starts_failing_and_says_why() {
        let health = Health::new();
        let check = health.check("registry");
        assert_eq!(health.unready()["registry"], "starting");
        assert!(health.dead().is_empty());
        check.ok();
        assert!(health.unready().is_empty());
        check.failing("no answer");
        assert_eq!(health.unready()["registry"], "no answer");
    }

    #[test]
    fn no_progress_is_not_healthy() {
        let health = Health::new();
        let check = health.progress("apply", Duration::ZERO);
        while health.dead().is_empty() {
            std::hint::spin_loop();
        }
        assert!(health.dead()["apply"].contains("no progress"));
        assert!(health.unready().contains_key("apply"));
        let patient = health.progress("apply", Duration::from_secs(3600));
        check.ok();
        patient.ok();
        assert!(health.dead().is_empty());
    }
}
