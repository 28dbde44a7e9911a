//! What the archive counts: `godwit_replicator_archive_*`.

use ops::metrics::{Counter, Family, Gauge, Labels, Metrics};
use store::bucket::{Counts, Operation};

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
        for operation in Operation::ALL {
            let labels = vec![("operation".to_owned(), operation.name().to_owned())];
            let more = now.of(operation).saturating_sub(before.of(operation));
            self.requests.get_or_create(&labels).inc_by(more);
        }
    }
}
