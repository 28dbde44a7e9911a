//! What can be wrong with the record.

use topology::members::{NodeMember, Role};
use topology::record::Phase;
use topology::{Record, Revision, ShardName};

use super::{Finding, Looked, Mend};

/// How long after its deadline a freeze may stand: members end it within half a second, where they
/// can reach the registry.
const OVERDUE_MS: u64 = 5_000;

impl Looked {
    pub(super) fn record(&self) -> Result<(Record, Revision), Box<Finding>> {
        let finding = |wrong: String, advice: &str| {
            Box::new(Finding {
                key: "record".to_owned(),
                wrong,
                advice: advice.to_owned(),
                mend: None,
            })
        };
        let Some(held) = self.keys.get("record") else {
            let advice = match self.keys.is_empty() {
                true => {
                    "is this the right registry, prefix and service? A new service begins with `init`"
                }
                false => {
                    "members live and there is no record: the registry was emptied. Restore a backup of it, then `registry repair`; no `init`, which would begin at epoch 1 and be refused by every node"
                }
            };
            return Err(finding(format!("service `{}` has no record", self.service), advice));
        };
        let restore = "nothing follows it, and no lease is renewed. If a newer version wrote it, use that version's tools; else restore a backup of the registry, then `registry repair`";
        let record: Record = serde_json::from_slice(&held.value)
            .map_err(|why| finding(format!("it cannot be read: {why}"), restore))?;
        record.validate().map_err(|why| finding(why, restore))?;
        if record.service != self.service {
            return Err(finding(format!("it is of service `{}`", record.service), restore));
        }
        Ok((record, held.revision))
    }

    /// The record's epoch is below one that a node acts under.
    pub(super) fn set_back(&self, record: &Record, revision: Revision) -> Option<Finding> {
        let highest = self.nodes.iter().map(|node| node.epoch).max()?;
        let ahead: Vec<_> = self.nodes.iter().filter(|n| n.epoch > record.epoch).collect();
        if ahead.is_empty() {
            return None;
        }
        let names: Vec<_> = ahead.iter().map(|n| format!("{} ({})", n.shard, n.epoch)).collect();
        let wrong = format!(
            "it is at epoch {}, and nodes act under a higher one: {}. The registry was set back, to an old backup or by hand; these nodes accept no writes until the record has passed them",
            record.epoch,
            names.join(", ")
        );
        let of = |n: &&NodeMember| n.epoch == highest && n.role == Role::Primary;
        let mut primaries: Vec<ShardName> =
            self.nodes.iter().filter(of).map(|n| n.shard.clone()).collect();
        primaries.sort();
        let next =
            Record { epoch: highest.next(), primaries, phase: Phase::Steady, ..record.clone() };
        let (advice, mend) = match next.validate() {
            Ok(()) => (
                format!(
                    "`registry repair` writes epoch {} with the primaries of epoch {highest}, which live and hold each slot once: {}",
                    next.epoch,
                    next.primaries.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
                ),
                Some(Mend::Raise(Box::new(next), revision)),
            ),
            Err(why) => (
                format!(
                    "bring back the nodes that were primaries at epoch {highest}: of those that live, {why}. Nothing is decided without them"
                ),
                None,
            ),
        };
        Some(Finding { key: "record".to_owned(), wrong, advice, mend })
    }

    pub(super) fn overdue(&self, record: &Record) -> Option<Finding> {
        let freeze = record.freeze()?;
        let over = self.now.saturating_sub(freeze.deadline.0);
        (over > OVERDUE_MS).then(|| Finding {
            key: "record".to_owned(),
            wrong: format!(
                "the freeze {} to `{}` is {:.1} s past its deadline, and nobody ended it: writes stand still",
                freeze.id,
                freeze.to,
                over as f64 / 1000.0
            ),
            advice: "`registry repair` or `abort` ends it; nothing is lost. Members that cannot do so cannot reach the registry, or their clocks are behind".to_owned(),
            mend: Some(Mend::Cancel(freeze.id)),
        })
    }
}
