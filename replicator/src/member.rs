//! The sidecar's key in the registry: written soon after each change of a state, every second in any
//! case, and while the service is being switched four times a second, if only counters change.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use topology::members::{LastSeen, SidecarMember};
use topology::record::UnixMs;
use topology::service::MEMBER_TTL;
use topology::{ServiceView, ShardName};

use crate::sidecar::Sidecar;

/// A change is told after this, with what changed meanwhile.
const GATHER: Duration = Duration::from_millis(50);
/// The least time between two writes of what only counts up, while a switch may look at it.
const QUIET: Duration = Duration::from_millis(250);
/// The most time between two writes.
const EVERY: Duration = Duration::from_millis(900);

/// Publishes until shutdown, then takes the key away.
pub async fn keep_publishing(sidecar: Arc<Sidecar>, address: String, metrics: Option<String>) {
    let check = sidecar.health.check("registry");
    let mut last = sidecar.board.read();
    let mut last_seen = Sources::new();
    loop {
        sidecar.board.take_changes();
        let notes = sidecar.board.read();
        let tail = notes.tail.max(sidecar.node.position().map(|p| p.sequence));
        sidecar.metrics.tail_sequence.set(tail.map_or(0, |s| s.0 as i64));
        sidecar.metrics.streams(&last, &notes);
        let member = SidecarMember {
            shard: sidecar.shard.clone(),
            stream: address.clone(),
            metrics: metrics.clone(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            tail,
            drained: notes.drained.clone(),
            streams: notes.streams.clone(),
            receiving: notes.receiving.clone(),
            last_seen: last_seen.look(&sidecar.service.view(), &sidecar.shard),
            drill: notes.drill.clone(),
            needs: notes.needs,
            sees: sidecar.observer.sights(),
            at: UnixMs::now(),
        };
        match sidecar.service.put_sidecar(&member, MEMBER_TTL).await {
            Ok(()) => check.ok(),
            Err(error) => check.failing(error.to_string()),
        }
        last = notes;
        tokio::select! {
            () = news(&sidecar) => {}
            () = tokio::time::sleep(EVERY) => {}
            () = sidecar.shutdown.cancelled() => break,
        }
    }
    if let Err(error) = sidecar.service.remove_sidecar(&sidecar.shard).await {
        tracing::info!("the registry keeps our key until it expires: {error}");
    }
}

/// What was last seen of each primary whose log comes here: until when it may have written, and how far
/// its log was. Its keys in the registry end with it, and once it is gone with its disk nobody else knows.
struct Sources {
    seen: BTreeMap<String, LastSeen>,
    looked: Instant,
}

impl Sources {
    fn new() -> Self {
        Self { seen: BTreeMap::new(), looked: Instant::now() }
    }

    fn look(&mut self, view: &ServiceView, shard: &ShardName) -> BTreeMap<String, LastSeen> {
        let Some(record) = view.record() else { return BTreeMap::new() };
        let gap = std::mem::replace(&mut self.looked, Instant::now()).elapsed();
        // A lease may have begun and ended since the last look.
        let missed = gap >= Duration::from_millis(record.lease_ms);
        let sources = record.sources_of(shard);
        self.seen.retain(|source, _| sources.iter().any(|s| s.to_string() == *source));
        for source in sources {
            let seen = self.seen.entry(source.to_string()).or_default();
            let until = match view.leases.get(&source) {
                Some(lease) => Some(lease.at.after(Duration::from_millis(lease.lease_ms))),
                None if missed && seen.leased_until.is_some() => Some(UnixMs::now()),
                None => None,
            };
            seen.leased_until = seen.leased_until.max(until);
            let position = view.nodes.get(&source).and_then(|node| node.position);
            seen.position = position.or(seen.position);
        }
        self.seen.retain(|_, seen| *seen != LastSeen::default());
        self.seen.clone()
    }
}

/// Resolves when there is something to tell: soon after a change of a state, which is news for a
/// switch; later if only counters have changed, and not at all if nobody waits for those.
async fn news(sidecar: &Sidecar) {
    let counted = async {
        loop {
            tokio::time::sleep(QUIET).await;
            let switching = sidecar.service.view().record().is_some_and(|r| r.freeze().is_some());
            if switching && sidecar.board.take_changes() {
                return;
            }
        }
    };
    tokio::select! {
        () = sidecar.board.news() => tokio::time::sleep(GATHER).await,
        () = sidecar.observer.changed() => {}
        () = counted => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use topology::members::Lease;
    use topology::record::{Cluster, Phase};
    use topology::{Epoch, Record, Revision};

    fn view(primary: &str, lease_at: Option<u64>) -> ServiceView {
        let cluster = || Cluster::of(["0-16383".parse().unwrap()]);
        let shard: ShardName = primary.parse().unwrap();
        let record = Record {
            format: Record::FORMAT,
            service: "demo".to_owned(),
            epoch: Epoch(1),
            primaries: vec![shard.clone()],
            phase: Phase::Steady,
            lease_ms: 3_000,
            clusters: BTreeMap::from([("a".to_owned(), cluster()), ("b".to_owned(), cluster())]),
            forks: Vec::new(),
            reads: Default::default(),
            level: 0,
            rest: Default::default(),
        };
        let lease =
            |at| Lease { shard: shard.clone(), epoch: Epoch(1), lease_ms: 3_000, at: UnixMs(at) };
        let leases = lease_at.map(|at| (shard.clone(), lease(at))).into_iter().collect();
        ServiceView { record: Some((record, Revision(1))), leases, ..ServiceView::default() }
    }

    #[test]
    fn the_last_lease_of_a_source_bounds_what_it_wrote() {
        let own: ShardName = "b/0".parse().unwrap();
        let until = |ms| {
            let seen = LastSeen { leased_until: Some(UnixMs(ms)), position: None };
            BTreeMap::from([("a/0".to_owned(), seen)])
        };
        let mut leases = Sources::new();
        assert!(leases.look(&view("a/0", None), &own).is_empty(), "none was seen");
        assert_eq!(leases.look(&view("a/0", Some(1_000)), &own), until(4_000));
        assert_eq!(leases.look(&view("a/0", Some(2_000)), &own), until(5_000));
        assert_eq!(leases.look(&view("a/0", None), &own), until(5_000), "it ended");
        // Nobody looked for longer than a lease lasts: one may have come and gone.
        leases.looked = Instant::now().checked_sub(Duration::from_secs(4)).unwrap();
        let now = UnixMs::now();
        assert!(leases.look(&view("a/0", None), &own)["a/0"].leased_until >= Some(now));
        assert!(leases.look(&view("b/0", Some(9_000)), &own).is_empty(), "it leads itself");
    }
}
