//! `push`: a snapshot of a cluster.
//!
//! ```text
//! discover   the shards' sidecars, from the registry
//! session    the connection to one of them
//! way        its files, or its log since the last snapshot: whichever is less
//! running    all shards begin, one cut is chosen, all end there
//! shard      what comes of one; receive stores it, pieces says what is still to come
//! ```
//!
//! The seal is written last. Before it there is no snapshot, and what the repository has by then is not sent
//! again.

pub(crate) mod discover;
mod pieces;
mod receive;
mod running;
pub(crate) mod session;
mod shard;
mod way;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use ops::exit::{Exit, Stop};
use ops::health::Health;
use ops::metrics::{Identity, Metrics};
use ops::shutdown::Shutdown;
use store::SnapshotId;
use store::repository::piece::Known;
use store::repository::{Manifest, Repository, Snapshot, Snapshots, header};
use tokio::sync::Semaphore;
use topology::operator::SNAPSHOT_SEALED;
use topology::service::Service;

use crate::config::{Config, StoreUrl, WaySetting};
use crate::note;
use crate::report::{self, Pushed};
use ops::progress::Progress;
use receive::Place;
use running::Running;
use shard::Common;
pub use way::ChainLimits;

/// Pieces of all shards that are unpacked and stored at a time.
const PUTS_MAX: usize = 4;
/// How long a sidecar may take to note that there is a snapshot.
const KEPT_WITHIN: Duration = Duration::from_secs(30);

/// Takes a snapshot, seals it and prints what was sent.
///
/// # Errors
/// The registry, a sidecar or the store failed, or a signal came: nothing was sealed.
pub async fn run(config: Config, metrics: Option<String>) -> anyhow::Result<Exit> {
    let shutdown = Shutdown::on_signals()?;
    let progress = Progress::new("pushing");
    if let Some(address) = metrics {
        serve_metrics(&address, &config, progress.clone(), shutdown.clone()).await?;
    }
    let pushed = tokio::select! {
        pushed = push(&config, &progress) => pushed.context("nothing was sealed; what the store has already is not sent again")?,
        () = shutdown.cancelled() => {
            let why = "interrupted; nothing was sealed, and what the store has already is not sent again";
            return Err(Stop::new(Exit::Failed, why).into());
        }
    };
    drop(progress);
    report::print(config.output, &text(&pushed), &pushed);
    Ok(Exit::Done)
}

/// Opens the repository that a push goes to; one that is not there is made.
///
/// # Errors
/// It cannot be used.
pub async fn open(config: &Config) -> anyhow::Result<Repository> {
    let tls = config.tls.as_ref().map(|tls| tls.open()).transpose()?;
    let (bucket, keys) = config.store.open(&config.service, tls.as_ref())?;
    let opened = Repository::create(bucket, keys, header::GRACE_DEFAULT).await;
    opened.with_context(|| match &config.store.url {
        url @ StoreUrl::Served(_) => {
            format!("opening {url} (is `godwit-snapshotter serve` running there?)")
        }
        url @ StoreUrl::Bucket(_) => format!("opening {url}"),
    })
}

async fn push(config: &Config, progress: &Progress) -> anyhow::Result<Pushed> {
    let repository = open(config).await?;
    let known = Arc::new(repository.known().await?);
    let mut snapshots = Snapshots::open(&repository).await?;
    let last = last_manifests(&snapshots, config, &known).await?;
    let tls = config.tls.as_ref().map(|tls| tls.open()).transpose()?;
    let service = Service::open(topology::open(&config.registry)?, &config.service).await?;
    let targets = discover::targets(&service, config).await?;
    let id = SnapshotId::new(SystemTime::now(), rand::random());
    tracing::info!(snapshot = %id, shards = targets.len(), store = %config.store.url, "taking a snapshot");
    let common = Common {
        service: config.service.clone(),
        id: id.clone(),
        place: Place {
            repository: repository.clone(),
            known: known.clone(),
            puts: Arc::new(Semaphore::new(PUTS_MAX)),
            progress: progress.clone(),
        },
        places: Arc::new(Semaphore::new(config.parallel)),
        limits: config.chain,
        may_log: config.way == WaySetting::Cheapest,
        digests: config.digest,
        bandwidth: config.bandwidth.map(|all| (all / targets.len().max(1) as u64).max(1)),
        tls,
    };
    let running = Running::start(common, targets, last);
    let (fetched, waiting, sealed) = running.fetched().await?;
    if known.is_stale() {
        bail!(
            "it took longer than half the repository's time of grace, so what was there may be deleted by now: push again"
        );
    }
    let (manifests, mut shards): (Vec<_>, Vec<_>) =
        fetched.into_iter().map(|fetched| (fetched.manifest, fetched.report)).unzip();
    let now = ops::clock::unix_ms();
    let snapshot = snapshots.seal(&id, &config.service, &config.cluster, now, &manifests).await?;
    // Nobody may be left to hear it: it is sealed all the same.
    let _ = sealed.send(true);
    let says = format!("{id} of cluster `{}`", config.cluster);
    note::put(&service, SNAPSHOT_SEALED, now, says).await;
    for (shard, end) in shards.iter_mut().zip(waiting) {
        let kept = tokio::time::timeout(KEPT_WITHIN, end.end()).await;
        shard.log_not_kept = match kept {
            Ok(Ok(why)) => why,
            Ok(Err(error)) => Some(format!("{error:#}")),
            Err(_) => Some(format!("the sidecar said nothing within {KEPT_WITHIN:?}")),
        };
        if let Some(why) = &shard.log_not_kept {
            tracing::info!(shard = shard.shard, "the next snapshot is made of files: {why}");
        }
    }
    Ok(Pushed {
        snapshot: id.to_string(),
        service: config.service.clone(),
        cluster: config.cluster.clone(),
        bytes_sent: shards.iter().map(|shard| shard.bytes_sent).sum(),
        bytes_total: shards.iter().map(|shard| shard.bytes_total).sum(),
        cut: snapshot.cut.map(|cut| cut.to_string()),
        seconds: progress.elapsed().as_secs_f64(),
        shards,
    })
}

