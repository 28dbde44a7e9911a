//! Metrics. A thread counts in plain cells and adds up on its ticks, so that no command touches
//! memory that threads share.

use std::cell::Cell;

use ops::metrics::{Counter, Gauge, Metrics};

/// The process's metrics, `godwit_proxy_*`.
#[derive(Clone)]
pub(crate) struct Stats {
    pub(crate) reads: Counter,
    pub(crate) writes: Counter,
    pub(crate) locals: Counter,
    pub(crate) fans: Counter,
    pub(crate) refusals: Counter,
    pub(crate) unknown: Counter,
    pub(crate) given_up: Counter,
    pub(crate) resent: Counter,
    pub(crate) reconnects: Counter,
    pub(crate) accepted: Counter,
    pub(crate) clients: Gauge,
    pub(crate) held: Gauge,
    pub(crate) held_bytes: Gauge,
    pub(crate) in_flight: Gauge,
    pub(crate) connected: Gauge,
    pub(crate) epoch: Gauge,
    pub(crate) standby_reads: Counter,
    pub(crate) reads_out: Gauge,
}

impl Stats {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let commands = metrics.counters("commands", "Commands of clients, by who answers them");
        let class = |name: &str| {
            commands.get_or_create(&vec![("class".to_owned(), name.to_owned())]).clone()
        };
        Self {
            reads: class("read"),
            writes: class("write"),
            locals: class("local"),
            fans: class("fan-out"),
            refusals: class("refused"),
            unknown: metrics.counter(
                "unknown_outcomes",
                "Commands answered -UNKNOWN: sent to a node that did not answer",
            ),
            given_up: metrics.counter(
                "held_given_up",
                "Commands answered -TRYAGAIN: held for longer than hold-time or beyond hold-bytes, and not run",
            ),
            resent: metrics.counter(
                "resent",
                "Commands sent again: reads, and writes that a node proved not to have run",
            ),
            reconnects: metrics.counter("reconnects", "Connections to nodes that broke"),
            accepted: metrics.counter("accepted", "Connections of clients"),
            clients: metrics.gauge("clients", "Clients connected"),
            held: metrics.gauge("held_clients", "Clients whose next command waits for a primary"),
            held_bytes: metrics.gauge("held_bytes", "Bytes of commands that wait for a primary"),
            in_flight: metrics.gauge("in_flight", "Commands sent to nodes and not answered"),
            connected: metrics.gauge("connections", "Connections to nodes that are up"),
            epoch: metrics.gauge("epoch", "The epoch that commands are routed by"),
            standby_reads: metrics.counter(
                "standby_reads",
                "Reads sent to the standbys that the record names for this proxy's zone",
            ),
            reads_out: metrics.gauge(
                "reads_out",
                "Whether reads go to the standbys that the record names for this proxy's zone: 1, or 0",
            ),
        }
    }
}

/// What a thread counted since its last tick.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) reads: Cell<u64>,
    pub(crate) writes: Cell<u64>,
    pub(crate) locals: Cell<u64>,
    pub(crate) fans: Cell<u64>,
    pub(crate) refusals: Cell<u64>,
    pub(crate) resent: Cell<u64>,
    pub(crate) standby_reads: Cell<u64>,
}

/// One more.
pub(crate) fn count(cell: &Cell<u64>) {
    cell.set(cell.get() + 1);
}

impl Counts {
    /// Adds what was counted and starts anew.
    pub(crate) fn flush(&self, stats: &Stats) {
        for (cell, counter) in [
            (&self.reads, &stats.reads),
            (&self.writes, &stats.writes),
            (&self.locals, &stats.locals),
            (&self.fans, &stats.fans),
            (&self.refusals, &stats.refusals),
            (&self.resent, &stats.resent),
            (&self.standby_reads, &stats.standby_reads),
        ] {
            let counted = cell.take();
            if counted > 0 {
                counter.inc_by(counted);
            }
        }
    }
}
