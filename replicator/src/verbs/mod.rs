//! What an operator asks of a sidecar, and of what it keeps: one file a verb.

mod archive;
mod compare;
mod hold;
mod ledger;
mod redis;
mod restore;
mod status;
mod store;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use ops::exit::{Exit, Stop};
use serde::Serialize;
use topology::{Record, Service, ServiceView};

/// What to do instead of running a sidecar.
#[derive(Subcommand, Clone, Debug)]
pub enum Verb {
    /// How streams are, what the spools are ready for, how long seeding again would take, and clocks
    Status(status::StatusArgs),
    /// What was acknowledged on an old primary and received by nobody: list it, show it, replay it
    #[command(subcommand)]
    Ledger(ledger::LedgerVerb),
    /// Compare what primaries and their followers hold, slot by slot, while writes go on; exit 1 where
    /// they differ
    Verify(compare::VerifyArgs),
    /// Send again what differs, through the stream, until followers hold what their primaries do
    Repair(compare::RepairArgs),
    /// Apply what is staged here at once, whatever the delay
    CatchUp(hold::HoldArgs),
    /// Keep the node so far behind from now on
    ApplyDelay(hold::DelayArgs),
    /// Apply what tripped the breaker, and what is staged behind it
    ApplyAnyway(hold::DecideArgs),
    /// Set aside what tripped the breaker, and take no more of it: for a failover to this side
    Discard(hold::DecideArgs),
    /// Follow a stock Redis or Valkey into Godwit, or into another Redis
    RedisIn(Box<redis::InArgs>),
    /// Feed a plain Redis with what a node has
    RedisOut(Box<redis::OutArgs>),
    /// Make a node's directory of a shard as it was at any archived moment
    Restore(Box<restore::RestoreArgs>),
    /// Look after archives: what is there, is it whole, what may go
    #[command(subcommand)]
    Archive(Box<archive::ArchiveVerb>),
}

impl Verb {
    /// Whether it runs until it is told to stop, with the settings of a daemon.
    pub const fn is_daemon(&self) -> bool {
        matches!(self, Self::RedisIn(_) | Self::RedisOut(_))
    }
}

/// The form of a result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// One JSON object as the last line of stdout.
    Json,
}

/// How a result looks.
#[derive(Args, Clone, Copy, Debug)]
pub struct Form {
    /// What the result on stdout looks like; progress goes to stderr
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

impl Form {
    /// Prints the result: its text, or one line of JSON.
    fn result(self, text: &str, json: &impl Serialize) -> anyhow::Result<()> {
        match self.output {
            Output::Text => ops::cli::say(text.trim_end()),
            Output::Json => {
                ops::cli::say(&serde_json::to_string(json).context("writing the result")?);
            }
        }
        Ok(())
    }
}

/// Which service.
#[derive(Args, Clone, Debug)]
pub struct Of {
    /// The registry, such as etcd://10.0.0.1:2379 or, for one machine,
    /// file:/var/lib/godwit-registry
    #[arg(long, env = "GODWIT_REGISTRY", value_name = "ADDRESS")]
    registry: String,
    /// The service
    #[arg(long, env = "GODWIT_SERVICE", value_name = "NAME")]
    service: String,
}

impl Of {
    async fn open(&self) -> anyhow::Result<(Arc<ServiceView>, Record)> {
        let registry = topology::open(&self.registry)
            .map_err(|why| Stop::new(Exit::Usage, why.to_string()))?;
        let service = Service::open(registry, &self.service).await?;
        let view = service.view();
        let record = view.record().cloned().with_context(|| {
            format!("service `{}` has no record in this registry", self.service)
        })?;
        Ok((view, record))
    }
}

/// Where the sidecar's files are.
#[derive(Args, Clone, Debug)]
pub struct At {
    /// The node's directory, which has the spool
    #[arg(long, env = "GODWIT_NODE_DIR", value_name = "DIR")]
    node_dir: PathBuf,
}

impl At {
    fn spool(&self) -> PathBuf {
        self.node_dir.join("spool")
    }
}

/// Does what a verb says.
///
/// # Errors
/// With the exit code of the program, where it is not 1.
pub async fn run(verb: Verb) -> anyhow::Result<Exit> {
    match verb {
        Verb::Status(args) => status::status(args).await,
        Verb::Ledger(verb) => ledger::run(verb).await,
        Verb::Verify(args) => compare::verify(args).await,
        Verb::Repair(args) => compare::repair(args).await,
        Verb::CatchUp(args) => hold::catch_up(args).await,
        Verb::ApplyDelay(args) => hold::delay(args).await,
        Verb::ApplyAnyway(args) => hold::apply_anyway(args).await,
        Verb::Discard(args) => hold::discard(args).await,
        Verb::RedisIn(args) => redis::enter(*args).await,
        Verb::RedisOut(args) => redis::leave(*args).await,
        Verb::Restore(args) => restore::run(*args).await,
        Verb::Archive(verb) => archive::run(*verb).await,
    }
}

/// The node of a shard, by its admin listener: the one for other machines where it has one.
async fn node_of(
    view: &ServiceView,
    shard: &topology::ShardName,
    access: &admin::Access,
) -> anyhow::Result<admin::Client> {
    let node = view
        .nodes
        .get(shard)
        .with_context(|| format!("the node of {shard} is not in the registry: is it running?"))?;
    Ok(admin::Client::connect_as(&node.admin, access).await?)
}
