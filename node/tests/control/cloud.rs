//! A service with three clusters of one shard each, and its nodes as processes.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use admin::{Client, Status};
use tempfile::TempDir;
use topology::members::Role;
use topology::record::{Cause, Cluster, Fork, Freeze, Phase, UnixMs};
use topology::{Epoch, FreezeId, Outcome, Record, Service, ServiceView, ShardName};

/// Long enough for a busy machine; nothing waits for it when all is well.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Cloud {
    pub(crate) dir: TempDir,
    pub(crate) service: Service,
}

/// Polls until there is an answer.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "gave up waiting for: {what}");
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
}

pub(crate) fn shard(cluster: &str) -> ShardName {
    ShardName { cluster: cluster.to_owned(), shard: 0 }
}

impl Cloud {
    /// Cluster a is active, at epoch 1.
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let registry = topology::open(&format!("file:{}/registry", dir.path().display())).unwrap();
        let service = Service::open(registry, "demo").await.unwrap();
        let cluster = || Cluster::of(["0-16383".parse().unwrap()]);
        let record = Record {
            format: 1,
            service: "demo".to_owned(),
            epoch: Epoch(1),
            primaries: vec![shard("a")],
            phase: Phase::Steady,
            lease_ms: 1_500,
            clusters: ["a", "b", "c"].map(|name| (name.to_owned(), cluster())).into(),
            forks: Vec::new(),
            reads: Default::default(),
            level: 0,
            rest: Default::default(),
        };
        let created = service.create_record(&record).await.unwrap();
        assert!(matches!(created, Outcome::Committed(_)));
        Self { dir, service }
    }

    pub(crate) async fn start(&self, cluster: &str) -> Node {
        self.start_with(cluster, "").await
    }

    /// Starts a node with these failpoints, and waits until it answers control commands.
    pub(crate) async fn start_with(&self, cluster: &str, failpoints: &str) -> Node {
        let dir = self.dir.path().join(cluster);
        let child = Command::new(env!("CARGO_BIN_EXE_godwit-node"))
            .args(["--listen", "127.0.0.1:0", "--service", "demo", "--shard", "0"])
            .args(["--cluster", cluster, "--memory", "32MiB", "--log", "info"])
            .arg("--dir")
            .arg(&dir)
            .arg("--registry")
            .arg(format!("file:{}/registry", self.dir.path().display()))
            .env("GODWIT_FAILPOINTS", failpoints)
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let pid = child.id();
        let address = format!("unix:{}/admin.sock", dir.display());
        let admin = eventually("the admin listener", || async {
            let client = Client::connect(&address).await.ok()?;
            client.status().await.ok().map(|_| client)
        });
        let admin = admin.await;
        let client = eventually("the node's key", || async {
            let view = self.service.view();
            view.nodes.get(&shard(cluster)).filter(|n| n.pid == pid).map(|n| n.client.clone())
        });
        Node { child, dir, client: client.await, admin, shard: shard(cluster) }
    }

    /// Changes the record, whatever its revision.
    pub(crate) async fn change(&self, change: impl Fn(&Record) -> Record) -> Record {
        loop {
            let (record, revision) = self.service.read_record().await.unwrap().unwrap();
            let next = change(&record);
            let outcome = self.service.swap_record(revision, &next).await.unwrap();
            if matches!(outcome, Outcome::Committed(_)) {
                return next;
            }
        }
    }

    pub(crate) async fn freeze(&self, from: &str, to: &str, lasts: Duration) -> FreezeId {
        let id = FreezeId(rand::random());
        self.change(|record| {
            let freeze = Freeze {
                id,
                cause: Cause::Switchover,
                shards: vec![shard(from)],
                to: to.to_owned(),
                deadline: UnixMs::now().after(lasts),
                since: UnixMs::now(),
                rest: Default::default(),
            };
            Record { phase: Phase::Frozen(freeze), ..record.clone() }
        })
        .await;
        id
    }

    /// Commits a switch, with what the target's key says that it has applied.
    pub(crate) async fn commit(&self, to: &str) -> Epoch {
        let record = self.service.read_record().await.unwrap().unwrap().0;
        let mut forks = Vec::new();
        for source in &record.primaries {
            forks.extend(self.fork(&record, source, to).await);
        }
        self.change(|record| record.committed(to, forks.clone())).await.epoch
    }

    /// What the target has applied of the source; its key is written each second at least.
    pub(crate) async fn fork(&self, record: &Record, source: &ShardName, to: &str) -> Option<Fork> {
        let told = |view: &Arc<ServiceView>| {
            let node = view.nodes.get(&shard(to));
            node.is_some_and(|node| node.applied.contains_key(&source.to_string()))
        };
        let mut watch = self.service.watch();
        let told = tokio::time::timeout(Duration::from_secs(2), watch.wait_for(told)).await;
        let applied = told.ok()?.unwrap().nodes[&shard(to)].applied[&source.to_string()].clone();
        Some(Fork {
            epoch: record.epoch.next(),
            freeze: FreezeId(record.epoch.0.into()),
            source: source.clone(),
            target: shard(to),
            at: applied.position,
            rest: Default::default(),
            // As if its log had been read to there: else a new directory waits for what it may have promised.
            end: Some(applied.position),
        })
    }
}

