//! Two clouds that are only keys in a registry: tasks that play nodes, sidecars and proxies by
//! writing what those would write, after a moment of the seed's choosing.

use std::collections::BTreeMap;
use std::process::Output;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use topology::members::{
    AppliedStatus, Drained, Lease, NodeMember, ProxyMember, ReceiveStatus, Role, SidecarMember,
    StreamStatus,
};
use topology::record::{Cause, UnixMs};
use topology::{Epoch, Outcome, Record, Service, ServiceView, ShardName, open};
use wal::{Position, Sequence, TimelineId};

/// Where every fake log stands; its end batch is the next sequence.
pub(crate) const POSITION: u64 = 1000;
/// Where a standby stands that is told to lag.
pub(crate) const STUCK_AT: u64 = 900;
const MEMBER_TTL: Duration = Duration::from_millis(1500);
/// How long proxies can hold writes.
pub(crate) const HOLD_MS: u64 = 90_000;
const HEARTBEAT: Duration = Duration::from_millis(200);

/// What a shard is told to do wrong.
#[derive(Default)]
pub(crate) struct Faults {
    /// The node's process is gone.
    pub(crate) node_dead: AtomicBool,
    /// The sidecar's process is gone.
    pub(crate) sidecar_dead: AtomicBool,
    /// The node writes no end batch.
    pub(crate) mute: AtomicBool,
    /// As a standby it applies nothing more.
    pub(crate) stuck: AtomicBool,
    /// Its settings are not what the other cluster has.
    pub(crate) drifted: AtomicBool,
    /// Its role is seeding, not standby.
    pub(crate) seeding: AtomicBool,
    /// How far those who follow it are behind, in milliseconds; 0: they are level.
    pub(crate) lag_ms: AtomicU64,
}

/// The two clouds.
pub(crate) struct Clouds {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) service: Service,
    pub(crate) seed: u64,
    faults: BTreeMap<ShardName, Arc<Faults>>,
}

impl Clouds {
    /// Two clusters of two shards, a proxy in each; `a` is active under leases of 600 ms.
    pub(crate) async fn up(seed: u64) -> Self {
        println!("seed {seed}");
        let dir = tempfile::tempdir().unwrap();
        let registry = open(&format!("file:{}", dir.path().join("registry").display())).unwrap();
        let service = Service::open(registry, "demo").await.unwrap();
        let mut clouds = Self { dir, service, seed, faults: BTreeMap::new() };
        let init = ["init", "--cluster", "a=0-8191,8192-16383", "--cluster", "b=0-8191,8192-16383"];
        let init = clouds.tool(&[&init[..], &["--active", "a", "--lease", "600ms"]].concat()).await;
        assert_eq!(init.status.code(), Some(0), "{init:?}");
        for (n, shard) in (1..).zip(["a/0", "a/1", "b/0", "b/1"]) {
            let shard: ShardName = shard.parse().unwrap();
            let faults = Arc::new(Faults::default());
            clouds.faults.insert(shard.clone(), faults.clone());
            let rng = SmallRng::seed_from_u64(seed ^ n);
            let admin = format!("unix:{}", clouds.admin_of(&shard.to_string()).display());
            tokio::spawn(play_shard(clouds.service.clone(), (shard, admin), faults, rng));
        }
        for cluster in ["a", "b"] {
            tokio::spawn(play_proxy(
                clouds.service.clone(),
                cluster,
                SmallRng::seed_from_u64(seed),
            ));
        }
        clouds.settled().await;
        clouds
    }

    /// Waits until the members have caught up with the record: primaries lead, standbys follow.
    pub(crate) async fn settled(&self) {
        self.until(|view| {
            let Some(record) = view.record() else { return false };
            let led = |p: &ShardName| {
                let leads = view.nodes.get(p).is_some_and(|n| n.epoch == record.epoch);
                let leased = view.leases.get(p).is_some_and(|l| l.epoch == record.epoch);
                let streams = view.sidecars.get(p).map(|s| &s.streams);
                leads
                    && leased
                    && record.followers_of(p).iter().all(|f| {
                        let node = view.nodes.get(f);
                        let stream = streams.and_then(|s| s.get(&f.to_string()));
                        node.is_some_and(|n| n.applied.contains_key(&p.to_string()))
                            && stream.is_some_and(|s| s.state == "streaming")
                    })
            };
            let registered = view.proxies.values().filter(|p| p.epoch == record.epoch).count();
            registered == 2 && record.primaries.iter().all(led)
        })
        .await;
    }

    pub(crate) fn fault(&self, shard: &str) -> &Faults {
        &self.faults[&shard.parse().unwrap()]
    }

    /// Sets a fault and gives the fakes a heartbeat to show it.
    pub(crate) async fn kill(&self, cluster: &str, sidecars_too: bool) {
        for shard in [format!("{cluster}/0"), format!("{cluster}/1")] {
            self.fault(&shard).node_dead.store(true, Ordering::SeqCst);
            self.fault(&shard).sidecar_dead.store(sidecars_too, Ordering::SeqCst);
        }
    }

