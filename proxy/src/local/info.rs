//! INFO, and PROXY STATUS for people and tests.

use std::sync::atomic::Ordering;

use resp::reply::Writer;
use serde_json::json;

use super::{REDIS_VERSION, unknown_subcommand};
use crate::command::Request;
use crate::routes::Routes;
use crate::thread::Thread;

/// INFO: what clients look for, in the sections where they look.
pub(super) fn info(out: &mut Writer<'_>, thread: &Thread, routes: &Routes) {
    let shared = &thread.shared;
    let address = shared.announce();
    let port = address.rsplit_once(':').map_or("0", |(_, port)| port);
    let clients = shared.clients(|clients| clients.len());
    let text = format!(
        "# Server\r\nredis_version:{REDIS_VERSION}\r\nredis_mode:standalone\r\nos:{} \r\narch_bits:64\r\nprocess_id:{}\r\nrun_id:{}\r\ntcp_port:{port}\r\nuptime_in_seconds:{}\r\nuptime_in_days:{}\r\ngodwit_proxy_version:{}\r\ngodwit_epoch:{}\r\ngodwit_shards:{}\r\n\r\n\
         # Clients\r\nconnected_clients:{clients}\r\nmaxclients:{}\r\nblocked_clients:{}\r\n\r\n\
         # Memory\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n\r\n\
         # Persistence\r\nloading:0\r\n\r\n\
         # Stats\r\ntotal_connections_received:{}\r\n\r\n\
         # Replication\r\nrole:master\r\nconnected_slaves:0\r\n\r\n\
         # Cluster\r\ncluster_enabled:0\r\n\r\n# Keyspace\r\n",
        std::env::consts::OS,
        std::process::id(),
        shared.node_id,
        shared.started.elapsed().as_secs(),
        shared.started.elapsed().as_secs() / 86_400,
        env!("CARGO_PKG_VERSION"),
        routes.epoch,
        routes.routes.len(),
        shared.config.max_clients,
        shared.stats.held.get(),
        shared.stats.accepted.get(),
    );
    out.verbatim(*b"txt", text.as_bytes());
}

/// PROXY STATUS: JSON.
pub(super) fn proxy(out: &mut Writer<'_>, thread: &Thread, routes: &Routes, request: &Request<'_>) {
    if !request.is(1, "STATUS") || request.len() != 2 {
        return unknown_subcommand(out, request);
    }
    let shared = &thread.shared;
    let ways: Vec<_> = routes
        .routes
        .iter()
        .map(|route| {
            json!({
                "shard": route.name,
                "slots": route.slots.to_string(),
                "primary": route.address.as_deref(),
                "held": route.held,
            })
        })
        .collect();
    let status = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "listen": shared.announce(),
        "epoch": routes.epoch,
        "freeze": routes.freeze,
        "threads": shared.config.threads,
        "clients": shared.clients(|clients| clients.len()),
        "held-clients": shared.stats.held.get(),
        "held-bytes": shared.held_bytes.load(Ordering::Relaxed),
        "unknown-outcomes": shared.stats.unknown.get(),
        "held-given-up": shared.stats.given_up.get(),
        "reconnects": shared.stats.reconnects.get(),
        "routes": ways,
    });
    out.bulk(status.to_string().as_bytes());
}
