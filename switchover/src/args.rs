//! The command line.

mod accept;
mod clusters;
mod how;
mod rehearsal;
mod resize;
mod settings;

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use keyspace::SlotSet;
use ops::units::Span;

pub use crate::auto::Limits as AutoLimits;
pub use crate::route::Routing;
pub use crate::watcher::Watching;
pub use accept::Accept;
pub use clusters::ClusterVerb;
pub use how::{How, Loss, Scope};
pub use rehearsal::Rehearsal;
pub use resize::Resize;
pub use settings::{Config, Guards, Hooks, Settings};

use crate::registry::RegistryVerb;
use clusters::cluster;

const EXAMPLES: &str = "Examples:
  export GODWIT_REGISTRY=etcd://10.0.0.2:2379,10.0.1.2:2379,10.0.2.2:2379 GODWIT_SERVICE=shop
  godwit-switchover init --cluster a=0-8191,8192-16383 --cluster b=0-8191,8192-16383 --active a
  godwit-switchover status
  godwit-switchover cluster add c=0-8191,8192-16383
  godwit-switchover cluster remove c --yes
  godwit-switchover plan --to b
  godwit-switchover run --to b --yes --reason 'kernel update in a'
  godwit-switchover failover --to b --accept-loss 3s --yes
  godwit-switchover failback --yes
  godwit-switchover resize --to n --shards 4 --dry-run
  godwit-switchover resize --to n --shards 4 --yes --reason 'more room'
  godwit-switchover retire a --yes
  godwit-switchover drill --to b
  godwit-switchover drill --to b --here --programs /opt/godwit/bin
  godwit-switchover route --zone west --reads b --max-lag 5s
  godwit-switchover auto on --to b --max-loss 1s --wait 5s
  godwit-switchover watch --auto --metrics 0.0.0.0:9400
  godwit-switchover registry check

Exit codes: 0 done; 1 failed, nothing changed; 2 usage; 3 refused by a guard; 4 rolled back;
5 not complete (of a switch: committed), run `resume`; 6 outcome unknown.";

/// What every verb takes, in the help behind what is its own.
const EVERYWHERE: &str = "With every verb";

