//! Compares two clouds at one position of each log, slot by slot.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use keyspace::{Slot, SlotSet};
use resp::reply::Reply;
use serde_json::Value;

use crate::client::Client;
use crate::clouds::Cloud;
use crate::wait;

/// How long a standby may take to reach a barrier and digest its data.
const DIGEST_MAX: Duration = Duration::from_secs(60);

/// What comparing came to.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// Keys that the digests cover.
    pub keys: u64,
    /// Bytes that they cover.
    pub bytes: u64,
    /// Slots whose digests differ.
    pub differing: Vec<u16>,
    /// The positions compared at, one for each shard of the active cloud.
    pub positions: Vec<String>,
}

impl Comparison {
    /// Whether both clouds hold the same.
    pub fn equal(&self) -> bool {
        self.differing.is_empty()
    }
}

/// A slot's digest as a node reports it.
type Slots = BTreeMap<u16, Value>;

/// Writes a barrier on each shard of the active cloud and compares what both clouds held there.
pub fn compare(active: &Cloud, standby: &Cloud) -> Result<Comparison> {
    let mut comparison = Comparison::default();
    for shard in &active.shards {
        let slots = shard.slots.parse::<SlotSet>()?;
        let mut source = Client::connect(&shard.node.admin)?;
        let barrier = source.call(&["GODWIT.BARRIER"])?;
        let [id, position] = barrier.as_array().unwrap_or_default() else {
            bail!("GODWIT.BARRIER of {} answered {barrier:?}", shard.name);
        };
        let (id, position) = (text_of(id), text_of(position));
        let ours = digest(&mut source, &shard.name, &id)?;
        let mut theirs = Slots::new();
        for other in &standby.shards {
            let held = other.slots.parse::<SlotSet>()?.intersection(&slots);
            if !held.is_empty() {
                let mut target = Client::connect(&other.node.admin)?;
                // Of slots that come from elsewhere it says what it held at some moment.
                let mut found = digest(&mut target, &other.name, &id)?;
                found.retain(|slot, _| Slot::new(*slot).is_some_and(|slot| held.contains(slot)));
                theirs.extend(found);
                target.call(&["GODWIT.DIGEST", "DROP", &id])?;
            }
        }
        source.call(&["GODWIT.DIGEST", "DROP", &id])?;
        comparison.positions.push(format!("{} at {position}", shard.name));
        weigh(&ours, &theirs, &mut comparison);
    }
    comparison.differing.sort_unstable();
    Ok(comparison)
}

/// Compares, and fails the story if a slot differs.
pub fn assert_equal(active: &Cloud, standby: &Cloud) -> Comparison {
    let comparison = compare(active, standby).unwrap_or_else(|error| panic!("{error:#}"));
    assert!(comparison.equal(), "{} and {} differ: {comparison:?}", active.name, standby.name);
    comparison
}

fn text_of(reply: &Reply) -> String {
    match reply {
        Reply::Integer(n) => n.to_string(),
        other => other.as_text().unwrap_or_default().to_owned(),
    }
}

/// The slots of a node's digest, once it is there.
fn digest(client: &mut Client, node: &str, id: &str) -> Result<Slots> {
    let json = wait::until(&format!("{node} to digest barrier {id}"), DIGEST_MAX, || {
        client.text(&["GODWIT.DIGEST", id])
    })?;
    let digest: Value = serde_json::from_str(&json).context("a digest that is no JSON")?;
    let slots = digest["slots"].as_object().context("a digest without slots")?;
    // A slot without a key is as good as one that is not listed.
    let filled = slots.iter().filter(|(_, d)| d["keys"].as_u64() != Some(0));
    filled.map(|(slot, d)| Ok((slot.parse::<u16>()?, d.clone()))).collect()
}

fn weigh(ours: &Slots, theirs: &Slots, comparison: &mut Comparison) {
    for slot in ours.keys().chain(theirs.keys().filter(|slot| !ours.contains_key(slot))) {
        if ours.get(slot) != theirs.get(slot) {
            comparison.differing.push(*slot);
        }
    }
    let sum = |field: &str| ours.values().filter_map(|d| d[field].as_u64()).sum::<u64>();
    comparison.keys += sum("keys");
    comparison.bytes += sum("bytes");
}
