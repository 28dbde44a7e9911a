//! The sections of INFO about the node.

use std::sync::atomic::Ordering;

use super::super::broker::Kind;
use super::super::hello::{REDIS_VERSION, is_replica};
use super::super::memory::{Memory, human, of_machine};
use super::super::session::Shared;
use super::line;
use crate::acl::Reason;
use crate::command::whole::Few;
use crate::control::Mode;
use crate::settings;
use crate::stats::{errors, keys};

pub(super) fn server(shared: &Shared, out: &mut String) {
    let up = shared.started.elapsed().as_secs();
    let mode = if shared.authority.mode() == Mode::Standalone { "standalone" } else { "cluster" };
    let executable = std::env::current_exe().unwrap_or_default();
    line!(out, "# Server");
    line!(out, "redis_version:{REDIS_VERSION}");
    line!(out, "redis_git_sha1:00000000");
    line!(out, "redis_git_dirty:0");
    line!(out, "redis_mode:{mode}");
    line!(out, "os:{} {}", std::env::consts::OS, std::env::consts::ARCH);
    line!(out, "arch_bits:{}", usize::BITS);
    line!(out, "multiplexing_api:epoll");
    line!(out, "godwit_version:{}", env!("CARGO_PKG_VERSION"));
    line!(out, "process_id:{}", std::process::id());
    line!(out, "run_id:{}", shared.run_id);
    line!(out, "tcp_port:{}", shared.address.port());
    line!(out, "server_time_usec:{}", ops::clock::unix_ms() * 1000);
    line!(out, "uptime_in_seconds:{up}");
    line!(out, "uptime_in_days:{}", up / 86_400);
    line!(out, "hz:10");
    line!(out, "configured_hz:10");
    line!(out, "executable:{}", executable.display());
    line!(out, "config_file:");
    line!(out, "io_threads_active:{}", u8::from(shared.facts.io_threads > 1));
    line!(out, "godwit_io_threads:{}", shared.facts.io_threads);
    line!(out, "godwit_workers:{}", shared.facts.workers);
}

pub(super) fn clients(shared: &Shared, out: &mut String) {
    line!(out, "# Clients");
    line!(out, "connected_clients:{}", shared.clients.len());
    line!(out, "cluster_connections:0");
    line!(out, "maxclients:{}", settings::CLIENTS_MAX.get());
    let blocked = shared.workers.blocked().len() + shared.pause.waiting();
    let tracking = shared.clients.all().iter().filter(|c| c.tracks().is_some()).count();
    line!(out, "blocked_clients:{blocked}");
    line!(out, "tracking_clients:{tracking}");
}

pub(super) fn memory(shared: &Shared, out: &mut String) {
    let memory = Memory::read(shared);
    let machine = of_machine();
    line!(out, "# Memory");
    for (name, bytes) in [
        ("used_memory", memory.resident),
        ("used_memory_rss", memory.resident),
        ("used_memory_peak", memory.peak),
        ("total_system_memory", machine),
        ("maxmemory", 0),
        ("godwit_memory", shared.facts.memory_bytes),
    ] {
        line!(out, "{name}:{bytes}");
        line!(out, "{name}_human:{}", human(bytes));
    }
    let percent = memory.resident as f64 * 100.0 / memory.peak.max(1) as f64;
    line!(out, "used_memory_peak_perc:{percent:.2}%");
    line!(out, "used_memory_dataset:{}", memory.memtables + memory.block_cache);
    line!(out, "maxmemory_policy:noeviction");
    let scripting = shared.workers.scripting();
    let libraries = scripting.libraries.now();
    // Each worker has a Lua of its own: the greatest of them, and all.
    line!(out, "used_memory_lua:{}", scripting.running.memory().max().unwrap_or(0));
    line!(out, "used_memory_vm_total:{}", scripting.running.memory().sum::<usize>());
    line!(out, "used_memory_scripts:{}", scripting.scripts.bytes() + libraries.bytes());
    line!(out, "number_of_cached_scripts:{}", scripting.scripts.len());
    line!(out, "number_of_functions:{}", libraries.functions());
    line!(out, "number_of_libraries:{}", libraries.all().count());
    line!(out, "mem_fragmentation_ratio:1.00");
    line!(out, "mem_allocator:libc");
    line!(out, "active_defrag_running:0");
    line!(out, "lazyfree_pending_objects:0");
    line!(out, "rocksdb_memtable_bytes:{}", memory.memtables);
    line!(out, "rocksdb_block_cache_bytes:{}", memory.block_cache);
    line!(out, "rocksdb_table_readers_bytes:{}", memory.readers);
}

