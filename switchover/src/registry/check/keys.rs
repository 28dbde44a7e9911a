//! What can be wrong with the keys beside the record.

use serde_json::Value;
use topology::members::Role;
use topology::{FreezeId, Record};

use super::{Finding, Looked, Mend};
use crate::operation::was_committed;

/// A member writes its key every second and it lasts five: one that says it was written so long ago
/// does not end by itself.
const STALE_MS: u64 = 60_000;
/// A journal that says `running` for so long has no tool any more.
const DEAD_TOOL_MS: u64 = 600_000;

impl Looked {
    /// Members that contradict the record.
    pub(super) fn members(&self, record: &Record) -> Vec<Finding> {
        let mut findings = Vec::new();
        for node in &self.nodes {
            let key = format!("member/{}/node", node.shard);
            if record.slots_of(&node.shard).is_none() {
                findings.push(Finding {
                    key,
                    wrong: "a node registers as a shard that the record does not have".to_owned(),
                    advice: "stop it, or correct its --cluster and --shard".to_owned(),
                    mend: None,
                });
            } else if node.epoch == record.epoch
                && node.role == Role::Primary
                && !record.is_primary(&node.shard)
            {
                findings.push(Finding {
                    key,
                    wrong: format!(
                        "it says that it is primary under epoch {}, and that epoch's record does not name it",
                        node.epoch
                    ),
                    advice: "it renews no lease under this record. If this stays, the registry was replaced by another with the same epoch: compare with a backup, and fence the node".to_owned(),
                    mend: None,
                });
            }
        }
        for (name, held) in &self.keys {
            let known = [
                "record",
                "member/",
                "proxy/",
                "lease/",
                "promisers/",
                "auto",
                "journal/",
                "operation",
                "maintenance",
                "note/",
            ];
            if !known.iter().any(|known| name.starts_with(known)) {
                findings.push(Finding {
                    key: name.clone(),
                    wrong: format!("no version that this one knows of writes it ({} bytes)", held.value.len()),
                    advice: "leave it, if a newer version runs somewhere; else delete it by etcd's own means".to_owned(),
                    mend: None,
                });
            }
        }
        findings
    }

    /// Keys of members that do not end by themselves.
    pub(super) fn stale(&self) -> Vec<Finding> {
        let of_members =
            |name: &str| ["member/", "proxy/", "lease/"].iter().any(|kind| name.starts_with(kind));
        let keys = self.keys.iter().filter(|(name, _)| of_members(name));
        let found = keys.filter_map(|(name, held)| {
            let value: Option<Value> = serde_json::from_slice(&held.value).ok();
            let Some(at) = value.as_ref().and_then(|value| value["at"].as_u64()) else {
                return Some(Finding {
                    key: name.clone(),
                    wrong: "it cannot be read".to_owned(),
                    advice: "a newer version wrote it, or somebody by hand: use that version's tools, or delete it by etcd's own means".to_owned(),
                    mend: None,
                });
            };
            let age = self.now.saturating_sub(at);
            (age > STALE_MS).then(|| Finding {
                key: name.clone(),
                wrong: format!(
                    "it was written {} s ago by its writer's clock, and its lease has not ended it",
                    age / 1000
                ),
                advice: "a member that lives writes it every second: `registry repair` deletes it if it has not changed since. If it comes back, its machine's clock is behind".to_owned(),
                mend: Some(Mend::Delete(held.revision)),
            })
        });
        found.collect()
    }

    /// Journals that say `running` while nobody runs.
    pub(super) fn journals(&self, record: &Record) -> Vec<Finding> {
        let current = record.freeze().map(|freeze| freeze.id);
        let journals = self
            .keys
            .iter()
            .filter_map(|(key, held)| Some((key, key.strip_prefix("journal/")?, held)));
        let found = journals.filter_map(|(key, op, held)| {
            let about: Value = serde_json::from_slice(&held.value).ok()?;
            let id = FreezeId::try_from(op.to_owned()).ok()?;
            let last = about["steps"].as_array()?.last()?["at_ms"].as_u64()?;
            let silent = self.now.saturating_sub(last);
            if about["state"] != "running" || current == Some(id) || silent < DEAD_TOOL_MS {
                return None;
            }
            let outcome = if was_committed(record, id) { "done" } else { "rolled-back" };
            let mut closed = about.clone();
            closed["state"] = outcome.into();
            closed["closed-by"] = "registry repair".into();
            Some(Finding {
                key: key.clone(),
                wrong: format!(
                    "it says that the {} to `{}` runs, has said nothing for {} s, and its freeze is over: its tool died",
                    about["operation"].as_str().unwrap_or("operation"),
                    about["to"].as_str().unwrap_or("?"),
                    silent / 1000
                ),
                advice: format!("`resume` sees the last one through; `registry repair` writes down that it was {outcome}, which the record says"),
                mend: Some(Mend::Close(closed)),
            })
        });
        found.collect()
    }
}
