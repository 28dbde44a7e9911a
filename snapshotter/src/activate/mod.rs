//! `activate`: gives a materialised snapshot to a node, which links its files.
//!
//! ```text
//! choose    the newest materialised snapshot that fits the node, or the one that was asked for
//! source    whether the log that follows on it is still at the node's source
//! ```
//!
//! The node does the work (`GODWIT.SEED LINK`): it links, swaps its database and takes a new identity, and
//! refuses where acknowledged writes would be thrown away. Its sidecar notices, and asks the source for the
//! log from there. Where the source has that no more, a seed would follow and replace what was activated, so
//! that is refused unless it is wanted all the same.

mod choose;
mod source;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use admin::{Access, Adopt, Client, Status};
use anyhow::{Context, bail};
use ops::exit::{Exit, Stop};
use ops::tls::{MutualSettings, Switch};
use ops::units::Span;
use serde_json::json;
use store::SnapshotId;
use topology::ShardName;
use topology::members::Role;
use topology::service::Service;

use crate::cli::Output;
use crate::materialise::{Materialised, Place};
use crate::report;
use choose::choose;
use source::Log;

/// How often the node is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long it is waited for the log to come, if nothing else is said.
const WAIT_DEFAULT: Span = Span::secs(30);
/// How long the registry may take to show the node.
const REGISTRY_WITHIN: Duration = Duration::from_secs(10);

/// Which snapshot for which node.
#[derive(clap::Args, Clone, Debug)]
pub struct ActivateArgs {
    /// The snapshot; without it the newest one that is materialised for the node's slots
    #[arg(value_name = "SNAPSHOT")]
    snapshot: Option<SnapshotId>,
    /// Where snapshots are materialised
    #[arg(long, env = "GODWIT_MATERIALISED", value_name = "DIR")]
    materialised: PathBuf,
    /// The shard whose node is to have it, such as b/0; for a node without a service, the shard that it is of
    #[arg(long, value_name = "SHARD")]
    shard: ShardName,
    /// The node's admin listener; without it the registry says where it is
    #[arg(long, value_name = "ADDRESS", required_unless_present = "registry")]
    node_admin: Option<String>,
    /// The registry of the node's service, by which it is found out whether its source still has the log
    #[arg(long, env = "GODWIT_REGISTRY", value_name = "REGISTRY", requires = "service")]
    registry: Option<String>,
    /// The service
    #[arg(long, env = "GODWIT_SERVICE", value_name = "NAME")]
    service: Option<String>,
    /// Copy the files where they cannot be linked: this takes the time and the room of all the data
    #[arg(long)]
    copy: bool,
    /// Also if a seed will follow and replace it, or that is not known
    #[arg(long)]
    anyway: bool,
    /// How long to wait until the log comes [default: 30s]
    #[arg(long, value_name = "SPAN", default_value_t = WAIT_DEFAULT)]
    wait: Span,
    /// What the answer looks like
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    access: Access,
    #[command(flatten)]
    tls: TlsArgs,
}

/// How the source's sidecar is spoken with: as `push` does.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Sidecars")]
struct TlsArgs {
    /// Whether TLS is spoken; as the sidecars do [default: on if there is a certificate]
    #[arg(long, env = "GODWIT_TLS", value_enum)]
    tls: Option<Switch>,
    /// The authorities of the sidecars' certificates, as PEM
    #[arg(long, env = "GODWIT_TLS_CA", value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Our own certificate, with those between it and its authority, as PEM
    #[arg(long, env = "GODWIT_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// Its private key, as PEM
    #[arg(long, env = "GODWIT_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Follows {
    /// The log from the snapshot's end on.
    Log,
    /// A seed came instead.
    Seed,
    /// Nothing within the time.
    NotYet,
    /// It stands alone, or was not waited for.
    NotAsked,
}

