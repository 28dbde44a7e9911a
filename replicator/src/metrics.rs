//! What a sidecar counts: `godwit_replicator_*`.

use std::time::Duration;

use ops::metrics::{Counter, Family, Gauge, Histogram, Labels, Metrics};
use topology::ShardName;
use topology::members::{Needs, ReceiveStatus, StreamStatus, WayBy};
use wal::Position;
use wal::frame::Packing;

use crate::archive::{ArchiveMeters, FollowMeters};
use crate::board::Notes;

/// The metrics of a sidecar; clones share them.
#[derive(Clone, Debug)]
pub struct Meters {
    /// Seconds from a batch's stamp to its application here.
    pub lag: Histogram,
    /// Frames sent to followers.
    pub frames_sent: Counter,
    /// Bytes sent to followers, as on the wire.
    pub sent_bytes: Counter,
    /// Of those, checkpoints and records fetched for a rewind.
    pub seed_bytes: Counter,
    /// Frames received.
    pub frames_received: Counter,
    /// Bytes of frames received.
    pub received_bytes: Counter,
    /// Frames that the node has applied.
    pub frames_applied: Counter,
    /// Of each target.
    targets: Targets,
    /// Of each source.
    sources: Sources,
    /// What the sidecar needs.
    needs: NeedsMeters,
    /// Of each follower, whether it can be asked for promises.
    promise_roads: Family<Labels, Gauge>,
    /// Streams that ended and are made again.
    pub resets: Counter,
    /// Bytes on the disk of the spool, stage and ledger included.
    pub spool_bytes: Gauge,
    /// Bytes free on its volume.
    pub free_bytes: Gauge,
    /// The end of the node's log, as read.
    pub tail_sequence: Gauge,
    /// The bound on bulk while the node is slow, in bytes a second; 0: none.
    pub bulk_bound_bytes: Gauge,
    /// Of each way to pack frames.
    packings: Packings,
    /// When our own certificate ends, in seconds since 1970; 0 without TLS.
    pub certificate_expires_seconds: Gauge,
    /// Of the archive.
    pub archive: ArchiveMeters,
    /// Of reading the archives of sources.
    pub follow: FollowMeters,
}

