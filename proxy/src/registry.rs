//! What the proxy learns from the registry and tells it: routes in; the epoch that it routes by and
//! the freeze that it holds for, out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use observe::Observer;
use ops::metrics::Metrics;
use tokio::sync::watch;
use topology::members::{ProxyMember, ReadsMember};
use topology::record::UnixMs;
use topology::service::{Cancelled, MEMBER_TTL};
use topology::{Epoch, FreezeId, Service, ServiceView};

use crate::config::Upstream;
use crate::reads;
use crate::routes::Routes;
use crate::shared::Shared;

/// How often the proxy's key is written without a change.
const BEAT: Duration = Duration::from_millis(1000);
/// How often a freeze's deadline is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// The tool that froze comes first in cancelling; proxies only when it has died.
const CANCEL_AFTER_MS: u64 = 500;

/// The proxy as a member of its service.
pub(crate) struct Member {
    shared: Arc<Shared>,
    service: Service,
    view: watch::Receiver<Arc<ServiceView>>,
    id: String,
    cluster: String,
    metrics: Option<String>,
    version: u64,
    /// The last epoch that every thread routed by; 0 before the first.
    acknowledged: (Epoch, Option<FreezeId>),
    zone: Option<String>,
    observer: Observer,
    /// Where reads go by the routes that every thread follows.
    reads: Option<ReadsMember>,
}

impl Member {
    /// Opens the registry; `None` where there is none.
    pub(crate) fn open(
        shared: &Arc<Shared>,
        metrics: Option<String>,
        meters: &Metrics,
    ) -> anyhow::Result<Option<Self>> {
        let Upstream::Service { registry, service, cluster, id, zone } = &shared.config.upstream
        else {
            return Ok(None);
        };
        let opened = topology::open(registry).context("opening the registry")?;
        // One that is silent now may answer later, and a proxy that ended would serve nobody then either.
        let opened = Service::open_patient(opened, service)
            .with_context(|| format!("watching service `{service}` in the registry {registry}"))?;
        let (times, stands_in) = (shared.config.probe, zone.clone());
        let observer = Observer::start(
            opened.watch(),
            times,
            move |view| reads::readers(view, stands_in.as_deref(), times.interval),
            meters,
            shared.shutdown.clone(),
        );
        Ok(Some(Self {
            shared: shared.clone(),
            zone: zone.clone(),
            observer,
            reads: None,
            view: opened.watch(),
            service: opened,
            id: id.clone(),
            cluster: cluster.clone(),
            metrics,
            version: 0,
            acknowledged: (Epoch::default(), None),
        }))
    }

    /// Follows the registry until shutdown.
    pub(crate) async fn run(mut self) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut told = Instant::now();
        self.route();
        self.tell().await;
        loop {
            let before = (self.acknowledged, self.reads.clone());
            let mut news = false;
            tokio::select! {
                biased;
                () = self.shared.shutdown.cancelled() => break,
                changed = self.view.changed() => {
                    if changed.is_err() {
                        tracing::error!("the watch of the registry has ended; stopping");
                        self.shared.shutdown.request();
                        break;
                    }
                    self.route();
                }
                () = self.shared.progressed.notified() => {}
                () = self.observer.changed() => news = true,
                _ = look.tick() => {
                    self.cancel_overdue().await;
                    // How far a standby is behind is no news of the registry's.
                    if self.shared.routes.load().reads_told.is_some() {
                        self.route();
                    }
                }
            }
            self.learn();
            if news || (self.acknowledged, self.reads.clone()) != before || told.elapsed() >= BEAT {
                told = Instant::now();
                self.tell().await;
            }
        }
        if let Err(why) = self.service.remove_proxy(&self.id).await {
            tracing::warn!(%why, "cannot take this proxy out of the registry; its key ends by itself");
        }
    }

    /// Makes routes of what the registry says.
    fn route(&mut self) {
        let view = self.view.borrow_and_update().clone();
        let was = self.shared.routes.load().reads_told.clone();
        let told = reads::now(&view, self.zone.as_deref(), was.as_ref(), &self.observer);
        let routes = Routes::from_view(self.version + 1, &view).with_reads(&view, told);
        if self.version > 0 && routes.same_as(&self.shared.routes.load()) {
            return;
        }
        self.version += 1;
        tracing::info!(
            epoch = %routes.epoch,
            freeze = ?routes.freeze,
            problem = routes.problem(),
            reads = ?routes.reads_told,
            "routing anew"
        );
        self.shared.stats.epoch.set(i64::try_from(routes.epoch.0).unwrap_or(i64::MAX));
        self.shared.stats.reads_out.set(i64::from(routes.reads.is_some()));
        self.shared.publish(routes);
    }

    /// What every thread has come to. An older freeze is never held by newer routes.
    fn learn(&mut self) {
        if let Some(now) = self.shared.acknowledged() {
            self.acknowledged = now;
            self.reads = self.shared.routes.load().reads_told.clone();
        }
    }

    async fn tell(&self) {
        let (epoch, holding) = self.acknowledged;
        let member = ProxyMember {
            id: self.id.clone(),
            cluster: self.cluster.clone(),
            client: self.shared.announce().to_owned(),
            metrics: self.metrics.clone(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            epoch,
            holding,
            hold_ms: u64::try_from(self.shared.config.hold_time.as_millis()).ok(),
            zone: self.zone.clone(),
            reads: self.reads.clone(),
            sees: self.observer.sights(),
            at: UnixMs::now(),
        };
        if let Err(why) = self.service.put_proxy(&member, MEMBER_TTL).await {
            tracing::warn!(%why, "cannot register this proxy; it goes on by what it knows");
        }
    }

    /// If the tool that froze has died, the freeze ends here.
    async fn cancel_overdue(&self) {
        let view = self.view.borrow().clone();
        let freeze = view.record.as_ref().and_then(|(record, _)| record.freeze());
        let Some(freeze) = freeze.filter(|f| UnixMs::now().0 > f.deadline.0 + CANCEL_AFTER_MS)
        else {
            return;
        };
        match self.service.cancel(freeze.id).await {
            Ok(Cancelled::Ended(record)) => {
                tracing::warn!(freeze = %freeze.id, epoch = %record.epoch, "the freeze was past its deadline and nobody ended it: cancelled; nothing is lost");
            }
            Ok(Cancelled::WasOver(_)) => {}
            Err(why) => tracing::warn!(%why, "cannot cancel a freeze that is past its deadline"),
        }
    }
}
