//! A service in a file registry: clusters `a` and `b`, whose nodes are the story's.

use std::collections::BTreeMap;
use std::time::Duration;

use topology::members::{NodeMember, ProxyMember, Role};
use topology::record::{Cause, Cluster, Freeze, Phase, Record, UnixMs};
use topology::{Epoch, FreezeId, Service, ShardName};

use super::Proxy;
use super::node::Node;

pub struct World {
    pub runtime: tokio::runtime::Runtime,
    pub service: Service,
    pub registry: String,
    dir: tempfile::TempDir,
}

impl World {
    /// Cluster `a` is primary; `slots` are the shards of both clusters.
    pub fn new(a: &[&str], b: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let registry = format!("file:{}", dir.path().display());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let opened = topology::open(&registry).unwrap();
        let service = runtime.block_on(Service::open(opened, "shop")).unwrap();
        let cluster = |slots: &[&str]| Cluster::of(slots.iter().map(|s| s.parse().unwrap()));
        let name = |shard| ShardName { cluster: "a".to_owned(), shard };
        let record = Record {
            format: Record::FORMAT,
            service: "shop".to_owned(),
            epoch: Epoch(1),
            primaries: (0..a.len() as u32).map(name).collect(),
            phase: Phase::Steady,
            lease_ms: 3000,
            clusters: BTreeMap::from([("a".to_owned(), cluster(a)), ("b".to_owned(), cluster(b))]),
            forks: Vec::new(),
            reads: Default::default(),
            level: 0,
            rest: Default::default(),
        };
        runtime.block_on(service.create_record(&record)).unwrap();
        Self { runtime, service, registry, dir }
    }

    pub fn proxy(&self, flags: &[&str]) -> Proxy {
        self.proxy_with(flags, "")
    }

    /// The same with failpoints.
    pub fn proxy_with(&self, flags: &[&str], failpoints: &str) -> Proxy {
        let own =
            ["--registry", &self.registry, "--service", "shop", "--cluster", "a", "--id", "p1"];
        Proxy::start_with(&[&own[..], flags].concat(), failpoints)
    }

    /// What a node says of itself.
    pub fn says(&self, shard: &str, node: &Node, role: Role, epoch: u64) {
        let member = NodeMember {
            shard: shard.parse().unwrap(),
            client: node.address(),
            admin: "unix:/nowhere".to_owned(),
            metrics: None,
            pid: 1,
            dir: "/nowhere".to_owned(),
            version: "0".to_owned(),
            role,
            epoch: Epoch(epoch),
            position: None,
            own_end: None,
            ended: None,
            applied: BTreeMap::new(),
            settings: BTreeMap::new(),
            users: None,
            disk_free: None,
            promises: None,
            at: UnixMs::now(),
        };
        self.runtime.block_on(self.service.put_node(&member, Duration::from_secs(60))).unwrap();
    }

    pub fn record(&self) -> Record {
        self.runtime.block_on(self.service.read_record()).unwrap().unwrap().0
    }

    /// Changes the record.
    pub fn swap(&self, change: impl FnOnce(Record) -> Record) {
        let (record, revision) =
            self.runtime.block_on(self.service.read_record()).unwrap().unwrap();
        let changed = change(record);
        self.runtime.block_on(self.service.swap_record(revision, &changed)).unwrap();
    }

    /// Freezes all primaries for a switch to `b`.
    pub fn freeze(&self, lasts: Duration) -> FreezeId {
        let id = FreezeId(7);
        self.swap(|record| Record {
            phase: Phase::Frozen(Freeze {
                id,
                cause: Cause::Switchover,
                shards: record.primaries.clone(),
                to: "b".to_owned(),
                deadline: UnixMs::now().after(lasts),
                since: UnixMs::now(),
                rest: Default::default(),
            }),
            ..record
        });
        id
    }

    /// What the proxy has registered, once it is as asked.
    pub fn registered(&self, what: &str, is: impl Fn(&ProxyMember) -> bool) -> ProxyMember {
        super::eventually(what, || {
            self.service.view().proxies.get("p1").filter(|member| is(member)).cloned()
        })
    }
}
