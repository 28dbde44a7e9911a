//! A sidecar as a whole: what its tasks share, and which there are.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use observe::Observer;
use ops::health::Health;
use ops::metrics::{Identity, Metrics};
use ops::shutdown::Shutdown;
use ops::tls::Mutual;
use stream::Link;
use topology::ShardName;
use topology::service::Service;

use crate::board::Board;
use crate::metrics::Meters;
use crate::node::Node;
use crate::settings::Config;
use crate::spool::{Spool, SpoolLock, keep_linking, watchdog};
use crate::target::Inbounds;
use crate::transport::{self, Transport};
use crate::{
    archive, backoff, belonging, drain, drilling, export, loads, member, needs, promises, source,
    target,
};

/// How long a sidecar before this one may take to end.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// How long tasks may take to end.
const END_WITHIN: Duration = Duration::from_secs(3);
/// Linking must succeed again within this, or the sidecar is not healthy.
const LINK_WITHIN: Duration = Duration::from_secs(10);

/// What the tasks of a sidecar share.
#[derive(Debug)]
pub struct Sidecar {
    /// What it was started with.
    pub config: Config,
    /// The shard that its node is.
    pub shard: ShardName,
    /// The service in the registry.
    pub service: Service,
    /// The log files.
    pub spool: Spool,
    /// The node.
    pub node: Node,
    /// What is received.
    pub inbounds: Inbounds,
    /// Exports of checkpoints.
    pub exports: export::Context,
    /// Held while table files are written for a follower of another shape: by one at a time.
    pub rewriting: Arc<Mutex<()>>,
    /// The way out to all followers.
    pub link: Link,
    /// Connections to others and from them.
    pub transport: Transport,
    /// What the tasks say of themselves.
    pub board: Board,
    /// What it sees of the primaries.
    pub observer: Observer,
    /// What is counted.
    pub metrics: Meters,
    /// What is checked.
    pub health: Health,
    /// The end.
    pub shutdown: Shutdown,
}

/// Runs a sidecar until shutdown; `metrics` is where to serve them.
pub async fn run(
    config: Config,
    metrics: Option<String>,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let tls = config.tls.as_ref().map(|tls| tls.open()).transpose()?;
    let _lock = SpoolLock::take(&config.node_dir, LOCK_PATIENCE)?;
    let spool = Spool::open(&config.node_dir)?;
    source::clear_slices(&spool);
    source::clear_seeds(&spool);
    let registry = topology::open(&config.registry)?;
    let service = Service::open_patient(registry, &config.service)?;
    let listener = ops::http::bind("the stream listener", &config.listen).await?;
    transport::size_buffers(&listener, config.link.socket_buffer);
    let address = match &config.announce {
        Some(address) => address.clone(),
        None => listener.local_addr().context("finding the listener's address")?.to_string(),
    };
    let identity = Identity {
        service: Some(config.service.clone()),
        cluster: Some(config.shard.cluster.clone()),
        shard: Some(config.shard.shard),
    };
    let registered = Metrics::new("replicator", env!("CARGO_PKG_VERSION"), &identity);
    let health = Health::new();
    let served = match &metrics {
        Some(address) => {
            let http = ops::http::bind("the metrics listener", address).await?;
            let served = http.local_addr().context("finding the metrics listener's address")?;
            tokio::spawn(ops::http::serve(
                http,
                registered.clone(),
                health.clone(),
                shutdown.clone(),
            ));
            Some(served.to_string())
        }
        None => None,
    };
    let exports = export::Context::new(
        &config.service,
        &config.shard,
        &config.node_admin,
        config.export_rate,
        &spool,
        config.snapshot_log,
    );
    let observer =
        Observer::start(service.watch(), config.probe, |_| None, &registered, shutdown.clone());
    let sidecar = Arc::new(Sidecar {
        observer,
        shard: config.shard.clone(),
        service,
        node: Node::new(&config.node_admin, spool.root()),
        spool,
        inbounds: Inbounds::default(),
        exports,
        rewriting: Arc::default(),
        link: Link::new(config.link.bandwidth),
        transport: Transport::new(&config.service, tls.clone(), config.link.socket_buffer),
        board: Board::default(),
        metrics: Meters::new(&registered),
        health,
        shutdown: shutdown.clone(),
        config,
    });
    tracing::info!(shard = %sidecar.shard, stream = address, "the sidecar is running");
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(linking(sidecar.clone()));
    tasks.spawn(holding_to_budget(sidecar.clone()));
    let (service, shard) = (sidecar.service.clone(), sidecar.shard.clone());
    tasks.spawn(sidecar.node.clone().keep_asking(service, shard, shutdown.clone()));
    tasks.spawn(target::listen(listener, sidecar.clone()));
    tasks.spawn(source::supervise(sidecar.clone()));
    tasks.spawn(drain::keep_draining(sidecar.clone()));
    tasks.spawn(archive::keep_archiving(sidecar.clone()));
    tasks.spawn(target::keep_following(sidecar.clone()));
    tasks.spawn(loads::keep_clearing(sidecar.clone()));
    tasks.spawn(member::keep_publishing(sidecar.clone(), address, served));
    tasks.spawn(drilling::keep_drilling(sidecar.clone()));
    tasks.spawn(backoff::keep_bounding(sidecar.clone()));
    tasks.spawn(belonging::keep_looking(sidecar.clone()));
    tasks.spawn(needs::keep_reckoning(sidecar.clone()));
    tasks.spawn(promises::keep_asking(sidecar.clone()));
    tasks.spawn(progress(sidecar.clone()));
    if let Some(tls) = tls {
        tasks.spawn(following_certificates(sidecar.clone(), tls));
    }
    sidecar.inbounds.open_staged(&sidecar);
    shutdown.cancelled().await;
    let ended =
        tokio::time::timeout(END_WITHIN, async { while tasks.join_next().await.is_some() {} });
    if ended.await.is_err() {
        tracing::warn!(
            "not everything ended within {END_WITHIN:?}; what was acknowledged is on disk"
        );
    }
    Ok(())
}

