//! What could not be carried over: named and counted, never dropped in silence.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use ops::metrics::{Counter, Family, Labels, Metrics};
use serde::{Deserialize, Serialize};

/// How many names are told apart; what comes after them counts as `other`.
const NAMES_MAX: usize = 1000;
/// What that is called.
const OTHER: &str = "other";

/// Why something was not carried over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// It is in another database than 0.
    Database,
    /// A module's value or notes: only the module can read them.
    Module,
    /// A command that the target does not know.
    Command,
    /// A command whose keys are on several shards of the target, and which cannot be parted.
    Shards,
    /// A value longer than anything that can be sent.
    TooBig,
    /// The target knows it and refused it: it is not what the source is any more.
    Refused,
}

impl Why {
    const fn name(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Module => "module",
            Self::Command => "command",
            Self::Shards => "shards",
            Self::TooBig => "too-big",
            Self::Refused => "refused",
        }
    }

    const fn sentence(self) -> &'static str {
        match self {
            Self::Database => "only database 0 is carried over",
            Self::Module => "it belongs to a module, and only the module can read it",
            Self::Command => "the target does not know the command",
            Self::Shards => {
                "its keys are on several shards of the target, which is not equal to the source any more"
            }
            Self::TooBig => "the value is longer than what can be sent",
            Self::Refused => "the target refused it, and is not equal to the source any more",
        }
    }
}

/// One kind of what was not carried over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Missing {
    /// Why.
    pub why: Why,
    /// What: a database's number, a module's type, a command with what the target said.
    pub what: String,
    /// How often.
    pub count: u64,
}

/// The counts; clones share them.
#[derive(Clone, Debug)]
pub struct Tally {
    counts: Arc<Mutex<BTreeMap<(Why, String), u64>>>,
    metric: Family<Labels, Counter>,
}

impl Tally {
    /// Goes on from what an earlier run counted.
    pub fn new(metrics: &Metrics, before: Vec<Missing>) -> Self {
        let metric =
            metrics.counters("not_carried", "Commands and keys that were not carried over");
        let counts = before.into_iter().map(|m| ((m.why, m.what), m.count)).collect();
        Self { counts: Arc::new(Mutex::new(counts)), metric }
    }

    /// Counts one. The first of its name is told in the log.
    pub fn add(&self, why: Why, what: &str) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let known = counts.contains_key(&(why, what.to_owned()));
        let what = if known || counts.len() < NAMES_MAX { what } else { OTHER };
        let count = counts.entry((why, what.to_owned())).or_default();
        *count += 1;
        if *count == 1 {
            tracing::warn!(
                what,
                "not carried over: {}. It is counted from now on; see the status",
                why.sentence()
            );
        }
        let labels = [("why", why.name()), ("what", what)];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
        self.metric.get_or_create(&labels.to_vec()).inc();
    }

    /// All of them.
    pub fn read(&self) -> Vec<Missing> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = |((why, what), count): (&(Why, String), &u64)| Missing {
            why: *why,
            what: what.clone(),
            count: *count,
        };
        counts.iter().map(missing).collect()
    }

    /// Forgets all: a new snapshot is counted afresh.
    pub fn clear(&self) {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// How many commands the target could not or would not take: it is not equal to the source.
    pub fn refused(&self) -> u64 {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let unequal = |why: &Why| matches!(why, Why::Refused | Why::Shards);
        counts.iter().filter(|((why, _), _)| unequal(why)).map(|(_, count)| count).sum()
    }
}
