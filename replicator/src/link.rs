//! What is set of the way to other sidecars: bounds, windows, deadlines.

use std::time::Duration;

use ops::config::ConfigError;
use rand::Rng;

use crate::settings::Settings;

/// A link of 200 ms and 1 Gbit/s has 25 MB under way.
const WINDOW_DEFAULT: u64 = 32 << 20;
/// What a connection that is cut has to send again of a seed, at most.
const SEED_WINDOW_DEFAULT: u64 = 8 << 20;
const PEER_TIMEOUT_DEFAULT: Duration = Duration::from_secs(8);
/// Both ends say something every second; one that is late is not dead yet.
const PEER_TIMEOUT_MIN: Duration = Duration::from_secs(3);
const RECONNECT_MIN_DEFAULT: Duration = Duration::from_millis(50);
const RECONNECT_MAX_DEFAULT: Duration = Duration::from_secs(2);
const COMPRESS_CPU_DEFAULT: u32 = 5;
const NODE_P99_MAX_DEFAULT: Duration = Duration::from_millis(10);
const BULK_RATE_MIN_DEFAULT: u64 = 4 << 20;

/// What connections to followers run with.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkConfig {
    /// Bytes a second to all followers together; `None`: as many as the network takes.
    pub bandwidth: Option<u64>,
    /// The most bytes of frames unacknowledged by one follower.
    pub window: u64,
    /// The most bytes of a seed that a follower has not said to have.
    pub seed_window: u64,
    /// Bytes of the kernel's buffers of a connection; `None`: as it sees fit.
    pub socket_buffer: Option<u32>,
    /// How long a peer may say nothing, or take nothing.
    pub peer_timeout: Duration,
    /// The first pause before a stream is made again.
    pub reconnect_min: Duration,
    /// The longest.
    pub reconnect_max: Duration,
    /// The share of one processor that compressing may take while nothing is behind.
    pub compress_cpu: f64,
    /// From this p99 of the node's commands on, bulk is slowed down.
    pub node_p99_max: Duration,
    /// Bytes a second that bulk is not slowed down below.
    pub bulk_rate_min: u64,
}

impl LinkConfig {
    /// Checks what was set, in sentences.
    pub(crate) fn of(settings: &Settings) -> Result<Self, ConfigError> {
        let size = |given: Option<ops::units::Size>, default: u64, least: u64, flag: &str| {
            let value = given.map_or(default, |size| size.0);
            (value >= least).then_some(value).ok_or_else(|| {
                ConfigError::invalid(format!(
                    "--{flag} of {value} bytes is too small: at least {least}"
                ))
            })
        };
        let span =
            |given: Option<ops::units::Span>, default: Duration, least: Duration, flag: &str| {
                let value = given.map_or(default, |span| span.0);
                (value >= least).then_some(value).ok_or_else(|| {
                    ConfigError::invalid(format!(
                        "--{flag} of {value:?} is too short: at least {least:?}"
                    ))
                })
            };
        let bounded = |given: Option<ops::units::Size>, least: u64, flag: &str| {
            given.map(|given| size(Some(given), 0, least, flag)).transpose()
        };
        let percent = settings.compress_cpu.unwrap_or(COMPRESS_CPU_DEFAULT);
        if percent > 100 {
            return Err(ConfigError::invalid(format!(
                "--compress-cpu {percent}: write a number of 0 to 100, in percent of one processor"
            )));
        }
        let socket_buffer = bounded(settings.socket_buffer, 64 << 10, "socket-buffer")?;
        let socket_buffer = socket_buffer.map(|bytes| u32::try_from(bytes).unwrap_or(u32::MAX));
        let ms = Duration::from_millis;
        let reconnect_min =
            span(settings.reconnect_min, RECONNECT_MIN_DEFAULT, ms(1), "reconnect-min")?;
        let longest = RECONNECT_MAX_DEFAULT.max(reconnect_min);
        let timeout = PEER_TIMEOUT_DEFAULT;
        Ok(Self {
            bandwidth: bounded(settings.bandwidth, 64 << 10, "bandwidth")?,
            window: size(settings.window, WINDOW_DEFAULT, 64 << 10, "window")?,
            seed_window: size(settings.seed_window, SEED_WINDOW_DEFAULT, 2 << 20, "seed-window")?,
            socket_buffer,
            peer_timeout: span(settings.peer_timeout, timeout, PEER_TIMEOUT_MIN, "peer-timeout")?,
            reconnect_min,
            reconnect_max: span(settings.reconnect_max, longest, reconnect_min, "reconnect-max")?,
            compress_cpu: f64::from(percent) / 100.0,
            node_p99_max: span(
                settings.node_p99_max,
                NODE_P99_MAX_DEFAULT,
                Duration::from_micros(1),
                "node-p99-max",
            )?,
            bulk_rate_min: size(
                settings.bulk_rate_min,
                BULK_RATE_MIN_DEFAULT,
                64 << 10,
                "bulk-rate-min",
            )?,
        })
    }
}