impl Meters {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            lag: metrics
                .seconds("apply_lag_seconds", "From a batch's stamp to its application here"),
            frames_sent: metrics.counter("frames_sent", "Frames sent to followers"),
            sent_bytes: metrics.counter("sent_bytes", "Bytes sent to followers, as on the wire"),
            seed_bytes: metrics
                .counter("seed_bytes", "Bytes of checkpoints and of records for rewinds sent"),
            frames_received: metrics.counter("frames_received", "Frames received"),
            received_bytes: metrics.counter("received_bytes", "Bytes of frames received"),
            frames_applied: metrics.counter("frames_applied", "Frames that the node has applied"),
            promise_roads: metrics.gauges(
                "promise_road",
                "1 while a follower can be asked for promises, should the registry fall silent",
            ),
            targets: Targets {
                link_rate: metrics.gauges(
                    "link_bytes_per_second",
                    "What the link to a target takes, as it was measured while it was full",
                ),
                window_bytes: metrics.gauges("window_bytes", "Bytes sent and not acknowledged"),
                clock_ahead_us: metrics.gauges(
                    "clock_ahead_microseconds",
                    "How far a target's clock is ahead of this machine's; below zero: behind",
                ),
                clock_alarm: metrics.gauges(
                    "clock_apart",
                    "1 while a target's clock is further from ours than clock-skew-max",
                ),
                full: metrics.gauges(
                    "target_stage_full",
                    "1 while a target's stage is full: nothing is sent until it has room",
                ),
                reseed: metrics.gauges(
                    "reseed_milliseconds",
                    "About how long seeding a target again would take; 0: not known",
                ),
                behind_bytes: metrics
                    .gauges("behind_bytes", "Bytes of the log that a target has not staged"),
                staged: metrics
                    .gauges("target_staged_sequence", "The last sequence that a target has staged"),
                applied: metrics.gauges(
                    "target_applied_sequence",
                    "The last sequence that a target has applied",
                ),
            },
            sources: Sources {
                staged: metrics.gauges("staged_sequence", "The last sequence staged of a source"),
                applied: metrics
                    .gauges("applied_sequence", "The last sequence applied of a source"),
                by_stream: metrics.gauges(
                    "receiving_by_stream_since_seconds",
                    "Since when a source's sidecar sends its log, in seconds since 1970; 0: it does not",
                ),
                by_bucket: metrics.gauges(
                    "receiving_by_bucket_since_seconds",
                    "Since when a source's archive is read instead, in seconds since 1970; 0: it is not",
                ),
                held: metrics
                    .gauges("apply_held", "1 while what is staged of a source is held back"),
                tripped: metrics.gauges(
                    "breaker_tripped",
                    "1 while the breaker has stopped a source's stream: an operator must decide",
                ),
                full: metrics.gauges(
                    "stage_full",
                    "1 while what is staged of a source is all that stage-budget allows",
                ),
            },
            needs: NeedsMeters {
                rate: metrics.gauge(
                    "log_bytes_per_second",
                    "What the node's log grew by in the busiest hour of the last day",
                ),
                spool: metrics.gauge(
                    "spool_needed_bytes",
                    "What an outage of spool-outage would take of the spool at that rate",
                ),
                budget: metrics.gauge("spool_budget_bytes", "What the spool may take"),
                room: metrics.gauge(
                    "spool_room_bytes",
                    "What there is for the spool on its volume, what it takes now included",
                ),
                lasts: metrics.gauge(
                    "spool_lasts_seconds",
                    "How long an outage may last before a follower is lost; -1: nothing is written",
                ),
                seed: metrics.gauge("reseed_bytes", "About what seeding a follower would move"),
            },
            resets: metrics.counter("stream_resets", "Streams that ended and were made again"),
            spool_bytes: metrics.gauge("spool_bytes", "Bytes on the disk of the spool"),
            free_bytes: metrics.gauge("spool_free_bytes", "Bytes free on the spool's volume"),
            tail_sequence: metrics.gauge("tail_sequence", "The end of the node's log, as read"),
            bulk_bound_bytes: metrics.gauge(
                "bulk_bound_bytes",
                "The bound on seeds and catching up while the node is slow, in bytes a second",
            ),
            packings: Packings {
                frames: metrics.counters("packed_frames", "Frames by how they were packed"),
                log_bytes: metrics
                    .counters("packed_log_bytes", "Bytes of the log by how they were packed"),
                micros: metrics.counters("packed_cpu_micros", "Processor time that packing took"),
            },
            certificate_expires_seconds: metrics.gauge(
                "certificate_expires_seconds",
                "When the sidecar's own certificate ends, in seconds since 1970",
            ),
            archive: ArchiveMeters::new(metrics),
            follow: FollowMeters::new(metrics),
        }
    }

    /// The gauges of a target that change with each frame.
    pub fn target(&self, target: &str) -> TargetGauges {
        let labels = labels("target", target);
        let of = |gauges: &Gauges| gauges.get_or_create_owned(&labels);
        TargetGauges {
            link_rate: of(&self.targets.link_rate),
            window_bytes: of(&self.targets.window_bytes),
            clock_ahead_us: of(&self.targets.clock_ahead_us),
            clock_alarm: of(&self.targets.clock_alarm),
        }
    }

    /// What the sidecar needs.
    pub fn needs(&self, needs: &Needs) {
        let put = |gauge: &Gauge, value: u64| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        put(&self.needs.rate, needs.log_bytes_per_second);
        put(&self.needs.spool, needs.spool_bytes);
        put(&self.needs.budget, needs.spool_budget);
        put(&self.needs.room, needs.spool_room);
        put(&self.needs.seed, needs.seed_bytes);
        let lasts = needs.lasts_ms.map_or(-1, |ms| i64::try_from(ms / 1000).unwrap_or(i64::MAX));
        self.needs.lasts.set(lasts);
    }

    /// A frame was packed.
    pub fn packed(&self, packing: Packing, log_bytes: u64, took: Duration) {
        let labels = labels("packing", &packing.to_string());
        self.packings.frames.get_or_create(&labels).inc();
        self.packings.log_bytes.get_or_create(&labels).inc_by(log_bytes);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.packings.micros.get_or_create(&labels).inc_by(micros);
    }

    /// Whether a follower can be asked for promises; none for one that is gone.
    pub fn promise_road(&self, follower: &ShardName, is_open: Option<bool>) {
        let labels = labels("target", &follower.to_string());
        match is_open {
            Some(is_open) => {
                self.promise_roads.get_or_create(&labels).set(is_open.into());
            }
            None => {
                self.promise_roads.remove(&labels);
            }
        }
    }

    /// 1 while the breaker has stopped what comes from a source.
    pub fn breaker(&self, source: &ShardName) -> Gauge {
        self.sources.tripped.get_or_create_owned(&labels("source", &source.to_string()))
    }

    /// 1 while the stage of a source is full.
    pub fn stage_full(&self, source: &ShardName) -> Gauge {
        self.sources.full.get_or_create_owned(&labels("source", &source.to_string()))
    }

    /// What the board says of each stream; a target or source that is gone has no series any more.
    pub fn streams(&self, before: &Notes, now: &Notes) {
        for target in before.streams.keys().filter(|name| !now.streams.contains_key(*name)) {
            self.targets.remove(&labels("target", target));
        }
        for (target, status) in &now.streams {
            self.targets.show(&labels("target", target), status);
        }
        for (source, status) in &now.receiving {
            self.sources.show(&labels("source", source), status);
        }
    }
}

