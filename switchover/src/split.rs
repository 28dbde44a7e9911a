//! A service whose primaries are in several clusters, after one shard has moved (`run --shard`): which
//! cluster is its home, and which shards are not there.

use std::collections::BTreeSet;

use keyspace::SLOTS;
use serde::Serialize;
use topology::{Record, ShardName};

/// How a service is split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Split {
    /// The cluster that had all of it before, if the record still says so.
    pub(crate) home: Option<String>,
    /// The primaries that are elsewhere.
    pub(crate) away: Vec<ShardName>,
}

impl Split {
    /// In words.
    pub(crate) fn text(&self) -> String {
        match &self.home {
            Some(home) => {
                let away: Vec<_> = self.away.iter().map(ToString::to_string).collect();
                format!("home is `{home}`, and not there: {}", away.join(", "))
            }
            None => "no cluster is known to have had all of it before".to_owned(),
        }
    }
}

/// How a service is split; `None` where one cluster is active.
pub(crate) fn of(record: &Record) -> Option<Split> {
    if record.active().is_some() {
        return None;
    }
    let home = home(record);
    let away = |p: &&ShardName| home.as_ref().is_some_and(|home| p.cluster != *home);
    let away = record.primaries.iter().filter(away).cloned().collect();
    Some(Split { home, away })
}

/// The switches taken back one by one, newest first, until one cluster has every slot.
fn home(record: &Record) -> Option<String> {
    let mut primaries: BTreeSet<&ShardName> = record.primaries.iter().collect();
    let epochs: BTreeSet<_> = record.forks.iter().map(|fork| fork.epoch).collect();
    for epoch in epochs.into_iter().rev() {
        for fork in record.forks.iter().filter(|fork| fork.epoch == epoch) {
            primaries.remove(&fork.target);
        }
        let forks = record.forks.iter().filter(|fork| fork.epoch == epoch);
        primaries.extend(forks.map(|fork| &fork.source));
        // Old forks are forgotten, and clusters removed: then something is lacking.
        let slots: Option<Vec<_>> = primaries.iter().map(|p| record.slots_of(p)).collect();
        if slots?.iter().map(|slots| slots.len()).sum::<usize>() != usize::from(SLOTS) {
            return None;
        }
        let clusters: BTreeSet<_> = primaries.iter().map(|p| &p.cluster).collect();
        if clusters.len() == 1 {
            return clusters.into_iter().next().cloned();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use topology::record::{Cluster, Fork, Phase};
    use topology::{Epoch, FreezeId};

    use super::*;

    fn record(primaries: &[&str], switches: &[(&str, &str)]) -> Record {
        let halves = ["0-8191", "8192-16383"];
        let halves = halves.map(|text| text.parse().unwrap());
        let cluster = Cluster::of(halves);
        let clusters = ["a", "b"].map(|name| (name.to_owned(), cluster.clone()));
        let position = wal::Position { timeline: wal::TimelineId(1), sequence: wal::Sequence(1) };
        let fork = |(n, (source, target)): (u64, &(&str, &str))| Fork {
            epoch: Epoch(n),
            freeze: FreezeId(u128::from(n)),
            source: source.parse().unwrap(),
            target: target.parse().unwrap(),
            at: position,
            end: None,
            rest: Default::default(),
        };
        Record {
            format: Record::FORMAT,
            service: "demo".to_owned(),
            epoch: Epoch(9),
            primaries: primaries.iter().map(|p| p.parse().unwrap()).collect(),
            phase: Phase::Steady,
            lease_ms: 1,
            clusters: BTreeMap::from(clusters),
            reads: BTreeMap::new(),
            level: 0,
            rest: Default::default(),
            forks: (2..).zip(switches).map(fork).collect(),
        }
    }

    fn split(primaries: &[&str], switches: &[(&str, &str)]) -> Option<(Option<String>, String)> {
        let found = of(&record(primaries, switches))?;
        let away: Vec<_> = found.away.iter().map(ToString::to_string).collect();
        Some((found.home, away.join(",")))
    }

    #[test]
    fn home_is_where_all_of_it_was_last() {
        let home = |home: &str, away: &str| Some((Some(home.to_owned()), away.to_owned()));
        assert_eq!(split(&["a/0", "a/1"], &[]), None);
        assert_eq!(split(&["b/0", "a/1"], &[("a/0", "b/0")]), home("a", "b/0"));
        assert_eq!(split(&["a/0", "b/1"], &[("a/1", "b/1")]), home("a", "b/1"));
        // All of it went to b (in two steps), and one came back.
        let there_and_half_back = [("a/0", "b/0"), ("a/1", "b/1"), ("b/0", "a/0")];
        assert_eq!(split(&["a/0", "b/1"], &there_and_half_back), home("b", "a/0"));
        // Nobody knows any more.
        assert_eq!(split(&["b/0", "a/1"], &[]), Some((None, String::new())));
    }
}