pub(super) fn persistence(shared: &Shared, out: &mut String) {
    let latched = shared.store.load().is_some_and(|store| store.is_latched());
    line!(out, "# Persistence");
    line!(out, "loading:{}", u8::from(shared.authority.mode() == Mode::Loading));
    line!(out, "async_loading:0");
    if let Some(saved) = shared.store.load().map(|store| store.saved()) {
        let changes = keys::totals().changes.saturating_sub(saved.changes);
        line!(out, "rdb_changes_since_last_save:{changes}");
        line!(out, "rdb_bgsave_in_progress:{}", u8::from(saved.runs));
        line!(out, "rdb_last_save_time:{}", saved.at_s);
        line!(out, "rdb_last_bgsave_status:{}", if saved.failed { "err" } else { "ok" });
    }
    line!(out, "aof_enabled:1");
    line!(out, "aof_rewrite_in_progress:0");
    line!(out, "aof_rewrite_scheduled:0");
    line!(out, "aof_last_bgrewrite_status:ok");
    line!(out, "aof_last_write_status:{}", if latched { "err" } else { "ok" });
    if let Some(store) = shared.store.load() {
        line!(out, "godwit_position:{}", store.position());
        let ahead = store.clock_ahead().unwrap_or_default();
        line!(out, "godwit_clock_ahead_ms:{}", ahead.as_millis());
        let stall = store.look_at_stall();
        line!(out, "godwit_write_stopped:{}", u8::from(stall.stopped));
        line!(out, "godwit_write_delayed_bytes_per_second:{}", stall.delayed_rate);
        line!(out, "godwit_write_refused:{}", u8::from(store.hindrance().is_some()));
        let dropped = store.reclaim().dropped();
        line!(out, "godwit_reclaimed_records:{}", dropped.records);
        line!(out, "godwit_reclaimed_bytes:{}", dropped.bytes);
        line!(out, "godwit_synced_sequence:{}", store.synced().0);
    }
}

pub(super) fn stats(shared: &Shared, out: &mut String) {
    let stats = &shared.stats;
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let (broker, listeners) = (&shared.broker, shared.workers.listeners());
    let (tracked_keys, tracked_items) = listeners.tracked.len();
    let found = keys::totals();
    line!(out, "# Stats");
    for (name, value) in [
        ("total_connections_received", count(&stats.connections_received)),
        ("total_commands_processed", stats.commands()),
        ("instantaneous_ops_per_sec", count(&stats.commands_per_second)),
        ("total_net_input_bytes", count(&stats.bytes_in)),
        ("total_net_output_bytes", count(&stats.bytes_out)),
        ("rejected_connections", count(&stats.connections_rejected)),
        ("expired_keys", count(&listeners.expired)),
        ("evicted_keys", 0),
        ("keyspace_hits", found.hits),
        ("keyspace_misses", found.misses),
        ("evicted_clients", 0),
        ("pubsub_channels", broker.names_active(Kind::Channel) as u64),
        ("pubsub_patterns", broker.names_active(Kind::Pattern) as u64),
        ("pubsubshard_channels", broker.names_active(Kind::Sharded) as u64),
        ("tracking_total_keys", tracked_keys as u64),
        ("tracking_total_items", tracked_items as u64),
        ("tracking_total_prefixes", shared.followers.len() as u64),
        ("total_error_replies", errors::total()),
        ("total_reads_processed", count(&stats.reads)),
        ("total_writes_processed", count(&stats.writes)),
        ("acl_access_denied_auth", shared.users.log.count(Reason::Auth)),
        ("acl_access_denied_cmd", shared.users.log.count(Reason::Command)),
        ("acl_access_denied_key", shared.users.log.count(Reason::Key)),
        ("acl_access_denied_channel", shared.users.log.count(Reason::Channel)),
        (
            "client_output_buffer_limit_disconnections",
            count(&broker.too_slow) + count(&stats.clients_too_slow),
        ),
        ("godwit_longest_queue", shared.workers.longest_queue() as u64),
    ] {
        line!(out, "{name}:{value}");
    }
    let (hits, misses) = shared.workers.caches().hits_and_misses();
    line!(out, "godwit_cache_hits:{hits}");
    line!(out, "godwit_cache_misses:{misses}");
    if let Some(store) = shared.store.load() {
        line!(out, "godwit_commits:{}", store.commits());
    }
}

