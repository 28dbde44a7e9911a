//! The arguments of `drill`.

use std::path::PathBuf;

use ops::units::{Size, Span};

/// What to rehearse, who does it, and with how much.
#[derive(clap::Args, Clone, Debug)]
pub struct Rehearsal {
    /// The cluster that would take over
    #[arg(long, value_name = "CLUSTER")]
    pub to: String,
    /// Do it on this machine, where all nodes of the cluster are, as their user: all shards at once, a switch
    /// among the forks and a proxy too [default: where their sidecars have no --drill-node]
    #[arg(long)]
    pub here: bool,
    /// Where godwit-node and godwit-proxy are on this machine [default: beside this program, then in PATH]
    #[arg(long, value_name = "DIR")]
    pub programs: Option<PathBuf>,
    /// The memory of each forked node
    #[arg(long, value_name = "SIZE", default_value = "64MiB")]
    pub memory: Size,
    /// How long sidecars may take before it has failed
    #[arg(long, value_name = "SPAN", default_value = "5m")]
    pub wait: Span,
    /// How to ask nodes, on this machine.
    #[command(flatten)]
    pub access: admin::Access,
}
