//! `serve`: takes pushes in, on the other side.
//!
//! It keeps what pushers of one service put, in a directory or a bucket, and gives it back. They add to
//! history and cannot take from it ([`guard`]); what lets go of snapshots (`prune`) is run here, beside it.
//! It holds no keys: of an encrypted repository it can read nothing. Of another one it can materialise the
//! newest snapshots ([`materialise`]), so that a standby's node has one within seconds.

mod guard;
mod materialise;
mod settings;

use std::sync::Arc;

use anyhow::Context;
use ops::exit::Exit;
use ops::health::Health;
use ops::metrics::{Identity, Metrics};
use ops::shutdown::Shutdown;
use ops::tls::{Mutual, PeerName, Socket};
use store::bucket::{Bucket, BucketAddress, Room};
use stream::names;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use crate::config::StoreUrl;
use guard::AppendOnly;
pub use materialise::MaterialiseConfig;
use materialise::Materialiser;
pub use settings::{ServeConfig, ServeSettings};

/// Serves until a signal comes.
///
/// # Errors
/// The address cannot be listened at, or the certificates cannot be read.
pub async fn run(config: ServeConfig, metrics: Option<String>) -> anyhow::Result<Exit> {
    let shutdown = Shutdown::on_signals()?;
    let tls = config.tls.as_ref().map(|tls| tls.open()).transpose()?;
    let bucket = config.store.bucket()?;
    let listener = ops::http::bind("the listener for pushers", &config.listen).await?;
    let health = Health::new();
    let check = health.check("listener");
    check.ok();
    let identity = Identity { service: Some(config.service.clone()), cluster: None, shard: None };
    let registered = Metrics::new("snapshotter", env!("CARGO_PKG_VERSION"), &identity);
    let sealed = registered.counter("served_pages", "Pages of the list of snapshots that came");
    let (seals, mut seen) = watch::channel(0);
    let materialiser = config.materialise.clone().map(|keep| {
        let (service, bucket) = (&config.service, bucket.clone());
        (Materialiser::new(keep, service, bucket, &registered), seals.subscribe())
    });
    if let Some(address) = metrics {
        let http = ops::http::bind("metrics", &address).await?;
        tokio::spawn(ops::http::serve(http, registered, health, shutdown.clone()));
    }
    tokio::spawn(async move {
        while seen.changed().await.is_ok() {
            sealed.inc_by(*seen.borrow_and_update() - sealed.get());
        }
    });
    if let Some(tls) = tls.clone() {
        tokio::spawn(tls.follow(shutdown.clone()));
    }
    let free = match &config.store.url {
        StoreUrl::Bucket(BucketAddress::Directory(dir)) => {
            std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
            Some((dir.clone(), config.free))
        }
        _ => None,
    };
    let guard =
        AppendOnly { service: config.service.clone(), bucket: bucket.clone(), free, sealed: seals };
    let serving = Arc::new(Serving {
        guard,
        bucket,
        tls,
        peer: PeerName::new(&names::of_snapshotter(&config.service))?,
        handshake: config.handshake,
        room: Room::new(config.memory),
    });
    let address = listener.local_addr().context("finding the listener's address")?;
    tracing::info!(%address, store = %config.store.url, "taking pushes in");
    let accepting = accept(listener, serving, config.connections, shutdown.clone());
    let materialising = async {
        if let Some((materialiser, seals)) = materialiser {
            Box::pin(materialiser.run(seals, shutdown)).await;
        }
    };
    tokio::join!(accepting, materialising);
    Ok(Exit::Done)
}

/// What connections share.
struct Serving {
    guard: AppendOnly,
    bucket: Bucket,
    tls: Option<Mutual>,
    /// The name that a pusher's certificate shows.
    peer: PeerName,
    handshake: std::time::Duration,
    room: Room,
}

async fn accept(
    listener: TcpListener,
    serving: Arc<Serving>,
    connections: usize,
    shutdown: Shutdown,
) {
    let places = Arc::new(Semaphore::new(connections));
    loop {
        let accept = async {
            let place = places.clone().acquire_owned().await;
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            accepted = accept => accepted,
            () = shutdown.cancelled() => return,
        };
        let socket = match accepted {
            Ok((socket, _)) => socket,
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let (serving, shutdown) = (serving.clone(), shutdown.clone());
        tokio::spawn(async move {
            let _place = place;
            let peer = socket.peer_addr().map(|a| a.to_string()).unwrap_or_default();
            tokio::select! {
                ended = serving.serve(socket) => if let Err(error) = ended {
                    tracing::warn!(peer, "a connection ended early: {error:#}");
                },
                () = shutdown.cancelled() => {}
            }
        });
    }
}

impl Serving {
    async fn serve(&self, socket: TcpStream) -> anyhow::Result<()> {
        socket.set_nodelay(true)?;
        let socket = match &self.tls {
            None => Socket::plain(socket),
            Some(tls) => {
                let socket = tls.accept(socket, self.handshake).await?;
                let peer = socket.peer().context("it showed no certificate")?;
                let names: Vec<_> =
                    std::iter::once(self.peer.clone()).chain(tls.also().iter().cloned()).collect();
                peer.is_one_of(&names)?;
                socket
            }
        };
        let answered =
            store::bucket::answer(stream::split(socket), &self.bucket, &self.guard, &self.room);
        Ok(Box::pin(answered).await?)
    }
}
