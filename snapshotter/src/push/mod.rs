//! `push`: a snapshot of a cluster.

mod discover;
pub mod shard;

use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context;
use ops::exit::{Exit, Stop};
use ops::health::Health;
use ops::metrics::{Identity, Metrics};
use ops::shutdown::Shutdown;
use store::{SnapshotId, Store};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::config::Config;
use crate::report::{self, Pushed};
use ops::progress::Progress;

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

async fn push(config: &Config, progress: &Progress) -> anyhow::Result<Pushed> {
    let store = Store::open_or_create(&config.to)?;
    let removed = store.tidy()?;
    if removed > 0 {
        tracing::info!(removed, "removed what pushes that died left in the store");
    }
    let tls = config.tls.as_ref().map(|tls| tls.open()).transpose()?;
    let targets = discover::targets(config).await?;
    let id = SnapshotId::new(SystemTime::now(), rand::random());
    tracing::info!(snapshot = %id, shards = targets.len(), store = %config.to, "taking a snapshot");

    let places = Arc::new(Semaphore::new(config.parallel));
    let mut running = JoinSet::new();
    for (n, target) in targets.into_iter().enumerate() {
        let (places, store) = (places.clone(), store.clone());
        let (id, service, progress) = (id.clone(), config.service.clone(), progress.clone());
        let tls = tls.clone();
        running.spawn(async move {
            let _place = places.acquire_owned().await.expect("nobody closes it");
            let shard = target.shard.clone();
            let fetched =
                shard::fetch(&target, &service, &id, &store, &progress, tls.as_ref()).await;
            fetched
                .map(|fetched| (n, fetched))
                .with_context(|| format!("shard {shard}, whose sidecar is at {}", target.address))
        });
    }
    let mut fetched = Vec::new();
    // The first error drops the set, which ends the others.
    while let Some(done) = running.join_next().await {
        fetched.push(done.context("a task died")??);
    }
    fetched.sort_by_key(|(n, _)| *n);

    let (manifests, shards): (Vec<_>, Vec<_>) =
        fetched.into_iter().map(|(_, fetched)| (fetched.manifest, fetched.report)).unzip();
    let now = ops::clock::unix_ms();
    tokio::task::block_in_place(|| {
        store.seal(&id, &config.service, &config.cluster, now, &manifests)
    })?;
    Ok(Pushed {
        snapshot: id.to_string(),
        service: config.service.clone(),
        cluster: config.cluster.clone(),
        bytes_sent: shards.iter().map(|shard| shard.bytes_sent).sum(),
        bytes_total: shards.iter().map(|shard| shard.bytes_total).sum(),
        seconds: progress.elapsed().as_secs_f64(),
        shards,
    })
}

fn text(pushed: &Pushed) -> String {
    let mut text = String::new();
    for shard in &pushed.shards {
        text.push_str(&format!(
            "{}: {} files, {} of them in the store already; {} sent for {}; at {}\n",
            shard.shard,
            shard.files,
            shard.reused,
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
