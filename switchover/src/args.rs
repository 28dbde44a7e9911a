//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use keyspace::SlotSet;
use ops::units::Span;
use serde::{Deserialize, Serialize};

const EXAMPLES: &str = "Examples:
  godwit-switchover --registry file:/var/lib/godwit/registry --service shop init \\
      --cluster a=0-8191,8192-16383 --cluster b=0-8191,8192-16383 --active a
  godwit-switchover --registry ... --service shop status
  godwit-switchover --registry ... --service shop plan --to b
  godwit-switchover --registry ... --service shop run --to b --yes
  godwit-switchover --registry ... --service shop failover --to b --yes
  godwit-switchover --registry ... --service shop failback --yes

Exit codes: 0 done; 1 failed, nothing changed; 2 usage; 3 refused by a guard; 4 rolled back;
5 committed but not complete, run `resume`; 6 outcome unknown.";

/// Move a service from one cluster to another, and back.
#[derive(Parser, Debug)]
#[command(name = "godwit-switchover", version, after_help = EXAMPLES, arg_required_else_help = true)]
pub struct Args {
    /// Settings as TOML (registry, service, journal); flags and GODWIT_* come first
    #[arg(long, global = true, env = "GODWIT_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Check the settings, print `config is good` and exit
    #[arg(long)]
    pub check_config: bool,
    /// What the result on stdout looks like; progress goes to stderr
    #[arg(long, global = true, value_enum, default_value_t)]
    pub output: Output,
    /// Print a completion script for this shell and exit
    #[arg(long, value_enum, value_name = "SHELL")]
    pub completions: Option<ops::cli::Shell>,
    /// Where and what.
    #[command(flatten)]
    pub settings: Settings,
    /// What to do.
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

/// Settings that may stand in a config file.
#[derive(clap::Args, Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// The registry, such as file:/var/lib/godwit/registry
    #[arg(long, global = true, env = "GODWIT_REGISTRY", value_name = "ADDRESS")]
    pub registry: Option<String>,
    /// The service
    #[arg(long, global = true, env = "GODWIT_SERVICE", value_name = "NAME")]
    pub service: Option<String>,
    /// Where operations are journaled on this machine [default: godwit/ under XDG_STATE_HOME]
    #[arg(long, global = true, env = "GODWIT_JOURNAL", value_name = "DIR")]
    pub journal: Option<PathBuf>,
}

