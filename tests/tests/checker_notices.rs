//! The checker is honest: over a store that behaves (Redis) it finds nothing, and it finds each
//! thing that is then broken behind its back.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tests::check::{self, Survivors, Verdict};
use tests::client::Client;
use tests::clouds::ports::Ports;
use tests::clouds::{Cloud, Node, Process, Shard, Sidecar};
use tests::load::operation::{Kind, Operation};
use tests::load::{Entry, Ledger, Traffic, TrafficPlan};
use tests::wait;

/// A redis-server that holds every slot.
struct Redis {
    address: String,
    child: Child,
    _ports: Ports,
    _dir: TempDir,
}

impl Redis {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut ports = Ports::reserve().unwrap();
        let (address, bus) = (ports.next_address().unwrap(), ports.next_address().unwrap());
        let port = |address: &str| address.rsplit(':').next().unwrap().to_owned();
        let child = Command::new("redis-server")
            .args(["--port", &port(&address), "--cluster-port", &port(&bus), "--bind", "127.0.0.1"])
            .args(["--cluster-enabled", "yes", "--save", "", "--dir"])
            .arg(dir.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server runs (scripts/deps.sh tests installs it)");
        let redis = Self { address, child, _ports: ports, _dir: dir };
        let limit = Duration::from_secs(10);
        wait::until("redis-server to take all slots", limit, || {
            redis.client()?.call(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"])
        })
        .unwrap();
        wait::until("redis-server to serve", limit, || redis.client()?.call(&["SET", "a", "b"]))
            .unwrap();
        redis
    }

    fn client(&self) -> anyhow::Result<Client> {
        Client::connect(&self.address)
    }

    fn cloud(&self) -> Cloud {
        let process = || Process::new(String::new(), PathBuf::new(), Vec::new(), PathBuf::new());
        let shard = Shard {
            name: "a/0".to_owned(),
            slots: "0-16383".to_owned(),
            node: Node {
                client: self.address.clone(),
                admin: String::new(),
                metrics: String::new(),
                dir: PathBuf::new(),
                process: process(),
            },
            sidecar: Sidecar { stream: String::new(), metrics: String::new(), process: process() },
        };
        Cloud { name: "a".to_owned(), proxies: Vec::new(), shards: vec![shard] }
    }

    fn check(&self, ledger: &Ledger) -> Verdict {
        check::check(ledger, &mut Survivors::of(&self.cloud()).unwrap()).unwrap()
    }

    /// The ledger of a moment of traffic that went well.
    fn traffic(&self) -> Ledger {
        let plan =
            TrafficPlan { rate: 2000, ..TrafficPlan::small("run", vec![self.address.clone()]) };
        let traffic = Traffic::start(plan);
        wait::until("some writes", Duration::from_secs(20), || {
            anyhow::ensure!(traffic.acknowledged() > 600);
            Ok(())
        })
        .unwrap();
        let ledger = traffic.stop();
        assert_eq!((ledger.client_errors(), ledger.wrong_reads), (0, 0), "{:?}", ledger.errors);
        ledger
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last write of a kind.
fn last(ledger: &Ledger, kind: Kind) -> (Operation, String) {
    let of = |e: &&Entry| e.operation.writer == 0 && e.operation.kind() == kind;
    let operation = ledger.entries().filter(of).last().unwrap().operation;
    (operation, operation.key("run"))
}

#[test]
fn a_store_that_behaves_passes_and_each_broken_write_is_found() {
    let redis = Redis::start();
    let ledger = redis.traffic();
    redis.check(&ledger).assert_good();
    let mut client = redis.client().unwrap();
    let mut broken = |args: &[&str]| {
        client.call(args).unwrap();
        redis.check(&ledger)
    };
    let (set, key) = last(&ledger, Kind::Set);
    assert_eq!(broken(&["DEL", &key]).lost, 1);
    assert_eq!(broken(&["SET", &key, "nonsense"]).damaged, 1);
    assert!(broken(&["SET", &key, &set.value("run")]).is_good());

    let (_, counter) = last(&ledger, Kind::Incr);
    assert_eq!(broken(&["DECR", &counter]).lost, 1);
    assert_eq!(broken(&["INCRBY", &counter, "3"]).duplicated, 2);
    assert!(broken(&["INCRBY", &counter, "-2"]).is_good());

    let (push, list) = last(&ledger, Kind::Push);
    assert_eq!(broken(&["RPUSH", &list, &push.member()]).duplicated, 1);
    assert!(broken(&["RPOP", &list]).is_good());
    assert_eq!(broken(&["LMOVE", &list, &list, "RIGHT", "LEFT"]).disordered, 1);
    assert!(broken(&["LMOVE", &list, &list, "LEFT", "RIGHT"]).is_good());
    assert_eq!(broken(&["RPUSH", &list, "4000000"]).resurrected, 1);
    assert!(broken(&["RPOP", &list]).is_good());

    let (field, hash) = last(&ledger, Kind::Field);
    assert_eq!(broken(&["HDEL", &hash, &field.member()]).lost, 1);
}

#[test]
fn a_connection_that_breaks_leaves_unknown_outcomes_that_are_resolved() {
    let redis = Redis::start();
    let traffic = Traffic::start(TrafficPlan {
        pipeline: 16,
        rate: 2000,
        ..TrafficPlan::small("run", vec![redis.address.clone()])
    });
    let limit = Duration::from_secs(20);
    let more = |than: u64| {
        wait::until("some writes", limit, || {
            anyhow::ensure!(traffic.acknowledged() > than);
            Ok(())
        })
        .unwrap();
    };
    more(300);
    let mut client = redis.client().unwrap();
    client.call(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).unwrap();
    more(traffic.acknowledged() + 300);
    let ledger = traffic.stop();
    let verdict = redis.check(&ledger);
    verdict.assert_good();
    assert!(ledger.disconnects > 0);
    assert_eq!(verdict.unknown_applied + verdict.unknown_not_applied, ledger.unknown());
}