type Counters = Family<Labels, Counter>;

#[derive(Clone, Debug)]
struct Packings {
    frames: Counters,
    log_bytes: Counters,
    micros: Counters,
}

type Gauges = Family<Labels, Gauge>;

#[derive(Clone, Debug)]
struct NeedsMeters {
    rate: Gauge,
    spool: Gauge,
    budget: Gauge,
    room: Gauge,
    lasts: Gauge,
    seed: Gauge,
}

/// The gauges of one target that its stream sets itself.
#[derive(Clone, Debug)]
pub struct TargetGauges {
    /// Bytes a second that the link takes.
    pub link_rate: Gauge,
    /// Bytes sent and not acknowledged.
    pub window_bytes: Gauge,
    /// How far its clock is ahead of ours.
    pub clock_ahead_us: Gauge,
    /// 1 while that is too far.
    pub clock_alarm: Gauge,
}

#[derive(Clone, Debug)]
struct Targets {
    link_rate: Gauges,
    window_bytes: Gauges,
    clock_ahead_us: Gauges,
    clock_alarm: Gauges,
    full: Gauges,
    reseed: Gauges,
    behind_bytes: Gauges,
    staged: Gauges,
    applied: Gauges,
}

impl Targets {
    fn show(&self, labels: &Labels, status: &StreamStatus) {
        set(&self.behind_bytes, labels, status.behind_bytes);
        set(&self.full, labels, u64::from(status.peer.full));
        set(&self.reseed, labels, status.peer.reseed_ms.unwrap_or(0));
        set(&self.staged, labels, sequence(status.staged));
        set(&self.applied, labels, sequence(status.applied));
    }

    fn remove(&self, labels: &Labels) {
        let all = [
            &self.link_rate,
            &self.window_bytes,
            &self.clock_ahead_us,
            &self.clock_alarm,
            &self.full,
            &self.reseed,
            &self.behind_bytes,
            &self.staged,
            &self.applied,
        ];
        for gauges in all {
            gauges.remove(labels);
        }
    }
}

#[derive(Clone, Debug)]
struct Sources {
    staged: Gauges,
    applied: Gauges,
    by_stream: Gauges,
    by_bucket: Gauges,
    held: Gauges,
    tripped: Gauges,
    full: Gauges,
}

impl Sources {
    fn show(&self, labels: &Labels, status: &ReceiveStatus) {
        set(&self.staged, labels, sequence(status.staged));
        set(&self.applied, labels, sequence(status.applied));
        set(&self.held, labels, u64::from(status.held.is_some()));
        let since = |by: WayBy| status.way.as_ref().filter(|way| way.by == by);
        let seconds = |by| since(by).map_or(0, |way| way.since.0 / 1000);
        set(&self.by_stream, labels, seconds(WayBy::Stream));
        set(&self.by_bucket, labels, seconds(WayBy::Bucket));
    }
}

fn labels(name: &str, value: &str) -> Labels {
    vec![(name.to_owned(), value.to_owned())]
}

fn sequence(position: Option<Position>) -> u64 {
    position.map_or(0, |position| position.sequence.0)
}

fn set(gauges: &Gauges, labels: &Labels, value: u64) {
    gauges.get_or_create(labels).set(i64::try_from(value).unwrap_or(i64::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stream_has_its_own_series_and_takes_them_along() {
        let metrics = Metrics::new("replicator", "0.1.0", &Default::default());
        let meters = Meters::new(&metrics);
        let board = crate::board::Board::default();
        for (target, behind) in [("b/0", 3), ("c/0", 7)] {
            let target = target.parse().unwrap();
            board.stream(&target, |status| status.behind_bytes = behind);
        }
        let both = board.read();
        meters.streams(&Notes::default(), &both);
        let line = |target: &str, bytes| {
            format!("godwit_replicator_behind_bytes{{target=\"{target}\"}} {bytes}")
        };
        let text = metrics.encode();
        assert!(text.contains(&line("b/0", 3)) && text.contains(&line("c/0", 7)), "{text}");
        board.note(|notes| notes.streams.remove("b/0"));
        meters.streams(&both, &board.read());
        let text = metrics.encode();
        assert!(!text.contains("b/0") && text.contains(&line("c/0", 7)), "{text}");
    }
}