/// The form of the result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// One JSON object as the last line of stdout.
    Json,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Create the record of a new service: its clusters, and which one is active
    Init {
        /// A cluster and the slots of its shards: `a=0-8191,8192-16383`; join ranges of one shard with `+`
        #[arg(long = "cluster", value_name = "NAME=SLOTS,...", required = true, value_parser = cluster)]
        clusters: Vec<(String, Vec<SlotSet>)>,
        /// The cluster that accepts writes at first
        #[arg(long, value_name = "CLUSTER")]
        active: String,
        /// How long a primary may write without hearing from the registry
        #[arg(long, value_name = "SPAN", default_value = "3s")]
        lease: Span,
    },
    /// Show roles, epoch, leases, positions, lag, streams and proxies
    Status,
    /// Say what `run` would do, and what the guards think of it; exit 3 if they refuse
    Plan {
        /// The cluster that is to take over
        #[arg(long, value_name = "CLUSTER")]
        to: String,
        /// The guards' limits.
        #[command(flatten)]
        guards: Guards,
    },
    /// Planned switchover: loses nothing, or is rolled back
    Run {
        /// The cluster that is to take over
        #[arg(long, value_name = "CLUSTER")]
        to: String,
        /// How to do it.
        #[command(flatten)]
        switch: Switch,
    },
    /// Take over from a cluster that failed; says what is missing before anything is decided
    Failover {
        /// The cluster that is to take over
        #[arg(long, value_name = "CLUSTER")]
        to: String,
        /// Do it; without, print the plan and exit 3
        #[arg(long)]
        yes: bool,
        /// Go on even if acknowledged writes are lost; how many, or how old, is printed
        #[arg(long)]
        accept_loss: bool,
        /// How long to wait for a dead node's sidecar to drain its log, and for the rest to be applied
        #[arg(long, value_name = "SPAN", default_value = "10s")]
        drain_wait: Span,
        /// The freeze's deadline: nobody commits after it [default: lease + 2 drain waits + 10s]
        #[arg(long, value_name = "SPAN")]
        timeout: Option<Span>,
        /// What to wait for after the commit.
        #[command(flatten)]
        after: After,
    },
    /// Go back to the cluster that was active before, once it follows and is level
    Failback {
        /// How long the old side may take to rejoin and become level
        #[arg(long, value_name = "SPAN", default_value = "10m")]
        rejoin_timeout: Span,
        /// How to do it.
        #[command(flatten)]
        switch: Switch,
    },
    /// Finish or report an operation whose tool died, from any machine
    Resume {
        /// For a failover: go on even if acknowledged writes are lost
        #[arg(long)]
        accept_loss: bool,
        /// For a failover: as for `failover`
        #[arg(long, value_name = "SPAN", default_value = "10s")]
        drain_wait: Span,
        /// What to wait for after the commit.
        #[command(flatten)]
        after: After,
    },
    /// End a freeze without a commit
    Cancel,
    /// Compare per-slot digests of the active cluster and its followers at one position
    Verify {
        /// How long the digests may take
        #[arg(long, value_name = "SPAN", default_value = "5m")]
        timeout: Span,
        /// How to ask nodes of other machines.
        #[command(flatten)]
        access: admin::Access,
    },
}

/// Limits of the guards of a planned switchover.
#[derive(clap::Args, Clone, Debug)]
pub struct Guards {
    /// The greatest lag of a follower at the start
    #[arg(long, value_name = "SPAN", default_value = "5s")]
    pub max_lag: Span,
}

/// How a planned switchover is done.
#[derive(clap::Args, Clone, Debug)]
pub struct Switch {
    /// Do it; without, print the plan and exit 3
    #[arg(long)]
    pub yes: bool,
    /// The freeze's deadline: if the followers are not level by then, it is rolled back
    #[arg(long, value_name = "SPAN", default_value = "10s")]
    pub timeout: Span,
    /// The guards' limits.
    #[command(flatten)]
    pub guards: Guards,
    /// What to wait for after the commit.
    #[command(flatten)]
    pub after: After,
}

/// What to wait for after the commit.
#[derive(clap::Args, Clone, Debug)]
pub struct After {
    /// Do not wait until the old side follows the new one
    #[arg(long)]
    pub no_wait_reverse: bool,
    /// How long each step after the commit may take before the report says `incomplete`
    #[arg(long, value_name = "SPAN", default_value = "30s")]
    pub settle_timeout: Span,
}

fn cluster(text: &str) -> Result<(String, Vec<SlotSet>), String> {
    let (name, slots) = text.split_once('=').ok_or_else(|| {
        format!("`{text}` is no cluster: write NAME=SLOTS,SLOTS with one part for each shard, such as `a=0-8191,8192-16383`")
    })?;
    let shard = |part: &str| part.replace('+', ",").parse::<SlotSet>().map_err(|e| e.to_string());
    Ok((name.to_owned(), slots.split(',').map(shard).collect::<Result<_, _>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Args::command().debug_assert();
        let (name, shards) = cluster("a=0-99+200-16383,100-199").unwrap();
        let shards: Vec<_> = shards.iter().map(ToString::to_string).collect();
        assert_eq!(
            (name.as_str(), shards),
            ("a", vec!["0-99,200-16383".to_owned(), "100-199".to_owned()])
        );
        assert!(cluster("a").unwrap_err().contains("a=0-8191"));
    }
}
