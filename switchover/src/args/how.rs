//! What moves, how, and what may be lost: arguments that several verbs share.

use topology::ShardName;

use super::Accept;

/// What moves.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Scope {
    /// Move only this primary's slots; the others stay where they are [default: all that is elsewhere]
    #[arg(long = "shard", value_name = "CLUSTER/NUMBER")]
    pub shards: Vec<ShardName>,
}

/// How a switch is done.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct How {
    /// Do it without asking; without, and where nobody can be asked, print the plan and exit 3
    #[arg(long)]
    pub yes: bool,
    /// Do not wait until the old side follows the new one
    #[arg(long)]
    pub no_wait_reverse: bool,
}

/// What may be missing after a failover.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct Loss {
    /// Go on if no more than this is missing: a time (`3s`), a number (`1000 writes`), or `any`, which
    /// is what it means alone. What is missing, or may be, is printed for each shard before it is decided
    #[arg(long, value_name = "LOSS", num_args = 0..=1, default_missing_value = "any", default_value = "0 writes", hide_default_value = true)]
    pub accept_loss: Accept,
}
