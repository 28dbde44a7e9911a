//! Which materialised snapshot fits a node.

use admin::Status;
use anyhow::bail;
use ops::exit::{Exit, Stop};
use store::SnapshotId;
use topology::ShardName;

use crate::materialise::{Materialised, Place};

/// The newest that fits, or the one that was asked for.
///
/// # Errors
/// None fits: refused, and why.
pub(super) fn choose(
    place: &Place,
    id: Option<&SnapshotId>,
    shard: &ShardName,
    status: &Status,
) -> anyhow::Result<Materialised> {
    let refused = |why: String| -> anyhow::Result<Materialised> {
        Err(Stop::new(Exit::Refused, format!("{why}; nothing was changed")).into())
    };
    if let Some(own) = status.shard.as_ref().filter(|own| *own != shard) {
        return refused(format!("the node that was asked is that of {own}, not of {shard}"));
    }
    let all = place.list()?;
    let mut why = format!(
        "nothing is materialised in {}: `godwit-snapshotter materialise` does it",
        place.root().display()
    );
    // The newest comes last, and what is wrong with it is said.
    let mut found = None;
    for one in all {
        if id.is_some_and(|id| one.record.snapshot != *id) {
            continue;
        }
        match misfit(&one, shard, status) {
            None => found = Some(one),
            Some(misfit) => {
                why = format!("{} of {} {misfit}", one.record.shard, one.record.snapshot);
            }
        }
    }
    if let (Some(id), None) = (id, &found)
        && !why.contains(id.as_str())
    {
        bail!("snapshot {id} is not materialised in {}", place.root().display());
    }
    match found {
        Some(one) => Ok(one),
        None => refused(why),
    }
}

/// In words, why it is not for this node.
fn misfit(one: &Materialised, shard: &ShardName, status: &Status) -> Option<String> {
    let record = &one.record;
    let Some(service) = &status.service else {
        // Whoever it is given to goes on alone; which part of the data that is, was said.
        return (record.shard != *shard).then(|| format!("is not of {shard}"));
    };
    if record.service != *service {
        return Some(format!("is of service `{}`, and the node of `{service}`", record.service));
    }
    if record.slots != status.slots {
        return Some(format!(
            "holds the slots {}, and the node has {}: `restore --slots` makes other shards",
            record.slots, status.slots
        ));
    }
    if record.follow.is_none() {
        return Some(
            "was taken of a standby of several shards, whose logs none follows on".to_owned(),
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_is_chosen_where_there_is_none() {
        let scratch = tempfile::tempdir().unwrap();
        let place = Place::at(scratch.path());
        let status: Status = serde_json::from_value(serde_json::json!({
            "database": "beef", "format": 1, "service": "demo", "shard": "b/0", "slots": "0-8191",
            "role": "standby", "epoch": 1, "fence": 0, "writable": false, "lease-left-ms": null,
            "position": "0000000000000000000000000000beef@42", "own-end": null, "local-until": null,
            "history": [], "applied": {}, "synced": {}, "freeze": null, "ended": null, "until": null,
            "reclaim": {
                "reclaimed": { "own": null, "sources": {}, "horizon-ms": 0 }, "view-age-ms": null,
                "held": null, "dropped-records": 0, "dropped-bytes": 0
            },
            "clock-ahead-ms": null
        }))
        .unwrap();
        let refusal = |shard: &str| {
            let why = choose(&place, None, &shard.parse().unwrap(), &status).unwrap_err();
            assert_eq!(ops::exit::of(&why), Exit::Refused);
            why.to_string()
        };
        assert!(refusal("b/0").contains("nothing is materialised"));
        assert!(refusal("b/1").contains("that of b/0"));
    }
}
