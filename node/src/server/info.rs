//! INFO and the other commands about the server.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use resp::reply::Writer;

use super::broker::Kind;
use super::hello::{REDIS_VERSION, is_replica};
use super::session::{Session, Shared};
use crate::command::whole::Few;
use crate::command::{Args, Fail};
use crate::control::Mode;

pub(super) fn info(session: &mut Session, args: &Args<'_>, out: &mut Vec<u8>) -> Result<(), Fail> {
    let everything = ["all", "default", "everything"];
    let all = args.len() == 1
        || args.from(1).any(|a| everything.iter().any(|e| a.eq_ignore_ascii_case(e.as_bytes())));
    let mut text = String::new();
    for (name, section) in SECTIONS {
        if all || args.from(1).any(|arg| arg.eq_ignore_ascii_case(name.as_bytes())) {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            section(&session.shared, &mut text);
        }
    }
    Writer::new(out, session.version).verbatim(*b"txt", text.as_bytes());
    Ok(())
}

type Section = fn(&Shared, &mut String);

const SECTIONS: &[(&str, Section)] = &[
    ("server", server),
    ("clients", clients),
    ("memory", memory),
    ("persistence", persistence),
    ("stats", stats),
    ("replication", replication),
    ("cpu", cpu),
    ("cluster", cluster),
    ("keyspace", keyspace),
];

/// Writing to a string cannot fail.
macro_rules! line {
    ($out:expr, $($arg:tt)*) => {{
        let _ = write!($out, $($arg)*);
        $out.push_str("\r\n");
    }};
}

fn server(shared: &Shared, out: &mut String) {
    let up = shared.started.elapsed().as_secs();
    let mode = if shared.authority.mode() == Mode::Standalone { "standalone" } else { "cluster" };
    line!(out, "# Server");
    line!(out, "redis_version:{REDIS_VERSION}");
    line!(out, "redis_git_sha1:00000000");
    line!(out, "redis_mode:{mode}");
    line!(out, "os:{} {}", std::env::consts::OS, std::env::consts::ARCH);
    line!(out, "arch_bits:{}", usize::BITS);
    line!(out, "godwit_version:{}", env!("CARGO_PKG_VERSION"));
    line!(out, "process_id:{}", std::process::id());
    line!(out, "run_id:{}", shared.run_id);
    line!(out, "tcp_port:{}", shared.address.port());
    line!(out, "server_time_usec:{}", ops::clock::unix_ms() * 1000);
    line!(out, "uptime_in_seconds:{up}");
    line!(out, "uptime_in_days:{}", up / 86_400);
}

fn clients(shared: &Shared, out: &mut String) {
    line!(out, "# Clients");
    line!(out, "connected_clients:{}", shared.clients.len());
    line!(out, "maxclients:{}", shared.clients_max.load(Ordering::Relaxed));
    line!(out, "blocked_clients:{}", shared.workers.blocked().len() + shared.pause.waiting());
    let tracking = shared.clients.all().iter().filter(|c| c.tracks().is_some()).count();
    line!(out, "tracking_clients:{tracking}");
}

fn memory(shared: &Shared, out: &mut String) {
    let resident = resident_bytes().unwrap_or(0);
    line!(out, "# Memory");
    line!(out, "used_memory:{resident}");
    line!(out, "used_memory_rss:{resident}");
    line!(out, "maxmemory:0");
    line!(out, "maxmemory_policy:noeviction");
    if let Some(store) = shared.store.load() {
        for (name, property) in [
            ("rocksdb_memtable_bytes", "rocksdb.cur-size-all-mem-tables"),
            ("rocksdb_block_cache_bytes", "rocksdb.block-cache-usage"),
        ] {
            let value = store.db().property_int_value(property).ok().flatten().unwrap_or(0);
            line!(out, "{name}:{value}");
        }
    }
}

/// Resident memory of this process, from `/proc/self/status` (proc(5)).
fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

fn persistence(shared: &Shared, out: &mut String) {
    line!(out, "# Persistence");
    line!(out, "loading:{}", u8::from(shared.authority.mode() == Mode::Loading));
    line!(out, "aof_enabled:1");
    line!(out, "aof_rewrite_in_progress:0");
    line!(out, "rdb_bgsave_in_progress:0");
    if let Some(store) = shared.store.load() {
        line!(out, "godwit_position:{}", store.position());
    }
}

