//! The tasks that keep a node in step with its service.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ops::health::Check;
use ops::shutdown::Shutdown;
use rocksdb::WriteBatch;
use topology::service::MEMBER_TTL;
use topology::{FreezeId, Registry, Service};
use wal::{Kind, Sequence};

use super::lease::Next;
use super::{Control, Mode};
use crate::acl::Users;
use crate::store::reclaim::Search;
use crate::store::{CommitError, Durability};

/// How often a table file is looked at for garbage.
const SEARCH: Duration = Duration::from_millis(500);
/// How often the log, freezes and heartbeats are looked after.
const TICK: Duration = Duration::from_millis(100);
/// An idle primary writes a heartbeat so often.
const HEARTBEAT: Duration = Duration::from_millis(200);
/// The log of `everysec` is synced so often.
const SYNC: Duration = Duration::from_secs(1);
/// The node's key is written at least so often, and at most each [`PUBLISH_GAP`], or as often as the
/// registry bears while nothing is being switched.
const PUBLISH: Duration = Duration::from_secs(1);
/// Changes come in bursts: a frame applied, and the next.
const PUBLISH_GAP: Duration = Duration::from_millis(3);
/// Without a lease to renew, whether there is one again is looked at this often, beside each change.
const LEASE_LOOK: Duration = Duration::from_millis(500);
/// A freeze is cancelled again after this if the registry was silent.
const CANCEL_AGAIN: Duration = Duration::from_millis(500);

/// What the node tells others of itself.
#[derive(Clone)]
pub struct Announce {
    /// Where clients connect.
    pub client: String,
    /// Where control commands go.
    pub admin: String,
    /// Where metrics are served.
    pub metrics: Option<String>,
    /// Whether clients must (`on`) or may (`both`) speak TLS; `None`: they cannot.
    pub client_tls: Option<&'static str>,
    /// Its users, of whom only a digest is told.
    pub users: Option<Arc<Users>>,
}

/// The tasks, until shutdown.
#[derive(Debug)]
pub struct Steward;

impl Steward {
    /// Looks after the log and, with a service, the role, the lease and the node's key. `progress`
    /// is told that the log moves or can.
    pub async fn run(
        control: Control,
        service: Option<(Service, Announce)>,
        progress: Check,
        ready: Check,
        shutdown: Shutdown,
    ) {
        let upkeep = upkeep(control.clone(), progress, ready, shutdown.clone());
        match service {
            None => {
                tokio::join!(upkeep, reclaim(control, shutdown));
            }
            Some((service, announce)) => {
                tokio::join!(
                    upkeep,
                    reclaim(control.clone(), shutdown.clone()),
                    obey(control.clone(), service.clone(), shutdown.clone()),
                    keep_lease(control.clone(), service.clone(), shutdown.clone()),
                    thaw(control.clone(), service.clone(), shutdown.clone()),
                    publish(control, service, announce, shutdown),
                );
            }
        }
    }
}

/// Runs blocking work of control where it may block.
async fn blocking<T: Send + 'static>(
    control: &Control,
    work: impl FnOnce(&Control) -> T + Send + 'static,
) -> Option<T> {
    let control = control.clone();
    tokio::task::spawn_blocking(move || work(&control)).await.ok()
}

/// Looks for table files that are mostly garbage, one after the other.
async fn reclaim(control: Control, shutdown: Shutdown) {
    let mut search = Search::default();
    loop {
        tokio::select! {
            () = tokio::time::sleep(SEARCH) => {}
            () = shutdown.cancelled() => return,
        }
        let (mut taken, shared) = (std::mem::take(&mut search), control.clone());
        let look = move || {
            let store = shared.current().load();
            let looked = store.map_or(Ok(false), |store| store.reclaim_next_file(&mut taken));
            (taken, looked)
        };
        let Ok((back, looked)) = tokio::task::spawn_blocking(look).await else { continue };
        search = back;
        if let Err(why) = looked {
            tracing::warn!("looking for garbage in the database failed: {why}");
        }
    }
}

/// Does what the record says.
async fn obey(control: Control, service: Service, shutdown: Shutdown) {
    let mut view = service.watch();
    loop {
        let latest = view.borrow_and_update().clone();
        match blocking(&control, move |control| control.obey(&latest)).await {
            Some(Ok(())) => {}
            Some(Err(why)) => {
                tracing::error!("the record cannot be followed yet: {why}");
                view.mark_changed();
                tokio::time::sleep(TICK).await;
            }
            None => return,
        }
        let promised = control.promotion_waits();
        tokio::select! {
            changed = view.changed() => if changed.is_err() { return },
            // After the database was opened again the record decides afresh.
            () = control.0.reopened.notified() => {}
            // What it has promised has ended, and it may be what the record says.
            () = tokio::time::sleep(promised.unwrap_or_default()), if promised.is_some() => {
                view.mark_changed();
            }
            () = shutdown.cancelled() => return,
        }
    }
}

/// Keeps the lease while the record says that this node is a primary.
async fn keep_lease(control: Control, service: Service, shutdown: Shutdown) {
    loop {
        let again = match control.renew(&service).await {
            Next::After(pause) => pause,
            Next::WhenChanged => LEASE_LOOK,
        };
        tokio::select! {
            () = tokio::time::sleep(again) => {}
            () = control.0.obeyed.notified() => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// Cancels a freeze whose deadline has passed. A node that cannot reach the registry stays frozen.
async fn thaw(control: Control, service: Service, shutdown: Shutdown) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            () = shutdown.cancelled() => return,
        }
        let overdue = blocking(&control, |control| control.overdue_freeze()).await.flatten();
        let Some(freeze) = overdue else { continue };
        cancel(&service, freeze).await;
        tokio::time::sleep(CANCEL_AGAIN).await;
    }
}

