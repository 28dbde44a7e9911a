//! A seed of another shape: what a node has to know of the files of some slots.

use std::collections::BTreeMap;

use keyspace::{Hlc, SlotSet};
use serde::{Deserialize, Serialize};
use topology::ShardName;

use crate::{Follow, Intent, IntentFile, Loaded};

/// The argument of `GODWIT.SEED SLOTS`: the slots that a source and this node share, as the source
/// had them at one position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Slice {
    /// The format of this text: 1.
    pub format: u32,
    /// What is followed from there on. Its `until` is the position of the files.
    pub follow: Follow,
    /// The slots.
    pub slots: SlotSet,
    /// No stamp in the files is above this one.
    pub stamp: Hlc,
    /// Unix milliseconds: what had expired by then may be lacking.
    pub horizon_ms: u64,
    /// What the source had taken in of loads, by their ids.
    pub loaded: BTreeMap<String, Loaded>,
    /// The files, meta records first. Paths in the directory.
    pub files: Vec<IntentFile>,
}

impl Slice {
    /// The format that this version writes.
    pub const FORMAT: u32 = 1;

    /// Where a sidecar puts the files of a source, from the node's directory on.
    pub fn received(source: &ShardName) -> std::path::PathBuf {
        let name = format!("slice-{}-{}", source.cluster, source.shard);
        [Intent::DIR, Intent::RECEIVED, &name].iter().collect()
    }

    /// Reads the argument, in words if it is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let slice: Self = serde_json::from_slice(bytes)
            .map_err(|why| format!("the seed of slots cannot be read: {why}"))?;
        if slice.format != Self::FORMAT {
            return Err(format!(
                "the seed of slots has format {}; this version knows format {}: upgrade this program",
                slice.format,
                Self::FORMAT
            ));
        }
        Ok(slice)
    }

    /// The argument.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers, names and positions have a JSON form")
    }
}
