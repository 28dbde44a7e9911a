//! How much a seed moves, how long it takes, and whether there is room for it.

use std::collections::BTreeMap;
use std::time::Duration;

use admin::{Access, Client};
use serde::Serialize;
use topology::{Record, ServiceView, ShardName};

/// How long a node may take to say how much it holds.
const ASK_WAIT: Duration = Duration::from_secs(3);
/// Nodes of one host that have the same room free, to one part in so many, are on one volume.
const SAME_VOLUME: u64 = 100;

/// What one shard sends to another.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Seed {
    pub(crate) source: ShardName,
    pub(crate) target: ShardName,
    /// Bytes, as they are stored; none where nobody says.
    pub(crate) bytes: Option<u64>,
}

/// What each source holds of each target's slots: asked of its node, or else its part of what the
/// sidecar beside it has measured.
pub(crate) async fn seeds(
    view: &ServiceView,
    next: &Record,
    pairs: &[(ShardName, ShardName)],
    access: &Access,
) -> Vec<Seed> {
    let mut found = Vec::new();
    let mut clients = BTreeMap::new();
    for (source, target) in pairs {
        if !clients.contains_key(source) {
            clients.insert(source, client(view, source, access).await);
        }
        let slots = |shard| next.slots_of(shard).cloned().unwrap_or_default();
        let (all, both) = (slots(source), slots(source).intersection(&slots(target)));
        let asked = match clients.get(source) {
            Some(Some(client)) => tokio::time::timeout(ASK_WAIT, client.measure(&both)).await.ok(),
            _ => None,
        };
        let measured = || {
            let bytes = view.sidecars.get(source)?.needs?.seed_bytes;
            let part = u128::from(bytes) * both.len() as u128 / all.len().max(1) as u128;
            u64::try_from(part).ok()
        };
        let bytes = asked.and_then(Result::ok).map(|answer| answer.bytes).or_else(measured);
        found.push(Seed { source: source.clone(), target: target.clone(), bytes });
    }
    found
}

async fn client(view: &ServiceView, shard: &ShardName, access: &Access) -> Option<Client> {
    let address = &view.nodes.get(shard)?.admin;
    tokio::time::timeout(ASK_WAIT, Client::connect_as(address, access)).await.ok()?.ok()
}

/// All bytes, if all are known.
pub(crate) fn total(seeds: &[Seed]) -> Option<u64> {
    seeds.iter().map(|seed| seed.bytes).sum()
}

/// Bytes a second that a source seeds at, as it was measured at its other followers or is limited to.
fn rate(view: &ServiceView, source: &ShardName) -> Option<u64> {
    let sidecar = view.sidecars.get(source)?;
    let measured = sidecar.streams.values().filter_map(|stream| stream.peer.seed_rate).max();
    measured.filter(|rate| *rate > 0).or_else(|| sidecar.needs?.bandwidth)
}

/// How long the seeds take, about: sources send at the same time, each as fast as it may. None where
/// that is not known of one.
pub(crate) fn time_ms(view: &ServiceView, seeds: &[Seed]) -> Option<u64> {
    let mut of_source: BTreeMap<&ShardName, u64> = BTreeMap::new();
    for seed in seeds {
        *of_source.entry(&seed.source).or_default() += seed.bytes?;
    }
    let times = of_source.into_iter().map(|(source, bytes)| {
        let ms = u128::from(bytes) * 1000 / u128::from(rate(view, source)?);
        u64::try_from(ms).ok()
    });
    times.collect::<Option<Vec<_>>>()?.into_iter().max()
}

/// What a volume has free, and what is wanted of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Volume {
    /// The nodes on it.
    pub(crate) shards: Vec<ShardName>,
    /// Bytes that are free there.
    pub(crate) free: u64,
    /// Bytes that their seeds take.
    pub(crate) wanted: u64,
}

/// The volumes of the targets, as far as their nodes say what is free. From the registry it cannot be
/// seen what is one volume: it is guessed on the safe side.
pub(crate) fn volumes(view: &ServiceView, seeds: &[Seed]) -> Vec<Volume> {
    let mut of_target: BTreeMap<&ShardName, u64> = BTreeMap::new();
    for seed in seeds {
        *of_target.entry(&seed.target).or_default() += seed.bytes.unwrap_or(0);
    }
    let mut found: Vec<(&str, Volume)> = Vec::new();
    for (shard, wanted) in of_target {
        let Some(node) = view.nodes.get(shard) else { continue };
        let Some(free) = node.disk_free else { continue };
        let host = node.client.rsplit_once(':').map_or(&*node.client, |(host, _)| host);
        let same = found.iter_mut().find(|(other, volume)| {
            *other == host && volume.free.abs_diff(free) <= volume.free / SAME_VOLUME
        });
        match same {
            Some((_, volume)) => {
                volume.shards.push(shard.clone());
                volume.wanted += wanted;
                volume.free = volume.free.min(free);
            }
            None => {
                found.push((host, Volume { shards: vec![shard.clone()], free, wanted }));
            }
        }
    }
    found.into_iter().map(|(_, volume)| volume).collect()
}

