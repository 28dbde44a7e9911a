//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use ops::cli::Shell;
use ops::config::ConfigError;
use ops::exit::Exit;
use serde::{Deserialize, Serialize};
use store::{Address, SnapshotId};
use topology::ShardName;

use crate::config::Settings;
use crate::{list, push, restore, verify};

const EXAMPLES: &str = "\
Examples:
  Send a snapshot of cluster a to a directory (mounted from the other side, say):
    godwit-snapshotter push --registry file:/var/lib/godwit/registry --service demo \\
        --cluster a --to file:///srv/godwit
  What is there, and is it whole?
    godwit-snapshotter list --from file:///srv/godwit
    godwit-snapshotter verify --from file:///srv/godwit
  Make a node's directory of one shard, and serve it:
    godwit-snapshotter restore --from file:///srv/godwit --snapshot 20261121T225103Z-1b2c3d4e \\
        --shard a/0 --to /var/lib/godwit/restored
    godwit-node --dir /var/lib/godwit/restored --listen 127.0.0.1:6400

Exit codes:
  0 done; 1 failed, nothing was sealed or restored (verify: damage was found);
  2 the command line or the config cannot be used; 3 refused by a guard, nothing was changed";

/// Sends compressed snapshots of a cluster to a store, proves that they can be read, restores them
#[derive(Debug, Parser)]
#[command(name = "godwit-snapshotter", version, after_help = EXAMPLES, arg_required_else_help = true)]
pub struct Args {
    /// Print a completion script for this shell and exit
    #[arg(long, value_enum, value_name = "SHELL", exclusive = true)]
    completions: Option<Shell>,
    /// What to do.
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Take a checkpoint of each shard of a cluster and send it to a store; the last line of output
    /// says what was sent
    Push(Box<PushArgs>),
    /// List the sealed snapshots of a store, oldest first
    List {
        /// The store: `file:///path`
        #[arg(long, value_name = "URL")]
        from: Address,
        /// What the answer looks like
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// Read every object of a snapshot back and compare hashes; what is good is marked verified
    Verify {
        /// The store: `file:///path`
        #[arg(long, value_name = "URL")]
        from: Address,
        /// The snapshot; without it the newest one
        #[arg(long, value_name = "ID")]
        snapshot: Option<SnapshotId>,
        /// What the answer looks like
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// Make a directory for a node of one shard of a snapshot
    Restore {
        /// The store: `file:///path`
        #[arg(long, value_name = "URL")]
        from: Address,
        /// The snapshot
        #[arg(long, value_name = "ID")]
        snapshot: SnapshotId,
        /// The shard, such as `a/0`
        #[arg(long, value_name = "SHARD")]
        shard: ShardName,
        /// The node's directory: a new or an empty one
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
        /// What the answer looks like
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
}

#[derive(Debug, clap::Args)]
struct PushArgs {
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    common: ops::cli::Common,
}

/// What an answer looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// One JSON object, the last line.
    Json,
}

/// Runs what the command line says.
///
/// # Errors
/// With the exit code that [`ops::exit::of`] finds.
pub async fn run(args: Args) -> anyhow::Result<Exit> {
    if let Some(shell) = args.completions {
        ops::cli::completions::<Args>(shell);
        return Ok(Exit::Done);
    }
    let Some(verb) = args.verb else {
        return Err(ConfigError::invalid("say what to do: see --help for the verbs").into());
    };
    match verb {
        Verb::Push(args) => {
            let PushArgs { mut common, settings } = *args;
            if let Some(exit) = common.completions::<Args>() {
                return Ok(exit);
            }
            let config = common.load(settings)?.validate()?;
            if let Some(exit) = common.checked() {
                return Ok(exit);
            }
            common.start_logging()?;
            push::run(config, common.metrics).await
        }
        Verb::List { from, output } => list::run(&from, output),
        Verb::Verify { from, snapshot, output } => verify::run(&from, snapshot.as_ref(), output),
        Verb::Restore { from, snapshot, shard, to, output } => {
            restore::run(&from, &snapshot, &shard, &to, output)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Args::command().debug_assert();
    }
}
