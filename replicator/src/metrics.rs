//! What a sidecar counts: `godwit_replicator_*`.

use ops::metrics::{Counter, Gauge, Histogram, Metrics};

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
    /// Bytes sent and not acknowledged, of the stream that sent last.
    pub window_bytes: Gauge,
    /// Streams that ended and are made again.
    pub resets: Counter,
    /// Bytes on the disk of the spool, stage and ledger included.
    pub spool_bytes: Gauge,
    /// Bytes free on its volume.
    pub free_bytes: Gauge,
    /// The last sequence staged, of the source that staged last.
    pub staged_sequence: Gauge,
    /// The last sequence applied, of the source that applied last.
    pub applied_sequence: Gauge,
    /// The end of the node's log, as read.
    pub tail_sequence: Gauge,
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
            window_bytes: metrics.gauge("window_bytes", "Bytes sent and not acknowledged"),
            resets: metrics.counter("stream_resets", "Streams that ended and were made again"),
            spool_bytes: metrics.gauge("spool_bytes", "Bytes on the disk of the spool"),
            free_bytes: metrics.gauge("spool_free_bytes", "Bytes free on the spool's volume"),
            staged_sequence: metrics.gauge("staged_sequence", "The last sequence staged"),
            applied_sequence: metrics.gauge("applied_sequence", "The last sequence applied"),
            tail_sequence: metrics.gauge("tail_sequence", "The end of the node's log, as read"),
        }
    }
}
