//! Metrics in the Prometheus text format: `godwit_<program>_<noun>_<unit>`.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
pub use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::gauge::Gauge;
pub use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

/// Labels of a [`Family`]: names with values.
pub type Labels = Vec<(String, String)>;

/// Whose metrics these are: labels that every one of them carries.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// The service, if there is one.
    pub service: Option<String>,
    /// The cluster, if it is in one.
    pub cluster: Option<String>,
    /// The shard's number, if it stands at one.
    pub shard: Option<u32>,
}

/// A program's metrics. Clones share them; a metric handed out is cheap to change.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Metrics {
    /// The metrics of `godwit-<program>`: their names begin with `godwit_<program>_`.
    pub fn new(program: &str, version: &str, identity: &Identity) -> Self {
        let labels = [
            ("service", identity.service.clone()),
            ("cluster", identity.cluster.clone()),
            ("shard", identity.shard.map(|n| n.to_string())),
        ];
        let labels = labels
            .into_iter()
            .filter_map(|(name, value)| Some((name.into(), value?.into())))
            .collect::<Vec<_>>();
        let prefix = format!("godwit_{program}");
        let mut registry = Registry::with_prefix_and_labels(prefix, labels.into_iter());
        registry.register(
            "build",
            "The running version",
            Info::new(vec![("version", version.to_owned())]),
        );
        Self(Arc::new(Mutex::new(registry)))
    }

    /// A number that only rises; `_total` is added to its name.
    pub fn counter(&self, name: &str, help: &str) -> Counter {
        self.register(name, help, Counter::default())
    }

    /// A number that goes up and down.
    pub fn gauge(&self, name: &str, help: &str) -> Gauge {
        self.register(name, help, Gauge::default())
    }

    /// Counters under labels.
    pub fn counters(&self, name: &str, help: &str) -> Family<Labels, Counter> {
        self.register(name, help, Family::default())
    }

    /// Gauges under labels.
    pub fn gauges(&self, name: &str, help: &str) -> Family<Labels, Gauge> {
        self.register(name, help, Family::default())
    }

    /// A distribution of durations in seconds, from 50 us to about 26 s.
    pub fn seconds(&self, name: &str, help: &str) -> Histogram {
        self.register(name, help, Histogram::new(exponential_buckets(50e-6, 2.0, 20)))
    }

    /// Registers a metric and hands it back.
    pub fn register<M: Metric + Clone>(&self, name: &str, help: &str, metric: M) -> M {
        self.locked(|registry| registry.register(name, help, metric.clone()));
        metric
    }

    /// Registers metrics that are computed when they are asked for.
    pub fn collector(&self, collector: Box<dyn Collector>) {
        self.locked(|registry| registry.register_collector(collector));
    }

    /// All of them as text.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        self.locked(|registry| encode(&mut text, registry)).expect("writing to a string");
        text
    }

    fn locked<T>(&self, work: impl FnOnce(&mut Registry) -> T) -> T {
        // A panic while registering leaves the registry whole: at worst without that metric.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels_are_those_of_the_conventions() {
        let identity =
            Identity { service: Some("demo".into()), cluster: Some("a".into()), shard: Some(1) };
        let metrics = Metrics::new("node", "0.1.0", &identity);
        metrics.counter("commands", "Commands run").inc_by(3);
        metrics
            .gauges("lag_ms", "Lag")
            .get_or_create(&vec![("source".into(), "b/0".into())])
            .set(7);
        let text = metrics.encode();
        let labels = r#"service="demo",cluster="a",shard="1""#;
        assert!(text.contains(&format!("godwit_node_commands_total{{{labels}}} 3")), "{text}");
        assert!(
            text.contains(&format!("godwit_node_lag_ms{{{labels},source=\"b/0\"}} 7")),
            "{text}"
        );
        assert!(text.contains("version=\"0.1.0\""), "{text}");
    }
}