/// The pauses between one try and the next: each failure doubles the bound, and the pause is a
/// random part of it, so that many followers do not come back at once.
#[derive(Debug)]
pub(crate) struct Reconnect {
    min: Duration,
    max: Duration,
    bound: Duration,
}

impl Reconnect {
    pub(crate) fn new(config: &LinkConfig) -> Self {
        let (min, max) = (config.reconnect_min, config.reconnect_max);
        Self { min, max, bound: min }
    }

    /// The next pause; `went_well`: the last try got somewhere, so it begins from the least again.
    pub(crate) fn pause(&mut self, went_well: bool) -> Duration {
        self.bound = if went_well { self.min } else { (self.bound * 2).min(self.max) };
        self.bound.mul_f64(rand::rng().random_range(0.5..1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ops::units::{Size, Span};

    #[test]
    fn a_link_of_200_ms_and_1_gbit_is_filled_by_the_default_window() {
        let config = LinkConfig::of(&Settings::default()).unwrap();
        assert!(config.window * 8 >= 1_000_000_000 / 5);
        assert_eq!((config.bandwidth, config.seed_window), (None, 8 << 20));
    }

    #[test]
    fn what_cannot_work_is_refused_in_a_sentence() {
        let refused = |settings: Settings| LinkConfig::of(&settings).unwrap_err().to_string();
        let base = Settings::default;
        let size = |bytes| Some(Size(bytes));
        for (settings, says) in [
            (Settings { bandwidth: size(10), ..base() }, "--bandwidth of 10 bytes is too small"),
            (Settings { seed_window: size(10), ..base() }, "--seed-window"),
            (Settings { peer_timeout: Some(Span::secs(1)), ..base() }, "at least 3s"),
            (
                Settings {
                    reconnect_min: Some(Span::secs(5)),
                    reconnect_max: Some(Span::secs(4)),
                    ..base()
                },
                "--reconnect-max of 4s is too short: at least 5s",
            ),
            (Settings { compress_cpu: Some(101), ..base() }, "--compress-cpu 101"),
        ] {
            let said = refused(settings);
            assert!(said.contains(says), "{said}");
        }
    }

    #[test]
    fn pauses_grow_to_their_bound_and_begin_again() {
        let config = LinkConfig::of(&Settings::default()).unwrap();
        let mut reconnect = Reconnect::new(&config);
        let (min, max) = (config.reconnect_min, config.reconnect_max);
        assert!((min / 2..=min).contains(&reconnect.pause(true)));
        let mut last = Duration::ZERO;
        for _ in 0..10 {
            last = reconnect.pause(false);
            assert!(last <= max);
        }
        assert!(last >= max / 2, "{last:?}");
        assert!(reconnect.pause(true) <= min);
    }
}
