//! Putting a node together, and taking it apart.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use ops::exit::Exit;
use ops::health::Health;
use ops::metrics::Identity;
use ops::shutdown::Shutdown;
use ops::tls::Tls;
use topology::Service;

use crate::acl::Users;
use crate::config::{AdminConfig, Config, UsersIn};
use crate::control::{Announce, Control, Guard, Steward, listener};
use crate::meter;
use crate::server::{Facts, Kept, Listeners, Server, Shared};
use crate::store::NodeDir;
use crate::worker::Workers;

/// The users' file in the node's directory.
const USERS: &str = "users.acl";
/// Healthy means that the log was looked after within this age.
const PROGRESS_AGE: Duration = Duration::from_secs(15);

/// Where clients connect, with and without TLS; the address is the one that others are told.
async fn listen(config: &Config) -> anyhow::Result<(Listeners, SocketAddr)> {
    let plain = ops::http::bind("clients", &config.listen).await?;
    let address = plain.local_addr()?;
    let listeners = match &config.tls {
        None => Listeners { plain: Some(plain), tls: None },
        Some((files, also)) => {
            let tls = Tls::open(files.clone())?;
            match also {
                None => Listeners { plain: None, tls: Some((plain, tls)) },
                Some(address) => {
                    let sealed = ops::http::bind("clients by TLS", address).await?;
                    Listeners { plain: Some(plain), tls: Some((sealed, tls)) }
                }
            }
        }
    };
    Ok((listeners, address))
}

/// Where control commands come from other machines.
async fn listen_remotely(
    config: &AdminConfig,
) -> anyhow::Result<(listener::Listener, Option<Tls>)> {
    let tls = config.tls.clone().map(Tls::open).transpose()?;
    let guard = Guard::new(tls.clone(), config.login.clone());
    Ok((listener::Listener::bind(&config.address, guard).await?, tls))
}

/// Runs a node until shutdown. `metrics` is where they are served, if they are.
pub async fn run(
    config: Config,
    metrics: Option<String>,
    shutdown: Shutdown,
) -> anyhow::Result<Exit> {
    let dir = config.dir.clone();
    let dir = tokio::task::spawn_blocking(move || NodeDir::lock(&dir)).await??;
    let (listeners, client) = listen(&config).await?;
    let admin = listener::Listener::bind(&config.admin, Guard::default()).await?;
    let remote = match &config.admin_listener {
        Some(config) => Some(listen_remotely(config).await?),
        None => None,
    };
    let metrics = match &metrics {
        Some(address) => Some(ops::http::bind("metrics", address).await?),
        None => None,
    };
    let service = match &config.member {
        Some(member) => {
            let registry = topology::open(&member.registry)?;
            Some(Service::open_patient(registry, &member.service)?)
        }
        None => None,
    };

    let facts = Facts {
        dir: config.dir.clone(),
        append_fsync: config.store.durability.redis_name(),
        io_threads: config.io_threads,
        workers: config.workers,
        memory_bytes: config.store.memory,
        tls: listeners.tls_facts()?,
    };
    let users = Arc::new(Users::open(config.dir.join(USERS))?);
    let owner = config.member.as_ref().map(|m| (m.service.clone(), m.shard.clone()));
    let options = config.store;
    let cache_bytes = options.shares().records;
    let peer_promises = config.peer_promises;
    let opening = move || Control::open(dir, owner, options, peer_promises);
    let opened = tokio::task::spawn_blocking(opening).await??;
    let workers = Workers::start(
        config.workers,
        opened.current().clone(),
        opened.authority().clone(),
        cache_bytes,
    )
    .context("cannot start the worker threads")?;
    let shared = Arc::new(Shared::new(
        workers.clone(),
        opened.authority().clone(),
        opened.current().clone(),
        shutdown.clone(),
        (client, facts),
        users.clone(),
    ));
    let herald: std::sync::Weak<dyn crate::worker::Herald> = Arc::downgrade(&shared) as _;
    workers.listeners().set_herald(herald);
    let of_service = config.member.is_some();
    if config.users == UsersIn::Log {
        users.follow_log(opened.authority().clone(), opened.current().clone(), of_service);
    }
    Kept::read(&shared.facts.dir)?.apply(&shared)?;
    if let Some(password) = &config.requirepass {
        shared.require_password(password.as_bytes()).map_err(anyhow::Error::msg)?;
    }
    let control = opened.control(workers.clone());
    let tls = listeners.tls.as_ref().map(|(_, tls)| tls.clone());
    let client_tls = tls.as_ref().map(|_| if listeners.plain.is_some() { "both" } else { "on" });
    let server = Server::new(listeners, config.io_threads, shared.clone())
        .context("cannot start the I/O threads")?;

    let announce = Announce {
        client: config.announce.clone().unwrap_or_else(|| client.to_string()),
        admin: match (&config.admin_listener, &remote) {
            (Some(AdminConfig { announce: Some(address), .. }), _) => address.to_string(),
            (_, Some((listener, _))) => listener.address().to_string(),
            (_, None) => admin.address().to_string(),
        },
        metrics: metrics.as_ref().map(|m| m.local_addr()).transpose()?.map(|a| a.to_string()),
        client_tls,
        users: Some(users),
    };
    tracing::info!(%client, admin = %announce.admin, metrics = ?announce.metrics, dir = %config.dir.display(), "serving");

    let health = Health::new();
    let progress = health.progress("log", PROGRESS_AGE);
    let ready = health.check("role");
    let gauges = ops::metrics::Metrics::new(
        "node",
        env!("CARGO_PKG_VERSION"),
        &Identity {
            service: config.member.as_ref().map(|m| m.service.clone()),
            cluster: config.member.as_ref().map(|m| m.shard.cluster.clone()),
            shard: config.member.as_ref().map(|m| m.shard.shard),
        },
    );
    let member = service.clone().map(|service| (service, announce));
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(Steward::run(control.clone(), member, progress, ready, shutdown.clone()));
    tasks.spawn(admin.serve(control.clone(), shutdown.clone()));
    tasks.spawn(meter::run(control.clone(), shared, gauges.clone(), shutdown.clone()));
    let admin_tls = remote.as_ref().and_then(|(_, tls)| tls.clone());
    for tls in [tls, admin_tls].into_iter().flatten() {
        let following = tls.follow(shutdown.clone());
        tasks.spawn(async move {
            if let Err(why) = following.await {
                tracing::error!("the certificate is not looked after any more: {why}");
            }
        });
    }
    if let Some((listener, _)) = remote {
        tasks.spawn(listener.serve(control.clone(), shutdown.clone()));
    }
    if let Some(listener) = metrics {
        let serving = ops::http::serve(listener, gauges, health, shutdown.clone());
        tasks.spawn(async move {
            if let Err(why) = serving.await {
                tracing::error!("serving metrics ended: {why}");
            }
        });
    }

    let served = server.run().await.context("accepting clients ended");
    shutdown.request();
    while tasks.join_next().await.is_some() {}
    let ended = tokio::task::spawn_blocking(move || {
        workers.stop();
        control.close()
    });
    ended.await??;
    if let (Some(service), Some(member)) = (&service, &config.member) {
        // It ends by itself within seconds; this is only politeness.
        let removed = service.remove_node(&member.shard);
        if !matches!(tokio::time::timeout(Duration::from_secs(1), removed).await, Ok(Ok(()))) {
            tracing::info!("the registry was not told; the node's key there ends by itself");
        }
    }
    served?;
    tracing::info!("the log is synced and the database closed");
    Ok(Exit::Done)
}
