//! Brings a proxy up and takes it down.

use std::sync::Arc;

use anyhow::Context;
use ops::health::{Check, Health};
use ops::metrics::{Identity, Metrics};
use ops::shutdown::Shutdown;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::config::{Config, Upstream};
use crate::registry::Member;
use crate::routes::Routes;
use crate::shared::Shared;
use crate::stats::Stats;
use crate::thread;

/// Clients that were accepted and that a thread has not taken yet.
const ACCEPTED_MAX: usize = 128;
/// How often readiness is looked at.
const READY_EVERY: std::time::Duration = std::time::Duration::from_millis(100);

/// A thread that does not get round to its clock within this is stuck, and so are its clients.
const TICK_WITHIN: std::time::Duration = std::time::Duration::from_secs(5);

/// Serves until shutdown. `metrics` is where /metrics, /healthz and /readyz are served.
pub async fn run(
    config: Config,
    metrics: Option<String>,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let identity = match &config.upstream {
        Upstream::Backend(_) => Identity::default(),
        Upstream::Service { service, cluster, .. } => {
            Identity { service: Some(service.clone()), cluster: Some(cluster.clone()), shard: None }
        }
    };
    let all = Metrics::new("proxy", env!("CARGO_PKG_VERSION"), &identity);
    let health = Health::new();
    let listener = ops::http::bind("clients", &config.listen).await?;
    let bound = listener.local_addr().context("asking for the address that was bound")?;
    let announce = config.announce.clone().unwrap_or_else(|| bound.to_string());
    let metrics_listener = match &metrics {
        Some(address) => Some(ops::http::bind("metrics", address).await?),
        None => None,
    };
    let metrics =
        metrics_listener.as_ref().and_then(|l| l.local_addr().ok()).map(|a| a.to_string());
    let stats = Stats::new(&all);
    let first = match &config.upstream {
        Upstream::Backend(address) => Routes::single(address),
        Upstream::Service { .. } => Routes::default(),
    };
    let shared = Arc::new(Shared::new(config, announce, stats, first, shutdown.clone()));
    let member = Member::open(&shared, metrics, &all)?;
    let member = member.map(|member| tokio::spawn(member.run()));
    if let Some(listener) = metrics_listener {
        tokio::spawn(ops::http::serve(listener, all, health.clone(), shutdown.clone()));
    }
    tokio::spawn(readiness(shared.clone(), health.check("routes")));

    let mut threads = Vec::new();
    let mut senders = Vec::new();
    for number in 0..shared.config.threads {
        let (sender, incoming) = mpsc::channel(ACCEPTED_MAX);
        senders.push(sender);
        let shared = shared.clone();
        let name = format!("proxy-{number}");
        let check = health.progress(&name, TICK_WITHIN);
        let spawned = std::thread::Builder::new()
            .name(name)
            .spawn(move || thread::run(shared, number, incoming, check));
        threads.push(spawned.context("starting a thread for clients")?);
    }
    tracing::info!(listen = %bound, threads = threads.len(), "serving clients");
    accept(&shared, listener, senders).await;
    if let Some(member) = member {
        // It takes its name out of the registry before its clients go.
        let _ = member.await;
    }
    let joined = tokio::task::spawn_blocking(move || {
        threads.into_iter().try_for_each(std::thread::JoinHandle::join)
    });
    match joined.await {
        Ok(Ok(())) => Ok(()),
        _ => anyhow::bail!("a thread of the proxy panicked; the log has the reason"),
    }
}

/// Deals new clients out to the threads in turn, until shutdown.
async fn accept(
    shared: &Shared,
    listener: TcpListener,
    threads: Vec<mpsc::Sender<std::net::TcpStream>>,
) {
    for sender in threads.iter().cycle() {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.shutdown.cancelled() => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(why) => {
                // Out of file descriptors, say: those that are served go on.
                tracing::warn!(%why, "cannot accept a client");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            }
        };
        shared.stats.accepted.inc();
        let count = shared.stats.clients.get();
        if usize::try_from(count).unwrap_or(0) >= shared.config.max_clients {
            let _ = stream.try_write(b"-ERR max number of clients reached\r\n");
            continue;
        }
        if let Ok(stream) = stream.into_std()
            && sender.send(stream).await.is_err()
        {
            return;
        }
    }
}

/// Ready: every slot has a primary, and some connection to a node is up.
async fn readiness(shared: Arc<Shared>, check: Check) {
    let mut every = tokio::time::interval(READY_EVERY);
    loop {
        tokio::select! {
            _ = every.tick() => {}
            () = shared.shutdown.cancelled() => return check.failing("stopping"),
        }
        let routes = shared.routes.load();
        match routes.problem() {
            Some(why) => check.failing(why),
            None if shared.stats.connected.get() == 0 => {
                check.failing("no node can be reached; the log has the reason");
            }
            None => check.ok(),
        }
    }
}