/// Move a service from one cluster to another, and back.
#[derive(Parser, Debug)]
#[command(name = "godwit-switchover", version, after_help = EXAMPLES, arg_required_else_help = true)]
pub struct Args {
    /// Settings as TOML, with the names of the flags as keys; flags and GODWIT_* come first
    #[arg(long, global = true, env = "GODWIT_CONFIG", value_name = "FILE", help_heading = EVERYWHERE)]
    pub config: Option<PathBuf>,
    /// Check the settings, print `config is good` and exit
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub check_config: bool,
    /// What the result on stdout looks like; progress goes to stderr
    #[arg(long, global = true, value_enum, default_value_t, help_heading = EVERYWHERE)]
    pub output: Output,
    /// Say what would be done and change nothing; exit 3 if it would be refused
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub dry_run: bool,
    /// Why it is done; the journal keeps it
    #[arg(long, global = true, value_name = "TEXT", help_heading = EVERYWHERE)]
    pub reason: Option<String>,
    /// Print a completion script for this shell and exit
    #[arg(long, value_enum, value_name = "SHELL")]
    pub completions: Option<ops::cli::Shell>,
    /// Where, and within which limits.
    #[command(flatten)]
    pub settings: Settings,
    /// What to do.
    #[command(subcommand)]
    pub verb: Option<Verb>,
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
    /// Add a cluster that follows, or remove one, while everything runs
    #[command(subcommand)]
    Cluster(ClusterVerb),
    /// Grow, shrink or move the service: add a cluster, seed it, switch to it, keep or retire the old one
    #[command(
        after_help = "Examples:\n  godwit-switchover resize --to n --shards 4 --dry-run\n  godwit-switchover resize --to n --shards 4 --yes --reason 'more room'\n  godwit-switchover resume        # from any machine, if this one dies"
    )]
    Resize(Resize),
    /// Remove a cluster that nothing needs any more: all proxies route past it, and it was level
    Retire {
        /// The cluster
        #[arg(value_name = "CLUSTER")]
        cluster: String,
        /// Do it without asking; one that does not become level is given up
        #[arg(long)]
        yes: bool,
    },
    /// Show roles, epoch, leases, positions, lag, streams, proxies, and what was done last
    Status {
        /// Again and again: a live table on a terminal, a line each time elsewhere
        #[arg(long)]
        watch: bool,
        /// With --watch: how often
        #[arg(long, value_name = "SPAN", default_value = "1s", requires = "watch")]
        every: Span,
        /// With --watch: how many times [default: until it is interrupted]
        #[arg(long, value_name = "TIMES", requires = "watch")]
        count: Option<u64>,
    },
    /// Say what `run` would do, and what the guards think of it; exit 3 if they refuse
    Plan {
        /// The cluster that is to take over
        #[arg(long, value_name = "CLUSTER")]
        to: String,
        /// The plan of a failover in place of a planned switch
        #[arg(long)]
        failover: bool,
        /// What moves.
        #[command(flatten)]
        scope: Scope,
    },
    /// Planned switchover: loses nothing, or is rolled back
    #[command(
        after_help = "Examples:\n  godwit-switchover plan --to b\n  godwit-switchover run --to b\n  godwit-switchover run --to b --shard a/1 --yes --reason 'new disk in a/1'"
    )]
    Run {
        /// The cluster that is to take over
        #[arg(long, value_name = "CLUSTER")]
        to: String,
        /// What moves.
        #[command(flatten)]
        scope: Scope,
        /// How to do it.
        #[command(flatten)]
        how: How,
    },
    /// Take over from a cluster that failed; says what is missing before anything is decided
    #[command(
        after_help = "Examples:\n  godwit-switchover failover --to b --dry-run\n  godwit-switchover failover --to b --accept-loss 3s\n  godwit-switchover failover --to b --accept-loss '1000 writes' --yes --reason 'a burns'"
    )]
    Failover {
        /// The cluster that is to take over
        #[arg(long, value_name = "CLUSTER")]
        to: String,
        /// What moves.
        #[command(flatten)]
        scope: Scope,
        /// What is accepted.
        #[command(flatten)]
        loss: Loss,
        /// How to do it.
        #[command(flatten)]
        how: How,
    },
    /// Go back to the cluster that was active before, once it follows and is level; of a service that is
    /// split between clusters: bring the shards home that moved away
    Failback {
        /// How to do it.
        #[command(flatten)]
        how: How,
    },
    /// Finish or report an operation whose tool died, from any machine
    #[command(
        after_help = "Examples:\n  godwit-switchover status\n  godwit-switchover resume\n  godwit-switchover resume --accept-loss 3s"
    )]
    Resume {
        /// What is accepted, for a failover.
        #[command(flatten)]
        loss: Loss,
        /// Do not wait until the old side follows the new one
        #[arg(long)]
        no_wait_reverse: bool,
    },
    /// End a freeze before its commit, or take a resize back: writes go on where they were, and nothing is
    /// lost
    Abort,
    /// List the operations that are journaled, here and in the registry
    History,
    /// Show one operation: what was done, by whom and why, when each step was
    #[command(
        after_help = "Examples:\n  godwit-switchover report\n  godwit-switchover report 3f2a --html switch.html"
    )]
    Report {
        /// Its id or the beginning of it, as `history` shows it, or `last`
        #[arg(value_name = "ID", default_value = "last")]
        id: String,
        /// Write a page with the timeline of each shard to this file
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
    },
    /// Look at everything that a switch would need; exit 1 if something is in the way
    Doctor {
        /// How to ask nodes of other machines.
        #[command(flatten)]
        access: admin::Access,
    },
    /// Say that people work by hand: status, plan and doctor show it until it is off
    Maintenance {
        /// Without it, say how it is
        #[arg(value_enum)]
        to: Option<OnOff>,
    },
    /// Let the service fail over by itself within limits, or not any more; `watch --auto` does it
    #[command(
        after_help = "Examples:\n  godwit-switchover auto\n  godwit-switchover auto on --to b --max-loss 1s --wait 5s --not-within 10m\n  godwit-switchover auto off --reason 'we look ourselves'"
    )]
    Auto {
        /// Without it, say how it is
        #[arg(value_enum)]
        state: Option<OnOff>,
        /// Within which limits.
        #[command(flatten)]
        limits: AutoLimits,
    },
    /// Watch the primaries by what proxies and sidecars see of them, until it is ended; advise, or act
    #[command(
        after_help = "Examples:\n  godwit-switchover watch\n  godwit-switchover watch --auto --metrics 0.0.0.0:9400 --hook-alert /usr/local/bin/page"
    )]
    Watch(Watching),
    /// Let the reads of a zone be served by a cluster that follows, or by the primaries again
    Route(Routing),
    /// Write state, journals and settings without secrets to one tar, for whoever helps
    SupportBundle {
        /// Where to; the file must not exist
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// How to ask nodes of other machines.
        #[command(flatten)]
        access: admin::Access,
    },
    /// Rehearse a takeover on forks of the standbys, by their sidecars or on this machine; the service is only read
    #[command(
        after_help = "Examples:\n  godwit-switchover drill --to b                          # by the sidecars of b, from anywhere\n  godwit-switchover drill --to b --here                   # where all nodes of b are, as their user"
    )]
    Drill(Rehearsal),
    /// Show what the registry holds, look for what cannot be right, mend what is safe
    Registry {
        /// What to do with it.
        #[command(subcommand)]
        verb: RegistryVerb,
    },
    /// Compare per-slot digests of the active cluster and its followers at one position
    Verify {
        /// How to ask nodes of other machines.
        #[command(flatten)]
        access: admin::Access,
    },
}

/// Yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnOff {
    /// Yes.
    On,
    /// No.
    Off,
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

    /// The words of a line as a shell has them, as far as examples go.
    fn words(line: &str) -> Vec<String> {
        let line = line.split(" #").next().unwrap_or_default();
        let quoted = line.split('\'').enumerate();
        let words = quoted.flat_map(|(n, part)| match n % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect::<Vec<_>>(),
            _ => vec![part.to_owned()],
        });
        words.collect()
    }

    #[test]
    fn every_example_of_the_help_is_a_command() {
        let mut command = Args::command();
        let mut helps = vec![command.render_long_help().to_string()];
        helps.extend(command.get_subcommands_mut().map(|c| c.render_long_help().to_string()));
        let mut found = 0;
        for line in helps.iter().flat_map(|help| help.lines()).map(str::trim) {
            if line.starts_with("godwit-switchover ") {
                let parsed = Args::try_parse_from(words(line));
                assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
                found += 1;
            }
        }
        assert!(found > 30, "{found} examples");
    }

    #[test]
    fn a_loss_that_is_accepted_has_a_size_or_none() {
        let accepted = |flags: &[&str]| {
            let words = ["godwit-switchover", "failover", "--to", "b"];
            let args = Args::try_parse_from(words.iter().chain(flags)).unwrap();
            match args.verb {
                Some(Verb::Failover { loss, .. }) => loss.accept_loss,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(accepted(&[]), Accept::Writes(0));
        assert_eq!(accepted(&["--accept-loss", "--yes"]), Accept::Any);
        assert_eq!(accepted(&["--accept-loss", "3s"]), Accept::Time(Span::secs(3)));
        assert_eq!(accepted(&["--yes", "--accept-loss", "1000 writes"]), Accept::Writes(1000));
    }
}