    /// Where the admin listener of a shard's node would be.
    pub(crate) fn admin_of(&self, shard: &str) -> std::path::PathBuf {
        self.dir.path().join(format!("{}.sock", shard.replace('/', "-")))
    }

    /// The tool as a process.
    pub(crate) fn command(&self, args: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_godwit-switchover"));
        command
            .args(["--registry", &format!("file:{}", self.dir.path().join("registry").display())])
            .args(["--service", "demo", "--output", "json"])
            .arg("--journal")
            .arg(self.dir.path().join("journal"))
            .args(args)
            .kill_on_drop(true);
        command
    }

    pub(crate) async fn tool(&self, args: &[&str]) -> Output {
        self.command(args).output().await.unwrap()
    }

    /// Runs the tool; its exit code and the last line of its stdout.
    pub(crate) async fn ask(&self, args: &[&str]) -> (i32, Value) {
        let output = self.tool(args).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        println!("--- {args:?}: {:?}\n{stderr}", output.status);
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let last = stdout.lines().last().unwrap_or("null");
        let json = serde_json::from_str(last).unwrap_or(Value::Null);
        println!("{json}");
        (output.status.code().unwrap_or(-1), json)
    }

    pub(crate) async fn until(&self, wanted: impl FnMut(&Arc<ServiceView>) -> bool) {
        let mut watch = self.service.watch();
        let seen = tokio::time::timeout(Duration::from_secs(10), watch.wait_for(wanted)).await;
        if seen.is_err() {
            panic!("seed {}: not seen in time: {:#?}", self.seed, self.service.view());
        }
    }

    pub(crate) async fn record(&self) -> Record {
        self.service.read_record().await.unwrap().unwrap().0
    }
}

fn timeline(shard: &ShardName) -> TimelineId {
    TimelineId(u128::from(wal::Tag::origin_of(&shard.to_string())))
}

fn at(shard: &ShardName, sequence: u64) -> Position {
    Position { timeline: timeline(shard), sequence: Sequence(sequence) }
}

async fn moment(rng: &Mutex<SmallRng>) {
    let wait = rng.lock().unwrap().random_range(0..4_000);
    tokio::time::sleep(Duration::from_micros(wait)).await;
}

async fn play_shard(
    service: Service,
    (shard, admin): (ShardName, String),
    faults: Arc<Faults>,
    rng: SmallRng,
) {
    let rng = Mutex::new(rng);
    let mut watch = service.watch();
    let mut leased = None;
    let mut last = (None, None);
    let mut wrote = tokio::time::Instant::now() - MEMBER_TTL;
    loop {
        let _ = tokio::time::timeout(HEARTBEAT / 2, watch.changed()).await;
        moment(&rng).await;
        let view = watch.borrow_and_update().clone();
        let Some((record, revision)) = view.record.clone() else { continue };
        let node_lives = !faults.node_dead.load(Ordering::SeqCst);
        let sidecar_lives = !faults.sidecar_dead.load(Ordering::SeqCst);
        let beat = wrote.elapsed() >= HEARTBEAT;
        let leads = record.is_primary(&shard);
        if node_lives
            && leads
            && record.freeze_of(&shard).is_none()
            && (beat || leased != Some(record.epoch))
        {
            let lease = Lease {
                shard: shard.clone(),
                epoch: record.epoch,
                lease_ms: record.lease_ms,
                at: UnixMs::now(),
            };
            if let Ok(Outcome::Committed(_)) = service.renew_lease(&lease, revision, None).await {
                leased = Some(record.epoch);
            }
        }
        let node = node_lives.then(|| node(&shard, &record, &view, &faults, leased));
        let sidecar = sidecar_lives.then(|| sidecar(&shard, &record, &view, &faults, node_lives));
        let same = last == (node.clone(), sidecar.clone());
        if same && !beat {
            continue;
        }
        last = (node.clone(), sidecar.clone());
        wrote = tokio::time::Instant::now();
        if let Some(mut node) = node {
            node.admin.clone_from(&admin);
            node.at = UnixMs::now();
            let _ = service.put_node(&node, MEMBER_TTL).await;
        }
        if let Some(mut sidecar) = sidecar {
            sidecar.at = UnixMs::now();
            let _ = service.put_sidecar(&sidecar, MEMBER_TTL).await;
        }
    }
}