fn stats(shared: &Shared, out: &mut String) {
    let stats = &shared.stats;
    line!(out, "# Stats");
    line!(out, "total_connections_received:{}", stats.connections_received.load(Ordering::Relaxed));
    line!(out, "total_commands_processed:{}", stats.commands_processed.load(Ordering::Relaxed));
    line!(out, "rejected_connections:{}", stats.connections_rejected.load(Ordering::Relaxed));
    let broker = &shared.broker;
    line!(out, "pubsub_channels:{}", broker.names_active(Kind::Channel));
    line!(out, "pubsub_patterns:{}", broker.names_active(Kind::Pattern));
    line!(out, "pubsubshard_channels:{}", broker.names_active(Kind::Sharded));
    let listeners = shared.workers.listeners();
    let (keys, items) = listeners.tracked.len();
    line!(out, "expired_keys:{}", listeners.expired.load(Ordering::Relaxed));
    line!(out, "tracking_total_keys:{keys}");
    line!(out, "tracking_total_items:{items}");
    line!(out, "tracking_total_prefixes:{}", shared.followers.len());
    let slow = broker.too_slow.load(Ordering::Relaxed);
    line!(out, "client_output_buffer_limit_disconnections:{slow}");
    line!(out, "godwit_longest_queue:{}", shared.workers.longest_queue());
    let (hits, misses) = shared.workers.caches().hits_and_misses();
    line!(out, "godwit_cache_hits:{hits}");
    line!(out, "godwit_cache_misses:{misses}");
    if let Some(store) = shared.store.load() {
        line!(out, "godwit_commits:{}", store.commits());
    }
}

fn replication(shared: &Shared, out: &mut String) {
    let mode = shared.authority.mode();
    line!(out, "# Replication");
    line!(out, "role:{}", if is_replica(mode) { "slave" } else { "master" });
    line!(out, "connected_slaves:0");
    line!(out, "master_replid:{}", shared.run_id);
    line!(out, "godwit_mode:{mode:?}");
}

fn cpu(_: &Shared, out: &mut String) {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    line!(out, "# CPU");
    line!(out, "used_cpu_user:{}.{:06}", time.tv_sec, time.tv_nsec / 1000);
}

fn cluster(shared: &Shared, out: &mut String) {
    line!(out, "# Cluster");
    line!(out, "cluster_enabled:{}", u8::from(shared.authority.mode() != Mode::Standalone));
}

/// Only what is exact: RocksDB's own estimate counts overwritten and deleted records too.
fn keyspace(shared: &Shared, out: &mut String) {
    line!(out, "# Keyspace");
    let Some(store) = shared.store.load() else { return };
    match Few::count(&store) {
        None => {
            line!(out, "# more than {} keys, or many deleted ones between: ask DBSIZE", Few::MAX);
        }
        Some(Few { keys: 0, .. }) => {}
        Some(Few { keys, expiring, ttl_ms_mean }) => {
            line!(out, "db0:keys={keys},expires={expiring},avg_ttl={ttl_ms_mean}");
        }
    }
}

pub(super) fn time(session: &mut Session, _: &Args<'_>, out: &mut Vec<u8>) -> Result<(), Fail> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.unwrap_or_default();
    let mut out = Writer::new(out, session.version);
    out.array(2);
    out.bulk(now.as_secs().to_string().as_bytes());
    out.bulk(now.subsec_micros().to_string().as_bytes());
    Ok(())
}

pub(super) fn role(session: &mut Session, _: &Args<'_>, out: &mut Vec<u8>) -> Result<(), Fail> {
    let replica = is_replica(session.shared.authority.mode());
    let mut out = Writer::new(out, session.version);
    if replica {
        // Which node it follows is the sidecar's business: the host is not known here.
        out.array(5);
        out.bulk(b"slave");
        out.bulk(b"");
        out.integer(0);
        out.bulk(b"connected");
        out.integer(-1);
    } else {
        out.array(3);
        out.bulk(b"master");
        out.integer(0);
        out.array(0);
    }
    Ok(())
}

pub(super) fn shutdown(
    session: &mut Session,
    args: &Args<'_>,
    _: &mut Vec<u8>,
) -> Result<(), Fail> {
    // There is no dump to save or not, and nothing lags: all of Redis's options mean the same.
    let known = ["nosave", "save", "now", "force"];
    if args.from(1).any(|arg| !known.iter().any(|k| arg.eq_ignore_ascii_case(k.as_bytes()))) {
        return Err(Fail::Syntax);
    }
    tracing::info!("client {} said SHUTDOWN", session.client.peer);
    session.closing = true;
    session.shared.shutdown.request();
    Ok(())
}