#[cfg(test)]
mod tests {
    use topology::members::{Needs, NodeMember, Role, SidecarMember, StreamStatus};
    use topology::record::{Epoch, UnixMs};

    use super::*;

    fn node(shard: &str, client: &str, free: u64) -> (ShardName, NodeMember) {
        let shard: ShardName = shard.parse().unwrap();
        let member = NodeMember {
            shard: shard.clone(),
            client: client.to_owned(),
            admin: "unix:/nowhere".to_owned(),
            metrics: None,
            pid: 1,
            dir: "/nowhere".to_owned(),
            version: "0".to_owned(),
            role: Role::Unknown,
            epoch: Epoch(1),
            position: None,
            own_end: None,
            ended: None,
            applied: BTreeMap::new(),
            settings: BTreeMap::new(),
            users: None,
            disk_free: Some(free),
            promises: None,
            at: UnixMs(0),
        };
        (shard, member)
    }

    fn sidecar(shard: &str, rates: &[Option<u64>]) -> (ShardName, SidecarMember) {
        let stream = |(n, rate): (usize, &Option<u64>)| {
            let mut status = StreamStatus::default();
            status.peer.seed_rate = *rate;
            (format!("x/{n}"), status)
        };
        let shard: ShardName = shard.parse().unwrap();
        let member = SidecarMember {
            shard: shard.clone(),
            stream: "127.0.0.1:1".to_owned(),
            metrics: None,
            pid: 1,
            version: "0".to_owned(),
            tail: None,
            drained: None,
            streams: rates.iter().enumerate().map(stream).collect(),
            receiving: BTreeMap::new(),
            sees: BTreeMap::new(),
            last_seen: BTreeMap::new(),
            drill: None,
            needs: Some(Needs { seed_bytes: 900, ..Needs::default() }),
            at: UnixMs(0),
        };
        (shard, member)
    }

    fn seed(source: &str, target: &str, bytes: u64) -> Seed {
        let (source, target) = (source.parse().unwrap(), target.parse().unwrap());
        Seed { source, target, bytes: Some(bytes) }
    }

    #[test]
    fn the_slowest_source_says_how_long_it_takes() {
        let mut view = ServiceView::default();
        view.sidecars.extend([sidecar("a/0", &[Some(100), None]), sidecar("a/1", &[Some(50)])]);
        let seeds = [seed("a/0", "n/0", 1000), seed("a/0", "n/1", 1000), seed("a/1", "n/1", 500)];
        assert_eq!((total(&seeds), time_ms(&view, &seeds)), (Some(2500), Some(20_000)));
        view.sidecars.extend([sidecar("a/1", &[None])]);
        assert_eq!(time_ms(&view, &seeds), None, "nothing is known of one");
        let (shard, mut bounded) = sidecar("a/1", &[None]);
        bounded.needs = Some(Needs { bandwidth: Some(25), ..Needs::default() });
        view.sidecars.insert(shard, bounded);
        assert_eq!(time_ms(&view, &seeds), Some(20_000), "its limit, where nothing was measured");
        let unknown = Seed { bytes: None, ..seeds[0].clone() };
        assert_eq!(total(&[unknown]), None);
    }

    #[test]
    fn nodes_of_one_volume_share_its_room() {
        let mut view = ServiceView::default();
        view.nodes.extend([
            node("n/0", "10.0.0.1:6400", 1000),
            node("n/1", "10.0.0.1:6401", 995),
            node("n/2", "10.0.0.1:6402", 500),
            node("n/3", "10.0.0.2:6400", 1000),
        ]);
        let seeds = [0, 1, 2, 3].map(|n| seed("a/0", &format!("n/{n}"), 100));
        let found: Vec<_> = volumes(&view, &seeds)
            .into_iter()
            .map(|v| (v.shards.len(), v.free, v.wanted))
            .collect();
        assert_eq!(found, [(2, 995, 200), (1, 500, 100), (1, 1000, 100)]);
    }

    #[tokio::test]
    async fn a_node_that_cannot_be_asked_is_estimated_by_its_sidecar() {
        let mut view = ServiceView::default();
        view.sidecars.extend([sidecar("a/0", &[])]);
        let record = serde_json::json!({
            "format": 1, "service": "demo", "epoch": 1, "primaries": ["a/0"],
            "phase": {"state": "steady"}, "lease-ms": 1, "forks": [],
            "clusters": {
                "a": {"shards": [{"slots": "0-16383"}]},
                "n": {"shards": [{"slots": "0-4095"}, {"slots": "4096-16383"}]},
            },
        });
        let record: Record = serde_json::from_value(record).unwrap();
        let pairs = crate::plan::pairs(&record, &record.primaries, "n");
        let found = seeds(&view, &record, &pairs, &Access::default()).await;
        let bytes: Vec<_> = found.iter().map(|seed| seed.bytes).collect();
        assert_eq!(bytes, [Some(225), Some(675)]);
    }
}
