//! The command line.

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use ops::cli::Shell;
use ops::config::ConfigError;
use ops::exit::Exit;
use serde::{Deserialize, Serialize};
use store::{KeyVerb, SnapshotId};

use crate::activate::{self, ActivateArgs};
use crate::cat::{self, CatArgs};
use crate::config::{Config, Settings};
use crate::cron::{self, CronSettings, Run};
use crate::list::ListArgs;
use crate::materialise::{self, MaterialiseArgs};
use crate::prove::{self, ProveArgs};
use crate::prune::{self, PruneArgs};
use crate::restore::{self, RestoreArgs};
use crate::serve::{self, ServeSettings};
use crate::verify::{self, VerifyArgs};
use crate::{list, push};

const EXAMPLES: &str = "\
Examples:
  Send a snapshot of cluster a to a directory (mounted from the other side, say):
    godwit-snapshotter push --registry file:/var/lib/godwit/registry --service demo \\
        --cluster a --to file:///srv/godwit
  The same to the other side, where a daemon takes it in:
    godwit-snapshotter serve --service demo --listen 0.0.0.0:9700 --in file:///srv/godwit \\
        --tls-ca ca.pem --tls-cert snapshotter.pem --tls-key snapshotter.key
    godwit-snapshotter push --registry file:/var/lib/godwit/registry --service demo \\
        --cluster a --to godwit://dr.example.com:9700
  What is there, and is it whole?
    godwit-snapshotter list --from file:///srv/godwit
    godwit-snapshotter verify --from file:///srv/godwit
  Can it be restored? And what did one key hold?
    godwit-snapshotter prove --from file:///srv/godwit --scratch /var/tmp
    godwit-snapshotter cat --from file:///srv/godwit user:17
  Make a node's directory of one shard, and serve it; the same onto a directory that has most of it;
  all shards; and three shards of what were two:
    godwit-snapshotter restore --from file:///srv/godwit --shard a/0 --to /var/lib/godwit/restored
    godwit-node --dir /var/lib/godwit/restored --listen 127.0.0.1:6400
    godwit-snapshotter restore --from file:///srv/godwit --shard a/0 --to /var/lib/godwit/a-0 --delta
    godwit-snapshotter restore --from file:///srv/godwit --to /var/lib/godwit/restored
    godwit-snapshotter restore --from file:///srv/godwit --to /var/lib/godwit/restored --shards 3
  Have the newest snapshot ready beside a standby's nodes, and give it to one of them, in seconds:
    godwit-snapshotter materialise --from file:///srv/godwit --materialised /var/lib/godwit/materialised
    godwit-snapshotter activate --materialised /var/lib/godwit/materialised --shard b/0 \\
        --registry file:/var/lib/godwit/registry --service demo
  Keep two weeks, and delete what nothing leads to:
    godwit-snapshotter prune --from file:///srv/godwit --keep-hourly 24 --keep-daily 14

Exit codes:
  0 done;
  1 failed: push has sealed nothing, restore goes on when it is asked again; verify and prove: damage or a
    difference was found, or it could not be read;
  2 the command line or the config cannot be used;
  3 not now or not so, nothing was changed: outside of --window, nodes busy, another run, a guard;
  6 activate: the answer of the node was lost, it has the database that it had or the snapshot: ask again";

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
    /// Take pushes in, on the other side: who pushes adds to history and can take nothing away
    Serve(Box<ServeArgs>),
    /// List the sealed snapshots of a repository, oldest first
    List(ListArgs),
    /// Show one snapshot, shard by shard
    Show {
        #[command(flatten)]
        args: ListArgs,
        /// The snapshot; without it the newest one
        #[arg(long, value_name = "ID")]
        snapshot: Option<SnapshotId>,
    },
    /// Read everything of a snapshot back and compare hashes; what is good is marked verified
    Verify(Timed<VerifyArgs>),
    /// Restore a snapshot into a scratch directory, open it, and compare it with what its source had;
    /// what is the same is marked proven
    Prove(Timed<ProveArgs>),
    /// Let go of old snapshots, and delete what nothing leads to any more
    Prune(Timed<PruneArgs>),
    /// Make directories for nodes of a snapshot
    Restore(Box<RestoreArgs>),
    /// Lay the newest snapshots out as databases, so that a node has one within seconds
    Materialise(MaterialiseArgs),
    /// Give a materialised snapshot to the node of a standby, which goes on with the log from there
    Activate(Box<ActivateArgs>),
    /// Print what a key held, without restoring all of the snapshot
    Cat(CatArgs),
    /// The keys of an encrypted repository
    #[command(subcommand)]
    Key(KeyVerb),
}

