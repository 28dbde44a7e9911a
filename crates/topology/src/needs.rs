//! What a sidecar says that it needs, and what it has measured of its followers.

use serde::{Deserialize, Serialize};

/// What a sidecar needs for an outage of its followers, and for seeding them again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Needs {
    /// Bytes of log a second, in the busiest hour of the last day.
    pub log_bytes_per_second: u64,
    /// The outage that it should be ready for, in milliseconds.
    pub outage_ms: u64,
    /// Bytes that the spool takes for that.
    pub spool_bytes: u64,
    /// Bytes that it may take.
    pub spool_budget: u64,
    /// Bytes that there are for it on its volume, what it takes now included.
    pub spool_room: u64,
    /// How long an outage may last before a follower is lost; none while nothing is written.
    pub lasts_ms: Option<u64>,
    /// Bytes that a seed moves, about.
    pub seed_bytes: u64,
    /// Bytes a second that it may send to all its followers together (`bandwidth`); none: no bound.
    #[serde(default)]
    pub bandwidth: Option<u64>,
}

impl Needs {
    /// Whether an outage that it should be ready for would lose followers.
    pub const fn is_short(&self) -> bool {
        self.spool_bytes > self.spool_budget || self.spool_bytes > self.spool_room
    }
}

/// What a sidecar has measured of a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Peer {
    /// Its stage is full: nothing is sent until it has room.
    #[serde(default)]
    pub full: bool,
    /// Bytes a second that it was seeded at, or may be; none where neither is known.
    #[serde(default)]
    pub seed_rate: Option<u64>,
    /// How long seeding it again would take, about.
    #[serde(default)]
    pub reseed_ms: Option<u64>,
    /// Microseconds that its clock is ahead of the sidecar's own; below zero: behind.
    #[serde(default)]
    pub clock_ahead_us: Option<i64>,
    /// How long the question for that took, there and back.
    #[serde(default)]
    pub round_trip_us: Option<u64>,
    /// The clocks are further apart than is configured.
    #[serde(default)]
    pub clock_alarm: bool,
}
