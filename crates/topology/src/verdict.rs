//! What the observers together say of each primary: half of those that live and have a say call it
//! down, or it is up.
//!
//! An observer lives while its key does, and has a say of a primary once it has tried to reach it. One
//! observer that is cut off from a primary is outvoted; it takes as many as see nothing wrong.

use crate::observed::Sight;
use crate::record::{ShardName, UnixMs};
use crate::service::ServiceView;

/// One observer's say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voice {
    /// Who: `proxy ID` or `sidecar CLUSTER/NUMBER`.
    pub who: String,
    /// The cluster that it stands in.
    pub cluster: String,
    /// What it sees.
    pub sight: Sight,
}

/// What is said of one primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The primary.
    pub shard: ShardName,
    /// All that have a say.
    pub voices: Vec<Voice>,
}

impl Verdict {
    /// How many call it down.
    pub fn against(&self) -> usize {
        self.voices.iter().filter(|voice| !voice.sight.up).count()
    }

    /// Whether it is down: half or more say so. Nobody's say is no verdict.
    pub fn is_down(&self) -> bool {
        !self.voices.is_empty() && self.against() * 2 >= self.voices.len()
    }

    /// Since when it is down: when half had said so, each on its own clock.
    pub fn down_since(&self) -> Option<UnixMs> {
        let mut since: Vec<_> =
            self.voices.iter().filter(|v| !v.sight.up).map(|v| v.sight.since).collect();
        since.sort_unstable();
        let half = self.voices.len().div_ceil(2);
        since.get(half.checked_sub(1)?).copied()
    }

    /// The first reason that somebody gives.
    pub fn reason(&self) -> Option<&str> {
        self.voices.iter().find_map(|voice| voice.sight.reason.as_deref())
    }
}

/// The verdict of each primary of the record, in the record's order.
pub fn of(view: &ServiceView) -> Vec<Verdict> {
    let Some(record) = view.record() else { return Vec::new() };
    let verdict = |shard: &ShardName| {
        let name = shard.to_string();
        let proxies = view.proxies.values().filter_map(|proxy| {
            let sight = proxy.sees.get(&name)?.clone();
            Some(Voice {
                who: format!("proxy {}", proxy.id),
                cluster: proxy.cluster.clone(),
                sight,
            })
        });
        let sidecars = view.sidecars.values().filter_map(|sidecar| {
            let sight = sidecar.sees.get(&name)?.clone();
            let cluster = sidecar.shard.cluster.clone();
            Some(Voice { who: format!("sidecar {}", sidecar.shard), cluster, sight })
        });
        Verdict { shard: shard.clone(), voices: proxies.chain(sidecars).collect() }
    };
    record.primaries.iter().map(verdict).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(sights: &[(bool, u64)]) -> Verdict {
        let voice = |(number, (up, since)): (usize, &(bool, u64))| Voice {
            who: format!("proxy {number}"),
            cluster: "a".to_owned(),
            sight: Sight { up: *up, since: UnixMs(*since), reason: None, flaps: 0 },
        };
        let shard = "a/0".parse().unwrap();
        Verdict { shard, voices: sights.iter().enumerate().map(voice).collect() }
    }

    #[test]
    fn half_of_those_who_have_a_say_decide() {
        assert!(!verdict(&[]).is_down(), "nobody's silence is a verdict");
        assert!(verdict(&[(false, 5)]).is_down());
        assert!(verdict(&[(false, 5), (true, 1)]).is_down());
        assert!(!verdict(&[(false, 5), (true, 1), (true, 1)]).is_down());
        let four = verdict(&[(false, 9), (true, 1), (false, 5), (false, 7)]);
        assert!(four.is_down());
        assert_eq!(four.down_since(), Some(UnixMs(7)), "when the second of four had said so");
        assert_eq!(verdict(&[(false, 5), (true, 1), (true, 1)]).down_since(), None);
    }
}