/// Activates.
///
/// # Errors
/// It does not fit, or the node refuses: nothing was changed.
pub async fn run(args: &ActivateArgs) -> anyhow::Result<Exit> {
    let tls = MutualSettings {
        tls: args.tls.tls,
        ca: args.tls.tls_ca.clone(),
        cert: args.tls.tls_cert.clone(),
        key: args.tls.tls_key.clone(),
        peers: Vec::new(),
    };
    let tls = tls.check(None)?.map(|tls| tls.open()).transpose()?;
    let service = match args.registry.as_ref().zip(args.service.as_ref()) {
        Some((registry, name)) => Some(Service::open(topology::open(registry)?, name).await?),
        None => None,
    };
    let admin = match (&args.node_admin, &service) {
        (Some(admin), _) => admin.clone(),
        (None, Some(service)) => found(service, &args.shard).await?,
        (None, None) => bail!("say where the node is: --node-admin, or --registry and --service"),
    };
    let node = Client::connect_as(&admin, &args.access).await;
    let node = node.with_context(|| format!("asking the node of {}", args.shard))?;
    let status = node.status().await?;
    let one = choose(&Place::at(&args.materialised), args.snapshot.as_ref(), &args.shard, &status)?;
    let log = match (&status.service, &service) {
        (None, _) => None,
        (Some(_), None) => Some(Log::Unknown("no --registry was given to ask by".to_owned())),
        (Some(_), Some(service)) => Some(source::ask(service, &one.record, tls.as_ref()).await),
    };
    if let Some(refusal) = log.as_ref().and_then(Log::refusal).filter(|_| !args.anyway) {
        let why = format!(
            "{} of {} would not be gone on from: {refusal}. Nothing was changed; --anyway activates it all the same",
            one.record.shard, one.record.snapshot
        );
        return Err(Stop::new(Exit::Refused, why).into());
    }
    let begun = Instant::now();
    activate(&node, &one, &status, args.copy).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let follows = match &log {
        None => Follows::NotAsked,
        Some(_) if args.wait.0.is_zero() => Follows::NotAsked,
        Some(_) => follows(&node, &one, args.wait.0).await.unwrap_or_else(|why| {
            tracing::warn!("it is activated, and the node was not asked further: {why:#}");
            Follows::NotYet
        }),
    };
    answer(args, &one, log.as_ref(), follows, seconds);
    Ok(Exit::Done)
}

/// Where the registry says that the node of this shard listens.
async fn found(service: &Service, shard: &ShardName) -> anyhow::Result<String> {
    let mut watch = service.watch();
    let shown = watch.wait_for(|view| view.nodes.contains_key(shard));
    if let Ok(view) = tokio::time::timeout(REGISTRY_WITHIN, shown).await {
        let view = view.context("the registry's watch ended")?;
        return Ok(view.nodes[shard].admin.clone());
    }
    bail!("the registry shows no node of {shard}: is it running? Or say where it is: --node-admin")
}

async fn activate(
    node: &Client,
    one: &Materialised,
    status: &Status,
    copy: bool,
) -> anyhow::Result<()> {
    let db = std::path::absolute(one.db()).context("finding the snapshot's directory")?;
    let follow = one.record.follow.clone().filter(|_| status.service.is_some());
    let adopt = Adopt { format: Adopt::FORMAT, follow, stamp: one.record.stamp };
    node.activate(&db, adopt, copy).await.map_err(|error| {
        let exit = match error.code() {
            Some(admin::Code::Role | admin::Code::Err | admin::Code::Busy) => Exit::Refused,
            Some(_) => Exit::Failed,
            // It may have been done before the connection ended.
            None => Exit::Unknown,
        };
        let again = match exit {
            Exit::Unknown => {
                "; the node has either the database that it had or this one: ask again"
            }
            _ => "",
        };
        Stop::new(exit, format!("the node did not take it: {error}{again}")).into()
    })
}

/// Waits until the node has applied more than the snapshot holds.
async fn follows(node: &Client, one: &Materialised, wait: Duration) -> anyhow::Result<Follows> {
    let Some(follow) = &one.record.follow else { return Ok(Follows::NotAsked) };
    let database = node.status().await?.database;
    let look = async {
        loop {
            let status = node.status().await?;
            if status.database != database {
                return Ok(Follows::Seed);
            }
            let applied = status.applied.get(&follow.source).map(|applied| applied.position);
            let further = applied.is_some_and(|at| {
                at.timeline != follow.position.timeline || at.sequence > follow.position.sequence
            });
            if further && status.role == Role::Standby {
                return Ok(Follows::Log);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(wait, look).await.unwrap_or(Ok(Follows::NotYet))
}

fn answer(
    args: &ActivateArgs,
    one: &Materialised,
    log: Option<&Log>,
    follows: Follows,
    seconds: f64,
) {
    let record = &one.record;
    let (words, shown) = match follows {
        Follows::Log => ("it goes on with the log from there".to_owned(), json!("log")),
        Follows::Seed => ("its source seeds it, which replaces this".to_owned(), json!("seed")),
        Follows::NotYet => (
            format!(
                "nothing has come of its source within {}: are both sidecars running? `godwit-switchover status` shows them",
                args.wait
            ),
            json!("not-yet"),
        ),
        Follows::NotAsked => (String::new(), json!(null)),
    };
    let log_bytes = log.and_then(Log::bytes);
    let left = log_bytes.filter(|_| follows == Follows::Log);
    let left = left.map_or_else(String::new, |bytes| format!(", about {}", report::size(bytes)));
    let words = if words.is_empty() { words } else { format!("; {words}{left}") };
    let text = format!(
        "the node of {} has {} of {}, {}, at {}, in {seconds:.2} s{words}",
        args.shard,
        record.shard,
        record.snapshot,
        report::size(record.bytes),
        record.end,
    );
    let shown = json!({
        "snapshot": record.snapshot, "shard": args.shard, "of": record.shard, "bytes": record.bytes,
        "position": record.end, "seconds": seconds, "follows": shown, "log-bytes": log_bytes,
    });
    report::print(args.output, &text, &shown);
}
