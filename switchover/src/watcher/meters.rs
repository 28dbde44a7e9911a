//! The metrics of a watcher, `godwit_switchover_*`.

use ops::metrics::{Counter, Family, Gauge, Labels, Metrics};
use topology::{ServiceView, verdict};

use super::alert::Kind;

/// What is counted.
#[derive(Debug)]
pub(super) struct Meters {
    down: Family<Labels, Gauge>,
    observers: Family<Labels, Gauge>,
    against: Family<Labels, Gauge>,
    auto: Gauge,
    acted: Family<Labels, Counter>,
    alerts: Family<Labels, Counter>,
}

impl Meters {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self {
            down: metrics.gauges(
                "primary_down",
                "Whether half of the observers call a primary down: 1, or 0",
            ),
            observers: metrics.gauges("observers", "Observers that have a say of a primary"),
            against: metrics.gauges("observers_against", "Of them, those that call it down"),
            auto: metrics.gauge("auto", "Whether `auto` is on: 1, or 0"),
            acted: metrics.counters("auto_tries", "Failovers that a watcher tried, by outcome"),
            alerts: metrics.counters("alerts", "Alerts, by what they are about"),
        }
    }

    /// Shows what a look has found.
    pub(super) fn show(&self, view: &ServiceView) {
        self.auto.set(i64::from(view.auto.is_some()));
        for family in [&self.down, &self.observers, &self.against] {
            family.clear();
        }
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        for verdict in verdict::of(view) {
            let label = vec![("primary".to_owned(), verdict.shard.to_string())];
            self.down.get_or_create(&label).set(i64::from(verdict.is_down()));
            self.observers.get_or_create(&label).set(number(verdict.voices.len()));
            self.against.get_or_create(&label).set(number(verdict.against()));
        }
    }

    /// A failover was tried.
    pub(super) fn acted(&self, kind: Kind) {
        self.acted.get_or_create(&vec![("outcome".to_owned(), kind.name().to_owned())]).inc();
    }

    /// Somebody was told.
    pub(super) fn alerts(&self, kind: Kind) {
        self.alerts.get_or_create(&vec![("kind".to_owned(), kind.name().to_owned())]).inc();
    }
}