fn node(
    shard: &ShardName,
    record: &Record,
    view: &ServiceView,
    faults: &Faults,
    leased: Option<Epoch>,
) -> NodeMember {
    let leads = record.is_primary(shard) && leased == Some(record.epoch);
    let mute = faults.mute.load(Ordering::SeqCst);
    let freeze = record.freeze_of(shard).filter(|_| leads && !mute);
    let mut applied = BTreeMap::new();
    let sources = record.primaries.iter().filter(|s| record.followers_of(s).contains(shard));
    for source in sources.filter(|_| !record.is_primary(shard)) {
        let held = view.nodes.get(shard).and_then(|n| n.applied.get(&source.to_string()));
        let ended = view.nodes.get(source).and_then(|n| n.ended);
        let drained = view.sidecars.get(source).and_then(|s| s.drained.clone());
        let freeze = record.freeze().map(|f| f.id);
        let end = ended.filter(|(id, _)| Some(*id) == freeze).map(|(_, end)| end);
        let drained = drained.filter(|d| Some(d.freeze) == freeze).map(|d| d.end);
        let stuck = faults.stuck.load(Ordering::SeqCst);
        let (position, marker) = match (end, drained) {
            _ if stuck => (at(source, STUCK_AT), None),
            (Some(end), _) => (end, freeze),
            (None, Some(end)) => (end, None),
            (None, None) => (held.map_or(at(source, POSITION), |h| h.position), None),
        };
        let stamp_ms = held.map_or(UnixMs::now().0, |h| h.stamp_ms);
        applied.insert(source.to_string(), AppliedStatus { position, stamp_ms, ended: marker });
    }
    let role = match (leads, faults.seeding.load(Ordering::SeqCst)) {
        (true, _) => Role::Primary,
        (false, true) => Role::Seeding,
        (false, false) => Role::Standby,
    };
    NodeMember {
        shard: shard.clone(),
        client: "127.0.0.1:1".to_owned(),
        admin: "unix:/nowhere".to_owned(),
        metrics: None,
        pid: 1,
        dir: "/nowhere".to_owned(),
        version: "0".to_owned(),
        role,
        epoch: if leads { record.epoch } else { Epoch(0) },
        position: Some(at(shard, POSITION)),
        own_end: None,
        ended: freeze.map(|f| (f.id, at(shard, POSITION + 1))),
        applied,
        settings: match faults.drifted.load(Ordering::SeqCst) {
            true => BTreeMap::from([("maxclients".to_owned(), "77".to_owned())]),
            false => BTreeMap::new(),
        },
        users: Some("same".to_owned()),
        disk_free: Some(1 << 40),
        promises: None,
        at: UnixMs(0),
    }
}

fn sidecar(
    shard: &ShardName,
    record: &Record,
    view: &ServiceView,
    faults: &Faults,
    node_lives: bool,
) -> SidecarMember {
    let lag_ms = faults.lag_ms.load(Ordering::SeqCst);
    let followers = if record.is_primary(shard) { record.followers_of(shard) } else { Vec::new() };
    let stream = |target: ShardName| {
        let there = view.sidecars.contains_key(&target) && view.nodes.contains_key(&target);
        let status = StreamStatus {
            state: if there { "streaming" } else { "connecting" }.to_owned(),
            reason: (!there).then(|| "nobody listens".to_owned()),
            staged: None,
            applied: None,
            lag_ms: Some(lag_ms),
            behind_bytes: lag_ms * 1000,
            sent_bytes: 1000,
            seed_bytes: 10,
            peer: Default::default(),
        };
        (target.to_string(), status)
    };
    let unplanned = record.freeze_of(shard).filter(|f| f.cause == Cause::Failover && !node_lives);
    let receive = ReceiveStatus {
        staged: None,
        applied: None,
        connected: true,
        held: None,
        way: None,
        bucket: None,
    };
    SidecarMember {
        shard: shard.clone(),
        stream: "127.0.0.1:1".to_owned(),
        metrics: None,
        pid: 1,
        version: "0".to_owned(),
        tail: None,
        drained: unplanned.map(|f| Drained {
            freeze: f.id,
            end: at(shard, POSITION + 1),
            fence: record.epoch.next(),
        }),
        streams: followers.into_iter().map(stream).collect(),
        receiving: BTreeMap::from([("x/0".to_owned(), receive)]),
        last_seen: Default::default(),
        drill: None,
        needs: None,
        sees: BTreeMap::new(),
        at: UnixMs(0),
    }
}

/// Acknowledges epochs and freezes, and ends a freeze whose deadline has passed.
async fn play_proxy(service: Service, cluster: &str, rng: SmallRng) {
    let rng = Mutex::new(rng);
    let mut watch = service.watch();
    loop {
        let _ = tokio::time::timeout(HEARTBEAT, watch.changed()).await;
        moment(&rng).await;
        let view = watch.borrow_and_update().clone();
        let Some(record) = view.record() else { continue };
        if let Some(freeze) = record.freeze().filter(|f| f.deadline < UnixMs::now()) {
            let _ = service.cancel(freeze.id).await;
        }
        let id = format!("proxy-{cluster}");
        let holding = record.freeze().map(|f| f.id);
        let held =
            view.proxies.get(&id).filter(|p| p.epoch == record.epoch && p.holding == holding);
        if held.is_some_and(|p| UnixMs::now().0.saturating_sub(p.at.0) < 200) {
            continue;
        }
        let proxy = ProxyMember {
            id,
            cluster: cluster.to_owned(),
            client: "127.0.0.1:1".to_owned(),
            metrics: None,
            pid: 1,
            version: "0".to_owned(),
            epoch: record.epoch,
            holding,
            hold_ms: Some(HOLD_MS),
            zone: None,
            reads: None,
            sees: BTreeMap::new(),
            at: UnixMs::now(),
        };
        let _ = service.put_proxy(&proxy, MEMBER_TTL).await;
    }
}

/// A seed of this run; it is printed.
pub(crate) fn seed() -> u64 {
    rand::random::<u32>().into()
}