/// A verb that a timer may start.
#[derive(Debug, clap::Args)]
struct Timed<A: clap::Args> {
    #[command(flatten)]
    args: A,
    #[command(flatten)]
    cron: CronSettings,
}

#[derive(Debug, clap::Args)]
struct ServeArgs {
    #[command(flatten)]
    settings: ServeSettings,
    #[command(flatten)]
    common: ops::cli::Common,
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
        Verb::Serve(args) => {
            let ServeArgs { mut common, settings } = *args;
            if let Some(exit) = common.completions::<Args>() {
                return Ok(exit);
            }
            let config = common.load(settings)?.validate()?;
            if let Some(exit) = common.checked() {
                return Ok(exit);
            }
            common.start_logging()?;
            serve::run(config, common.metrics).await
        }
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
            Box::pin(pushed(config, common.metrics)).await
        }
        Verb::List(args) => leaving(READ, list::list(&args).await),
        Verb::Show { args, snapshot } => leaving(READ, list::show(&args, snapshot.as_ref()).await),
        Verb::Verify(Timed { args, cron }) => {
            let done = Box::pin(timed("verify", cron, verify::run(&args))).await;
            leaving("it was not read to its end, and nothing was changed", done)
        }
        Verb::Prove(Timed { args, cron }) => {
            let done = Box::pin(timed("prove", cron, prove::run(&args))).await;
            leaving("nothing was proven, and the snapshot is as it was: run it again", done)
        }
        Verb::Prune(Timed { args, cron }) => {
            let done = Box::pin(timed("prune", cron, prune::run(&args))).await;
            leaving("nothing was deleted that a snapshot which stays needs: run it again", done)
        }
        Verb::Materialise(args) => {
            let done = Box::pin(materialise::run(&args)).await;
            leaving("what was materialised before is as it was: run it again", done)
        }
        Verb::Activate(args) => leaving(READ, Box::pin(activate::run(&args)).await),
        Verb::Restore(args) => {
            leaving("nothing that was there is lost", Box::pin(restore::run(&args)).await)
        }
        Verb::Cat(args) => leaving(READ, Box::pin(cat::run(&args)).await),
        Verb::Key(verb) => Ok(verb.run().context("no key was written")?),
    }
}

/// What an error leaves behind where nothing is written.
const READ: &str = "nothing was changed";

/// Says what an error leaves behind, which is what whoever reads it at night has to know first. What was
/// refused says so itself.
fn leaving(words: &'static str, done: anyhow::Result<Exit>) -> anyhow::Result<Exit> {
    done.map_err(|error| match ops::exit::of(&error) {
        Exit::Failed => error.context(words),
        _ => error,
    })
}

/// One at a time for each cluster, when the nodes have time for it.
async fn pushed(config: Config, metrics: Option<String>) -> anyhow::Result<Exit> {
    let idle = async {
        let Some(limit) = config.load else { return Ok(()) };
        cron::load::wait(&config.registry, &config.service, &config.cluster, limit).await
    };
    let lock = async {
        let repository = push::open(&config).await.context("nothing was sealed")?;
        Ok(Some((repository, format!("push-{}-{}", config.service, config.cluster))))
    };
    let work = Box::pin(push::run(config.clone(), metrics));
    Box::pin(Run::new(config.cron.clone(), "push").run(idle, lock, work)).await
}

/// No node feels these, and two at a time do each other no harm.
async fn timed(
    verb: &'static str,
    cron: CronSettings,
    work: impl Future<Output = anyhow::Result<Exit>>,
) -> anyhow::Result<Exit> {
    Run::new(cron.validate()?, verb).run(cron::no_load(), cron::no_lock(), work).await
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Args::command().debug_assert();
    }
}
