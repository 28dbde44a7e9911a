//! What a follower says while it is streamed to: how far it is, whether it has room, what its clock
//! shows.

use std::sync::Arc;
use std::time::Duration;

use ops::metrics::Gauge;
use stream::message::Ack;
use stream::{Message, WireError};
use topology::ShardName;

use super::clock::{PeerClock, Reading, unix_us};
use super::feed::Feed;
use super::measure::Measure;
use super::window::Window;
use crate::metrics::TargetGauges;
use crate::sidecar::Sidecar;
use crate::spool::Pin;

/// What is known of one connection.
#[derive(Debug)]
pub(super) struct Heard {
    sidecar: Arc<Sidecar>,
    follower: ShardName,
    gauges: TargetGauges,
    pub(super) window: Window,
    pub(super) measure: Measure,
    clock: PeerClock,
    /// The clocks were apart at the last answer.
    alarmed: bool,
    full: bool,
}

impl Heard {
    pub(super) fn new(
        sidecar: &Arc<Sidecar>,
        follower: &ShardName,
        window: Window,
        measure: Measure,
    ) -> Self {
        let gauges = sidecar.metrics.target(&follower.to_string());
        let (sidecar, follower) = (sidecar.clone(), follower.clone());
        let (clock, alarmed, full) = (PeerClock::default(), false, false);
        Self { sidecar, follower, gauges, window, measure, clock, alarmed, full }
    }

    /// Whether a frame may be sent.
    pub(super) fn is_open(&self) -> bool {
        self.window.is_open() && !self.full
    }

    /// Whether its stage is full.
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    /// Takes note of what it says.
    pub(super) fn hear(
        &mut self,
        pin: &Pin,
        feed: &Feed,
        message: Message,
    ) -> Result<(), WireError> {
        match message {
            Message::Ack(ack) => self.acknowledged(pin, feed, &ack),
            Message::Ping => {}
            Message::TimeIs { asked_us, at_us } => {
                if let Some(reading) = self.clock.answered(asked_us, at_us, unix_us()) {
                    self.clock_is(reading);
                }
            }
            Message::Full { full } => self.stage_is(full),
            Message::Refusal { sentence } => return Err(WireError::Refused(sentence)),
            got => {
                let got = stream::message::Incoming::Message(got).name();
                return Err(WireError::Unexpected { got, want: "an acknowledgement" });
            }
        }
        Ok(())
    }

    fn acknowledged(&mut self, pin: &Pin, feed: &Feed, ack: &Ack) {
        if let Some(staged) = ack.staged
            && let Some(staged) = self.window.staged(staged.sequence)
        {
            self.measure.acknowledged(staged.after, &feed.link);
            pin.advance(&feed.database, staged.file);
        }
        self.sidecar.board.stream(&self.follower, |status| {
            status.staged = ack.staged.or(status.staged);
            status.applied = ack.applied.or(status.applied);
            status.lag_ms = ack.lag_ms.or(status.lag_ms);
        });
    }

    fn clock_is(&mut self, reading: Reading) {
        let max = self.sidecar.config.clock_skew_max;
        let alarm = reading.is_beyond(max);
        set(&self.gauges.clock_ahead_us, reading.ahead_us);
        set(&self.gauges.clock_alarm, i64::from(alarm));
        if alarm && !self.alarmed {
            tracing::error!(
                follower = %self.follower,
                "its clock is {} ms ahead of ours (or behind, where that is below zero), and {max:?} are allowed: set the clocks. Nothing is lost; stamps, lag, expiry and what is restored to a moment are off by as much",
                reading.ahead_us / 1000
            );
        } else if self.alarmed && !alarm {
            tracing::info!(follower = %self.follower, "its clock agrees with ours again");
        }
        self.alarmed = alarm;
        self.sidecar.board.stream(&self.follower, |status| {
            status.peer.clock_ahead_us = Some(reading.ahead_us);
            status.peer.round_trip_us = Some(reading.round_trip_us);
            status.peer.clock_alarm = alarm;
        });
    }

    fn stage_is(&mut self, full: bool) {
        if self.full != full {
            let follower = &self.follower;
            match full {
                true => {
                    tracing::warn!(%follower, "its stage is full: the log waits here until it has applied some of it")
                }
                false => tracing::info!(%follower, "its stage has room again"),
            }
        }
        self.full = full;
        let why = "its stage is full (stage-budget): it takes more once it has applied some; nothing is lost while the spool holds";
        self.sidecar.board.stream(&self.follower, |status| {
            status.peer.full = full;
            status.reason = full.then(|| why.to_owned());
        });
    }

    /// Publishes what was measured: so much has been sent, and sending took so long.
    pub(super) fn say(&mut self, feed: &Feed, sent: u64, busy: Duration) {
        if let Some(rate) = self.measure.look(sent, busy, &feed.link) {
            set(&self.gauges.link_rate, i64::try_from(rate).unwrap_or(i64::MAX));
        }
        let bytes = i64::try_from(self.window.bytes()).unwrap_or(i64::MAX);
        set(&self.gauges.window_bytes, bytes);
    }
}

fn set(gauge: &Gauge, value: i64) {
    gauge.set(value);
}
