//! Clusters on the command line, and the verbs about them.

use clap::Subcommand;
use keyspace::SlotSet;

/// Who follows.
#[derive(Subcommand, Debug)]
pub enum ClusterVerb {
    /// Add a cluster: its nodes are seeded and follow as soon as they run
    Add {
        /// The cluster and the slots of its shards: `c=0-8191,8192-16383`; join ranges of one shard with `+`
        #[arg(value_name = "NAME=SLOTS,...", value_parser = cluster)]
        cluster: (String, Vec<SlotSet>),
    },
    /// Remove a cluster that follows: its nodes serve nothing any more, nothing is kept for it
    Remove {
        /// The cluster
        #[arg(value_name = "CLUSTER")]
        cluster: String,
        /// Do it; without, say what it means and exit 3
        #[arg(long)]
        yes: bool,
    },
}

pub(super) fn cluster(text: &str) -> Result<(String, Vec<SlotSet>), String> {
    let (name, slots) = text.split_once('=').ok_or_else(|| {
        format!("`{text}` is no cluster: write NAME=SLOTS,SLOTS with one part for each shard, such as `a=0-8191,8192-16383`")
    })?;
    Ok((name.to_owned(), slots.split(',').map(shard_slots).collect::<Result<_, _>>()?))
}

/// The slots of one shard, its ranges joined by `+`.
pub(super) fn shard_slots(text: &str) -> Result<SlotSet, String> {
    text.replace('+', ",").parse::<SlotSet>().map_err(|why| why.to_string())
}