pub(crate) struct Node {
    child: Child,
    pub(crate) dir: PathBuf,
    pub(crate) client: String,
    pub(crate) admin: Client,
    pub(crate) shard: ShardName,
}

impl Node {
    pub(crate) async fn status(&self) -> Status {
        self.admin.status().await.unwrap()
    }

    pub(crate) async fn wait(&self, what: &str, is: impl Fn(&Status) -> bool) -> Status {
        eventually(what, || async { Some(self.status().await).filter(|status| is(status)) }).await
    }

    pub(crate) async fn writable(&self) -> Status {
        self.wait("writable", |status| status.writable).await
    }

    pub(crate) async fn is(&self, role: Role) -> Status {
        self.wait(&format!("{role:?}"), |status| status.role == role).await
    }

    pub(crate) fn connection(&self) -> redis::Connection {
        let client = redis::Client::open(format!("redis://{}", self.client)).unwrap();
        client.get_connection().unwrap()
    }

    /// Runs one command on a connection of its own.
    pub(crate) fn run(&self, line: &str) -> redis::RedisResult<redis::Value> {
        let mut connection = self.connection();
        command(line).query(&mut connection)
    }

    /// The code of the refusal that a command must meet.
    pub(crate) fn refused(&self, line: &str) -> String {
        self.run(line).unwrap_err().code().unwrap_or_default().to_owned()
    }

    /// The value of a key, read as a standby's client does.
    pub(crate) fn get(&self, key: &str) -> Option<String> {
        let mut connection = self.connection();
        let _: redis::Value = redis::cmd("READONLY").query(&mut connection).unwrap();
        redis::cmd("GET").arg(key).query(&mut connection).unwrap()
    }

    /// SIGKILL, and gone.
    pub(crate) fn kill(mut self) -> PathBuf {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.dir.clone()
    }

    /// Waits until the process has ended by itself.
    pub(crate) async fn ended(mut self) {
        eventually("the process ends", || {
            let ended = self.child.try_wait().unwrap();
            async move { ended }
        })
        .await;
    }

    /// SIGTERM, and a clean end.
    pub(crate) async fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = eventually("the node stops", || {
            let status = self.child.try_wait().unwrap();
            async move { status }
        });
        assert!(status.await.success());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn command(line: &str) -> redis::Cmd {
    let mut words = line.split(' ');
    let mut command = redis::cmd(words.next().unwrap());
    for word in words {
        command.arg(word);
    }
    command
}

pub(crate) fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