/// The manifests of the newest snapshot of this cluster; what they name is there.
async fn last_manifests(
    snapshots: &Snapshots,
    config: &Config,
    known: &Known,
) -> anyhow::Result<BTreeMap<String, Manifest>> {
    let of_us = |snapshot: &Snapshot| {
        snapshot.service == config.service && snapshot.cluster == config.cluster
    };
    let newest = snapshots.list().rev().find(|(snapshot, _)| of_us(snapshot));
    let mut last = BTreeMap::new();
    let Some((snapshot, _)) = newest else { return Ok(last) };
    // What is damaged may have been set aside, to be stored again.
    let has_damage = |(s, _): &(Snapshot, _)| snapshots.known_of(&s.id).damaged_at.is_some();
    let damaged = snapshots.list().any(has_damage);
    for n in 0..snapshot.shards.len() {
        match snapshots.manifest(snapshot, n).await {
            Ok(manifest) => {
                match damaged {
                    true => snapshots.repository().learn_if_there(known, manifest.blobs()).await?,
                    false => known.learn(manifest.blobs()),
                }
                last.insert(manifest.shard.clone(), manifest);
            }
            // The new one need not lean on it.
            Err(error) if error.is_damage() => {
                tracing::warn!("the last snapshot {} is damaged: {error}", snapshot.id);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(last)
}

fn text(pushed: &Pushed) -> String {
    let mut text = String::new();
    for shard in &pushed.shards {
        text.push_str(&format!(
            "{}: by {} ({}); {} files, {} of them in the store already, {} segments; {} sent for {}; at {}\n",
            shard.shard,
            if shard.way == report::Way::Log { "its log" } else { "its files" },
            shard.why,
            shard.files,
            shard.reused,
            shard.segments,
            report::size(shard.bytes_sent),
            report::size(shard.bytes_total),
            shard.position,
        ));
    }
    text.push_str(&format!(
        "sealed snapshot {} of {}/{}: {} sent for {} in {:.1} s",
        pushed.snapshot,
        pushed.service,
        pushed.cluster,
        report::size(pushed.bytes_sent),
        report::size(pushed.bytes_total),
        pushed.seconds,
    ));
    text
}

async fn serve_metrics(
    address: &str,
    config: &Config,
    progress: Progress,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let identity = Identity {
        service: Some(config.service.clone()),
        cluster: Some(config.cluster.clone()),
        shard: None,
    };
    let metrics = Metrics::new("snapshotter", env!("CARGO_PKG_VERSION"), &identity);
    let sent = metrics.counter("sent_bytes", "Compressed bytes that came from the sidecars");
    let left = metrics.gauge("left_bytes", "Bytes of files that are still to come");
    let listener = ops::http::bind("metrics", address).await?;
    tokio::spawn(ops::http::serve(listener, metrics, Health::new(), shutdown));
    tokio::spawn(async move {
        let mut tick = tokio::time::interval(std::time::Duration::from_secs(1));
        loop {
            tick.tick().await;
            sent.inc_by(progress.sent() - sent.get());
            left.set(i64::try_from(progress.left()).unwrap_or(i64::MAX));
        }
    });
    Ok(())
}