pub(super) fn replication(shared: &Shared, out: &mut String) {
    let mode = shared.authority.mode();
    let position = shared.store.load().map(|store| store.position().sequence.0);
    line!(out, "# Replication");
    line!(out, "role:{}", if is_replica(mode) { "slave" } else { "master" });
    line!(out, "connected_slaves:0");
    line!(out, "master_failover_state:no-failover");
    line!(out, "master_replid:{}", shared.run_id);
    line!(out, "master_replid2:{:040}", 0);
    line!(out, "master_repl_offset:{}", position.unwrap_or(0));
    line!(out, "second_repl_offset:-1");
    line!(out, "repl_backlog_active:0");
    line!(out, "repl_backlog_size:0");
    line!(out, "repl_backlog_first_byte_offset:0");
    line!(out, "repl_backlog_histlen:0");
    line!(out, "godwit_mode:{mode:?}");
    let ms = |left: std::time::Duration| left.as_millis();
    line!(
        out,
        "godwit_lease_left_ms:{}",
        shared.authority.lease_left().map_or(-1, |left| ms(left) as i64)
    );
    let held_by = shared.authority.held_by();
    let held_by: Vec<_> = held_by.iter().map(ToString::to_string).collect();
    line!(out, "godwit_lease_promised_by:{}", held_by.join(","));
    line!(out, "godwit_promise_left_ms:{}", ms(shared.authority.promise_left()));
}

/// Times of `/proc/self/stat` (proc(5)), fields 14 to 17, in seconds.
fn cpu_times() -> [f64; 4] {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    /// Ticks of a second in what Linux tells programs (USER_HZ).
    const PER_SECOND: f64 = 100.0;
    // The second field is in brackets and may hold anything.
    let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let ticks: Vec<f64> = fields.skip(11).take(4).filter_map(|field| field.parse().ok()).collect();
    [0, 1, 2, 3].map(|at| ticks.get(at).copied().unwrap_or(0.0) / PER_SECOND)
}

pub(super) fn cpu(_: &Shared, out: &mut String) {
    let [user, system, child_user, child_system] = cpu_times();
    line!(out, "# CPU");
    line!(out, "used_cpu_sys:{system:.6}");
    line!(out, "used_cpu_user:{user:.6}");
    line!(out, "used_cpu_sys_children:{child_system:.6}");
    line!(out, "used_cpu_user_children:{child_user:.6}");
}

pub(super) fn modules(_: &Shared, out: &mut String) {
    line!(out, "# Modules");
}

pub(super) fn cluster(shared: &Shared, out: &mut String) {
    line!(out, "# Cluster");
    line!(out, "cluster_enabled:{}", u8::from(shared.authority.mode() != Mode::Standalone));
}

/// Exact where that is cheap; else RocksDB's estimate, which counts deleted records too.
pub(super) fn keyspace(shared: &Shared, out: &mut String) {
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

pub(super) fn rocksdb(shared: &Shared, out: &mut String) {
    line!(out, "# RocksDB");
    let Some(store) = shared.store.load() else { return };
    for (name, property) in [
        ("rocksdb_estimated_records", "rocksdb.estimate-num-keys"),
        ("rocksdb_live_bytes", "rocksdb.estimate-live-data-size"),
        ("rocksdb_files_bytes", "rocksdb.total-sst-files-size"),
        ("rocksdb_pending_compaction_bytes", "rocksdb.estimate-pending-compaction-bytes"),
        ("rocksdb_running_compactions", "rocksdb.num-running-compactions"),
        ("rocksdb_running_flushes", "rocksdb.num-running-flushes"),
        ("rocksdb_write_stopped", "rocksdb.is-write-stopped"),
        ("rocksdb_delayed_write_rate", "rocksdb.actual-delayed-write-rate"),
    ] {
        let value = store.db().property_int_value(property).ok().flatten().unwrap_or(0);
        line!(out, "{name}:{value}");
    }
}
