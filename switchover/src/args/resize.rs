//! What `resize` is asked for.

use keyspace::SlotSet;

use super::How;
use super::clusters::shard_slots;

/// More shards than that are a mistake in typing.
const SHARDS_MAX: i64 = 1024;

/// What `resize` is asked for.
#[derive(clap::Args, Clone, Debug)]
pub struct Resize {
    /// The cluster that takes over: its nodes and sidecars run already, and the service need not know it
    #[arg(long, value_name = "CLUSTER")]
    pub to: String,
    /// How many shards it has, of equal size; as many as now: with the same slots
    #[arg(long, value_name = "COUNT", required_unless_present = "slots", value_parser = clap::value_parser!(u16).range(1..=SHARDS_MAX))]
    pub shards: Option<u16>,
    /// The slots of its shards, where they are not of equal size: `0-99,100-16383`; join ranges of one
    /// shard with `+`
    #[arg(long, value_name = "SLOTS,...", conflicts_with = "shards", value_delimiter = ',', value_parser = shard_slots)]
    pub slots: Vec<SlotSet>,
    /// Keep the old cluster: it follows, and `failback` goes back to it (this is the default)
    #[arg(long, conflicts_with = "retire")]
    pub keep: bool,
    /// Remove the old cluster from the service once the new one has taken over and nothing needs it
    #[arg(long)]
    pub retire: bool,
    /// Take nodes that hold data of an earlier time: they go on from it where the logs since are still
    /// there, else it is replaced
    #[arg(long)]
    pub reuse: bool,
    /// How to ask nodes of other machines how much they hold.
    #[command(flatten)]
    pub access: admin::Access,
    /// How to do it.
    #[command(flatten)]
    pub how: How,
}
