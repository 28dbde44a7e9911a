//! What the proxy learns from the registry and tells it: routes in; the epoch that it routes by and
//! the freeze that it holds for, out.
//!
//! What comes in waits for nothing that goes out. A registry that answers late, or not at all, delays
//! neither a freeze nor its end for the clients of this proxy: [`tell`] and [`overdue`] are tasks of
//! their own, and what is to be told is the latest, never a queue.

mod overdue;
mod tell;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use observe::Observer;
use ops::metrics::Metrics;
use tokio::sync::watch;
use topology::members::ReadsMember;
use topology::{Epoch, FreezeId, Service, ServiceView};

use crate::config::Upstream;
use crate::reads;
use crate::routes::Routes;
use crate::shared::Shared;
use tell::Teller;

/// How often it is looked at how far a standby is behind that is read from.
const LOOK: Duration = Duration::from_millis(100);

/// What every thread has come to.
#[derive(Clone, Debug, Default, PartialEq)]
struct Acknowledged {
    /// The last epoch that it routed by, 0 before the first.
    epoch: Epoch,
    /// The freeze that it holds for.
    holding: Option<FreezeId>,
    /// Where reads go.
    reads: Option<ReadsMember>,
}

/// The proxy as a member of its service.
pub(crate) struct Member {
    shared: Arc<Shared>,
    service: Service,
    view: watch::Receiver<Arc<ServiceView>>,
    teller: Teller,
    version: u64,
    acknowledged: watch::Sender<Acknowledged>,
    zone: Option<String>,
    observer: Observer,
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
        let (acknowledged, latest) = watch::channel(Acknowledged::default());
        let teller = Teller {
            shared: shared.clone(),
            service: opened.clone(),
            id: id.clone(),
            cluster: cluster.clone(),
            metrics,
            zone: zone.clone(),
            observer: observer.clone(),
            latest,
        };
        Ok(Some(Self {
            shared: shared.clone(),
            zone: zone.clone(),
            observer,
            view: opened.watch(),
            service: opened,
            teller,
            version: 0,
            acknowledged,
        }))
    }

    /// Follows the registry until shutdown, and takes the proxy's name out of it.
    pub(crate) async fn run(mut self) {
        self.route();
        let telling = tokio::spawn(self.teller.clone().run());
        let ending = tokio::spawn(overdue::end(self.shared.clone(), self.service.clone()));
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
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
                // How far a standby is behind is no news of the registry's.
                _ = look.tick(), if self.shared.routes.load().reads_told.is_some() => self.route(),
            }
            self.learn();
        }
        ending.abort();
        if let Err(why) = telling.await {
            tracing::error!(%why, "what told the registry of this proxy ended by itself");
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
    fn learn(&self) {
        if let Some(now) = self.shared.acknowledged() {
            let reads = self.shared.routes.load().reads_told.clone();
            let now = Acknowledged { epoch: now.0, holding: now.1, reads };
            self.acknowledged.send_if_modified(|held| {
                let news = *held != now;
                *held = now;
                news
            });
        }
    }
}
