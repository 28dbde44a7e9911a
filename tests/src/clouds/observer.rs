//! What the registry and the metrics pages show, asked from outside.

use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::runtime::Runtime;
use topology::{Service, ServiceView};

use super::layout::Layout;
use super::start::http_get;

/// A watcher of a service.
pub struct Observer {
    service: Service,
    _runtime: Runtime,
}

impl Observer {
    /// Begins to watch the service of a layout.
    pub fn of(layout: &Layout) -> Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let open = async {
            let registry = topology::open(&layout.registry)?;
            Service::open(registry, &layout.service).await
        };
        let service = runtime.block_on(open).context("cannot open the registry")?;
        Ok(Self { service, _runtime: runtime })
    }

    /// The service now.
    pub fn view(&self) -> Arc<ServiceView> {
        self.service.view()
    }

    /// The current epoch; 0 before there is a record.
    pub fn epoch(&self) -> u64 {
        self.view().record.as_ref().map_or(0, |(record, _)| record.epoch.0)
    }

    /// The active cluster.
    pub fn active(&self) -> Option<String> {
        let view = self.view();
        view.record.as_ref().and_then(|(record, _)| record.active().map(str::to_owned))
    }

    /// The streams that leave a cluster: from, to, and how each is doing.
    pub fn streams(&self, cluster: &str) -> Vec<(String, String, topology::members::StreamStatus)> {
        let view = self.view();
        let from = view.sidecars.iter().filter(|(name, _)| name.cluster == cluster);
        from.flat_map(|(name, member)| {
            let streams = member.streams.iter();
            streams.map(move |(to, status)| (name.to_string(), to.clone(), status.clone()))
        })
        .collect()
    }

    /// Whether a cluster is followed: so many streams from it are streaming.
    pub fn is_followed(&self, active: &str, wanted: usize) -> Result<()> {
        let streams = self.streams(active);
        let streaming = streams.iter().filter(|(_, _, s)| s.state == "streaming").count();
        if streaming >= wanted {
            return Ok(());
        }
        let shown = streams.iter().map(|(from, to, s)| {
            format!("{from} -> {to} is {} {}", s.state, s.reason.as_deref().unwrap_or_default())
        });
        anyhow::bail!(
            "{streaming} of {wanted} streams run: {}",
            shown.collect::<Vec<_>>().join("; ")
        )
    }
}

/// The sum of a counter over the sidecars of a cloud, 0 for a page that cannot be had.
pub fn sidecar_counter(layout: &Layout, cloud: &str, name: &str) -> u64 {
    let clouds = layout.clouds.iter().filter(|c| c.name == cloud);
    let pages = clouds
        .flat_map(|c| &c.shards)
        .map(|s| http_get(&format!("http://{}/metrics", s.sidecar.metrics)).unwrap_or_default());
    pages.map(|page| metric(&page, name)).sum()
}

/// The sum of all series of a metric on a page.
pub fn metric(page: &str, name: &str) -> u64 {
    let value = |line: &str| {
        let rest = line.strip_prefix(name)?;
        // The name ends here, or at its labels.
        if !rest.starts_with(['{', ' ']) {
            return None;
        }
        let number = rest.rsplit(' ').next()?.parse::<f64>().ok()?;
        Some(number.max(0.0) as u64)
    };
    page.lines().filter_map(value).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_its_labels_and_no_other_name() {
        let page = "# HELP x\nx_total{a=\"1\"} 3\nx_total{a=\"2 3\"} 4\nx_total_more 9\n";
        assert_eq!(metric(page, "x_total"), 7);
    }
}
