//! The node's metrics: read off it once a second.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ops::metrics::{Counter, Gauge, Metrics};
use ops::shutdown::Shutdown;
use topology::members::Role;

use crate::control::Control;
use crate::server::Shared;

const EVERY: Duration = Duration::from_secs(1);

/// The roles, as `godwit_node_role{role="..."}` names them.
const ROLES: [(Role, &str); 6] = [
    (Role::Unknown, "unknown"),
    (Role::Primary, "primary"),
    (Role::Standby, "standby"),
    (Role::Seeding, "seeding"),
    (Role::Rewinding, "rewinding"),
    (Role::Standalone, "standalone"),
];

struct Meter {
    control: Control,
    shared: Arc<Shared>,
    commands: Counter,
    commits: Counter,
    clients: Gauge,
    queue: Gauge,
    sequence: Gauge,
    synced: Gauge,
    epoch: Gauge,
    writable: Gauge,
    lease: Gauge,
    promisers: Gauge,
    promise: Gauge,
    memtables: Gauge,
    cache: Gauge,
    dropped_records: Counter,
    dropped_bytes: Counter,
    view_age: Gauge,
    view_held: Gauge,
    clock_ahead: Gauge,
    write_stopped: Gauge,
    write_delayed: Gauge,
    write_refused: Gauge,
    metrics: Families,
}

struct Families {
    role: prometheus_client::metrics::family::Family<ops::metrics::Labels, Gauge>,
    applied: prometheus_client::metrics::family::Family<ops::metrics::Labels, Gauge>,
}

/// Keeps the metrics until shutdown.
pub(crate) async fn run(
    control: Control,
    shared: Arc<Shared>,
    metrics: Metrics,
    shutdown: Shutdown,
) {
    let meter = Meter {
        control,
        shared,
        commands: metrics.counter("commands", "commands taken from clients"),
        commits: metrics.counter("commits", "batches written to the log"),
        clients: metrics.gauge("clients", "clients connected"),
        queue: metrics.gauge("queue_requests", "requests in the longest queue of a worker"),
        sequence: metrics.gauge("log_sequence", "the end of the log"),
        synced: metrics.gauge("log_synced_sequence", "the last sequence known to be on disk"),
        epoch: metrics.gauge("epoch", "the epoch that the node acts under"),
        writable: metrics.gauge("writable", "1 while the node accepts writes"),
        lease: metrics
            .gauge("lease_left_ms", "how long the node may still write; 0 without a lease"),
        promisers: metrics.gauge(
            "lease_promisers",
            "nodes whose promises hold the lease up while the registry is silent; 0 while it renews it",
        ),
        promise: metrics.gauge(
            "promise_left_ms",
            "how long the node refuses to be promoted still, by what it has promised to primaries",
        ),
        memtables: metrics.gauge("memtables_bytes", "memory of unflushed writes"),
        cache: metrics.gauge("block_cache_bytes", "memory of cached blocks"),
        dropped_records: metrics.counter(
            "reclaimed_records",
            "records of deleted and expired keys that compactions dropped",
        ),
        dropped_bytes: metrics.counter("reclaimed_bytes", "bytes of those records"),
        view_age: metrics.gauge(
            "reclaim_view_age_ms",
            "since the oldest reclaim view in use was taken; -1 without one",
        ),
        view_held: metrics.gauge(
            "reclaim_view_held",
            "1 while a newer reclaim view waits for a follower or a reader; GODWIT.STATUS says which",
        ),
        clock_ahead: metrics.gauge(
            "clock_ahead_ms",
            "how far the wall clock has jumped ahead and is not followed",
        ),
        write_stopped: metrics.gauge(
            "write_stopped",
            "1 while RocksDB takes no writes until flushes and compactions have caught up",
        ),
        write_delayed: metrics.gauge(
            "write_delayed_bytes_per_second",
            "what RocksDB slows writes down to; 0 while it does not",
        ),
        write_refused: metrics.gauge(
            "write_refused",
            "1 while writes are refused for lack of room or because the log failed",
        ),
        metrics: Families {
            role: metrics.gauges("role", "1 for the role that the node has"),
            applied: metrics.gauges("applied_sequence", "the last sequence applied of a source"),
        },
    };
    loop {
        meter.read();
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

impl Meter {
    fn read(&self) {
        let authority = self.control.authority();
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let commands = self.shared.stats.commands_processed.load(Ordering::Relaxed);
        let new = commands.saturating_sub(self.commands.get());
        self.shared.stats.commands_per_second.store(new, Ordering::Relaxed);
        self.commands.inc_by(new);
        self.clients.set(self.shared.clients_connected() as i64);
        self.queue.set(self.shared.workers.longest_queue() as i64);
        self.writable.set(i64::from(authority.is_writable()));
        let left = authority.lease_left().unwrap_or_default();
        self.lease.set(i64::try_from(left.as_millis()).unwrap_or(i64::MAX));
        self.promisers.set(i64::try_from(authority.held_by().len()).unwrap_or(i64::MAX));
        let promised = authority.promise_left().as_millis();
        self.promise.set(i64::try_from(promised).unwrap_or(i64::MAX));
        let Some(store) = self.control.current().load() else { return };
        self.commits.inc_by(store.commits().saturating_sub(self.commits.get()));
        self.sequence.set(number(store.db().latest_sequence_number()));
        self.synced.set(number(store.synced().0));
        self.epoch.set(number(store.epoch().0));
        let role = self.control.role(&store);
        for (each, name) in ROLES {
            let labels = vec![("role".to_owned(), name.to_owned())];
            self.metrics.role.get_or_create(&labels).set(i64::from(each == role));
        }
        for (source, applied) in &store.state().applied {
            let labels = vec![("source".to_owned(), source.to_string())];
            self.metrics.applied.get_or_create(&labels).set(number(applied.position.sequence.0));
        }
        let reclaim = self.control.reclaim_status(&store);
        self.dropped_records
            .inc_by(reclaim.dropped_records.saturating_sub(self.dropped_records.get()));
        self.dropped_bytes.inc_by(reclaim.dropped_bytes.saturating_sub(self.dropped_bytes.get()));
        self.view_age.set(reclaim.view_age_ms.map_or(-1, number));
        self.view_held.set(i64::from(reclaim.held.is_some()));
        let ahead = store.clock_ahead().unwrap_or_default();
        self.clock_ahead.set(i64::try_from(ahead.as_millis()).unwrap_or(i64::MAX));
        let stall = store.look_at_stall();
        self.write_stopped.set(i64::from(stall.stopped));
        self.write_delayed.set(number(stall.delayed_rate));
        self.write_refused.set(i64::from(store.hindrance().is_some()));
        let property = |name: &str| store.db().property_int_value(name).ok().flatten();
        let memtables = property("rocksdb.cur-size-all-mem-tables").unwrap_or(0);
        self.memtables.set(number(memtables));
        let cache = property("rocksdb.block-cache-usage").unwrap_or(0);
        self.cache.set(number(cache));
    }
}