async fn cancel(service: &Service, freeze: FreezeId) {
    match tokio::time::timeout(Duration::from_secs(2), service.cancel(freeze)).await {
        Ok(Ok(outcome)) => tracing::info!(%freeze, ?outcome, "the freeze's deadline has passed"),
        Ok(Err(why)) => tracing::warn!(%freeze, "the freeze cannot be cancelled yet: {why}"),
        Err(_) => {
            tracing::warn!(%freeze, "the freeze cannot be cancelled yet: the registry is silent")
        }
    }
}

/// Writes the node's key at each change and at least every second.
async fn publish(control: Control, service: Service, announce: Announce, shutdown: Shutdown) {
    let mut view = service.watch();
    let quiet = service.registry().quiet().saturating_sub(PUBLISH_GAP);
    loop {
        let says = announce.clone();
        let member = blocking(&control, move |control| control.member(&says)).await;
        if let Some(Ok(Some(member))) = member {
            let put = service.put_node(&member, MEMBER_TTL);
            match tokio::time::timeout(PUBLISH, put).await {
                Ok(Ok(())) => {}
                Ok(Err(why)) => tracing::warn!("this node's key was not written: {why}"),
                Err(_) => tracing::warn!("this node's key was not written: the registry is silent"),
            }
        }
        tokio::select! {
            () = tokio::time::sleep(PUBLISH) => {}
            () = async {
                control.0.changed.notified().await;
                tokio::time::sleep(PUBLISH_GAP).await;
                // A switch waits for every step; else the registry is spared.
                let frozen = view.wait_for(|view| view.record().is_some_and(|r| r.freeze().is_some()));
                let _ = tokio::time::timeout(quiet, frozen).await;
            } => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// Heartbeats, syncs, freezes by hand, and a log that failed.
async fn upkeep(control: Control, progress: Check, ready: Check, shutdown: Shutdown) {
    let mut last = Sequence(0);
    let mut idle = Duration::ZERO;
    let mut unsynced = Duration::ZERO;
    loop {
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            () = shutdown.cancelled() => return,
        }
        unsynced += TICK;
        idle += TICK;
        let sync = unsynced >= SYNC;
        if sync {
            unsynced = Duration::ZERO;
        }
        let beat = idle >= HEARTBEAT;
        let done = blocking(&control, move |control| control.look_after(last, beat, sync)).await;
        let Some(now) = done.flatten() else {
            progress.failing("the database is not open");
            ready.failing("the database is not open");
            continue;
        };
        if now != last || beat {
            idle = Duration::ZERO;
        }
        last = now;
        progress.ok();
        match control.authority().mode() {
            Mode::Primary if !control.authority().is_writable() => ready.failing("no lease"),
            Mode::Primary | Mode::Standalone | Mode::Standby => ready.ok(),
            mode => ready.failing(format!("{mode:?}")),
        }
    }
}

impl Control {
    /// One look; the end of the log then, or `None` while there is no usable database.
    fn look_after(&self, last: Sequence, beat: bool, sync: bool) -> Option<Sequence> {
        if self.0.closing.load(Ordering::Acquire) {
            return Some(last);
        }
        if let Err(why) = self.reopen_if_failed() {
            self.say_once(&format!("the database cannot be opened again yet: {why}"));
            return None;
        }
        self.say_once("");
        self.look_at_promises();
        if let Err(why) = self.thaw_if_due() {
            tracing::error!("the freeze by hand cannot be ended: {why}");
        }
        let store = self.0.current.load()?;
        store.look_at_room();
        if store.look_at_stall().stopped {
            // What is written here would wait with the log in its hands. Compactions are at it.
            store.note_moved();
            return Some(Sequence(store.db().latest_sequence_number()));
        }
        let now = Sequence(store.db().latest_sequence_number());
        let beats = self.0.authority.mode() == Mode::Primary && self.0.authority.is_writable();
        if beat && beats && now == last {
            let mut batch = WriteBatch::default();
            let stamp = keyspace::system::encode_stamp(store.hlc().last());
            batch.put_cf(store.cf(keyspace::Cf::System), keyspace::system::HEARTBEAT, stamp);
            // A freeze may have closed the log since; then there is nothing to tell.
            if let Err(why) = store.try_commit(batch, Kind::Heartbeat) {
                tracing::debug!("no heartbeat: {why}");
            }
        }
        if let Err(why) = store.keep_clock_ahead()
            && !matches!(why, CommitError::Stalled)
        {
            tracing::error!("the clock's bound cannot be written: {why}");
        }
        if let Err(why) = self.look_at_views(false) {
            tracing::warn!("reclaim views: {why}");
        }
        if sync && beats {
            self.0.workers.bring_users();
        }
        let due = sync && store.options().durability == Durability::Everysec;
        if due && let Err(why) = store.sync() {
            tracing::error!("syncing the log failed: {why}");
        }
        if !store.is_latched() {
            store.note_moved();
        }
        Some(Sequence(store.db().latest_sequence_number()))
    }
}