async fn linking(sidecar: Arc<Sidecar>) {
    let check = sidecar.health.progress("spool", LINK_WITHIN);
    keep_linking(sidecar.spool.clone(), sidecar.shutdown.clone(), |result| match result {
        Ok(_) => check.ok(),
        Err(error) => check.failing(error.to_string()),
    })
    .await;
}

async fn following_certificates(sidecar: Arc<Sidecar>, tls: Mutual) {
    /// How often it is said when ours ends.
    const SAY_EVERY: Duration = Duration::from_secs(10);
    let said = async {
        loop {
            let seconds = tls.expires().map_or(0, |end| end.as_secs());
            let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
            sidecar.metrics.certificate_expires_seconds.set(seconds);
            tokio::time::sleep(SAY_EVERY).await;
        }
    };
    let following = tls.clone().follow(sidecar.shutdown.clone());
    tokio::select! {
        ended = following => if let Err(why) = ended {
            tracing::error!("the certificates are not looked after any more: {why}");
        },
        () = said => {}
    }
}

async fn holding_to_budget(sidecar: Arc<Sidecar>) {
    let meters = sidecar.metrics.clone();
    watchdog(sidecar.spool.clone(), sidecar.config.budget, sidecar.shutdown.clone(), |usage| {
        meters.spool_bytes.set(i64::try_from(usage.bytes).unwrap_or(i64::MAX));
        meters.free_bytes.set(i64::try_from(usage.free).unwrap_or(i64::MAX));
    })
    .await;
}

/// Healthy means progress: a stream that stands still while there is something to send is not.
async fn progress(sidecar: Arc<Sidecar>) {
    /// How long a stream may stand still with something to send.
    const STILL_MAX: Duration = Duration::from_secs(10);
    let check = sidecar.health.progress("streams", STILL_MAX);
    let mut before = sidecar.board.read();
    loop {
        let now = sidecar.board.read();
        let stuck = now.streams.iter().find(|(name, status)| {
            let moved = before.streams.get(*name).is_none_or(|old| {
                old.staged != status.staged || old.seed_bytes != status.seed_bytes
            });
            // One that waits for a full stage is not ours to mend.
            status.behind_bytes > 0 && !moved && !status.peer.full
        });
        if stuck.is_none() {
            check.ok();
            before = now;
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            () = sidecar.shutdown.cancelled() => return,
        }
    }
}
