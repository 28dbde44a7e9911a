//! What the archive counts: `godwit_replicator_archive_*`.

use ops::metrics::{Counter, Family, Gauge, Labels, Metrics};
use store::bucket::{Counts, Operation};
use topology::ShardName;

/// The metrics of an archive; clones share them.
#[derive(Clone, Debug)]
pub struct ArchiveMeters {
    /// Segments that are stored and recorded.
    pub segments: Counter,
    /// Their bytes.
    pub segment_bytes: Counter,
    /// Checkpoints that are stored and recorded.
    pub bases: Counter,
    /// Bytes that were sent for checkpoints.
    pub base_bytes: Counter,
    /// Failures after which it began again.
    pub failures: Counter,
    /// Times that the log could not be followed on, so that moments cannot be restored.
    pub holes: Counter,
    /// 1 while it does not get on.
    pub failing: Gauge,
    /// Seconds since 1970 of the last batch that is stored.
    pub reaches: Gauge,
    /// Seconds since 1970 of the last checkpoint that is stored.
    pub base_at: Gauge,
    /// Bytes of the log that are not stored yet.
    pub behind: Gauge,
    requests: Family<Labels, Counter>,
}

impl ArchiveMeters {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            segments: metrics.counter("archive_segments", "Segments of the log archived"),
            segment_bytes: metrics.counter("archive_segment_bytes", "Bytes of those segments"),
            bases: metrics.counter("archive_checkpoints", "Checkpoints archived"),
            base_bytes: metrics
                .counter("archive_checkpoint_bytes", "Bytes sent for checkpoints to the archive"),
            failures: metrics
                .counter("archive_failures", "Failures after which archiving began again"),
            holes: metrics.counter(
                "archive_holes",
                "Times that the archive began anew with a checkpoint: no moment between can be restored",
            ),
            failing: metrics.gauge("archive_failing", "1 while archiving does not get on"),
            reaches: metrics.gauge(
                "archive_reaches_seconds",
                "The time of the last batch that is archived, in seconds since 1970",
            ),
            base_at: metrics.gauge(
                "archive_checkpoint_at_seconds",
                "The time of the last checkpoint that is archived, in seconds since 1970",
            ),
            behind: metrics
                .gauge("archive_behind_bytes", "Bytes of the log that are not archived yet"),
            requests: metrics.counters("archive_requests", "Requests to the archive's store"),
        }
    }

    /// Counts the requests that were made since `before`.
    pub fn requests(&self, before: Counts, now: Counts) {
        count(&self.requests, before, now);
    }
}

fn count(requests: &Family<Labels, Counter>, before: Counts, now: Counts) {
    for operation in Operation::ALL {
        let labels = vec![("operation".to_owned(), operation.name().to_owned())];
        let more = now.of(operation).saturating_sub(before.of(operation));
        requests.get_or_create(&labels).inc_by(more);
    }
}

/// What reading the archives of sources counts: `godwit_replicator_follow_*`; clones share it.
#[derive(Clone, Debug)]
pub struct FollowMeters {
    /// Frames staged that came by this way.
    pub frames: Counter,
    /// Their bytes.
    pub bytes: Counter,
    /// Tries that failed.
    pub failures: Counter,
    reaches: Family<Labels, Gauge>,
    requests: Family<Labels, Counter>,
}

impl FollowMeters {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            frames: metrics.counter("follow_frames", "Frames staged out of archives of sources"),
            bytes: metrics.counter("follow_bytes", "Bytes of those frames"),
            failures: metrics
                .counter("follow_failures", "Tries to read the archive of a source that failed"),
            reaches: metrics.gauges(
                "follow_reaches_seconds",
                "The time of the last batch in a source's archive, in seconds since 1970",
            ),
            requests: metrics.counters(
                "follow_requests",
                "Requests to the stores of archives that are followed",
            ),
        }
    }

    /// An archive ends with a batch of this time, in seconds since 1970.
    pub fn reaches(&self, source: &ShardName, seconds: u64) {
        let labels = vec![("source".to_owned(), source.to_string())];
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        self.reaches.get_or_create(&labels).set(seconds);
    }

    /// Counts the requests that were made since `before`.
    pub fn requests(&self, before: Counts, now: Counts) {
        count(&self.requests, before, now);
    }
}
