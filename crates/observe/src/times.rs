//! How often, how long, and how patient.

use std::time::Duration;

use ops::config::ConfigError;
use ops::units::Span;
use serde::{Deserialize, Serialize};

/// The section `[probe]` of a program that observes.
#[derive(clap::Args, Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ProbeSettings {
    /// How often each primary is asked whether it serves [default: 1s]
    #[arg(
        id = "probe-interval",
        long = "probe-interval",
        env = "GODWIT_PROBE_INTERVAL",
        value_name = "SPAN"
    )]
    pub interval: Option<Span>,
    /// After so long without an answer it is asked at once, on a new connection [default: 2s]
    #[arg(
        id = "probe-after",
        long = "probe-after",
        env = "GODWIT_PROBE_AFTER",
        value_name = "SPAN"
    )]
    pub after: Option<Span>,
    /// After so long without an answer, or with a log that does not move, it is called down
    /// [default: 3s]
    #[arg(
        id = "probe-timeout",
        long = "probe-timeout",
        env = "GODWIT_PROBE_TIMEOUT",
        value_name = "SPAN"
    )]
    pub timeout: Option<Span>,
    /// Each time that a primary came back within this doubles the silence after which it is called
    /// down again, up to this [default: 60s]
    #[arg(
        id = "probe-grace",
        long = "probe-grace",
        env = "GODWIT_PROBE_GRACE",
        value_name = "SPAN"
    )]
    pub grace: Option<Span>,
}

/// When probes are made, and when silence counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Between two probes of one primary.
    pub interval: Duration,
    /// Silence after which the connection is not trusted any more.
    pub after: Duration,
    /// Silence after which it is down.
    pub timeout: Duration,
    /// For how long one that came back is not trusted.
    pub grace: Duration,
}

/// More often only costs.
const INTERVAL_MIN: Duration = Duration::from_millis(50);

impl ProbeSettings {
    /// Checks them; says in a sentence which contradict each other.
    pub fn check(&self) -> Result<Times, ConfigError> {
        let or = |span: Option<Span>, default| span.map_or(default, Span::duration);
        let times = Times {
            interval: or(self.interval, Duration::from_secs(1)),
            after: or(self.after, Duration::from_secs(2)),
            timeout: or(self.timeout, Duration::from_secs(3)),
            grace: or(self.grace, Duration::from_secs(60)),
        };
        let said = |text: String| Err(ConfigError::invalid(text));
        if times.interval < INTERVAL_MIN {
            return said(format!(
                "--probe-interval is {}; the least is {}",
                Span(times.interval),
                Span(INTERVAL_MIN)
            ));
        }
        for (name, value, other, than) in [
            ("probe-after", times.after, "probe-interval", times.interval),
            ("probe-timeout", times.timeout, "probe-after", times.after),
        ] {
            if value <= than {
                return said(format!(
                    "--{name} is {} and --{other} is {}: it must be longer, or each probe that takes its time counts as silence",
                    Span(value),
                    Span(than)
                ));
            }
        }
        if times.grace < times.timeout {
            return said(format!(
                "--probe-grace is {} and --probe-timeout is {}: a grace that is shorter damps nothing",
                Span(times.grace),
                Span(times.timeout)
            ));
        }
        Ok(times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_contradict_each_other_are_refused() {
        assert!(ProbeSettings::default().check().is_ok());
        let said = |change: fn(&mut ProbeSettings)| {
            let mut settings = ProbeSettings::default();
            change(&mut settings);
            settings.check().map_err(|why| why.to_string()).unwrap_err()
        };
        assert!(said(|s| s.interval = Some(Span::ms(1))).contains("the least is 50ms"));
        assert!(said(|s| s.after = Some(Span::secs(1))).contains("--probe-interval is 1s"));
        assert!(said(|s| s.timeout = Some(Span::secs(2))).contains("--probe-after is 2s"));
        assert!(said(|s| s.grace = Some(Span::secs(1))).contains("damps nothing"));
    }
}
