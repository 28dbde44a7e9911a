//! etcd on loopback: Debian's `etcd-server`, as a user would start it, to kill, freeze and restore.
//!
//! It knows nothing of this workspace, so that the tests of single crates include this file too.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long a cluster may take to be well on a busy machine.
const WELL_MAX: Duration = Duration::from_secs(30);
/// Ports are given back before etcd takes them: somebody else may be quicker.
const TRIES_MAX: u32 = 5;

/// What TLS a cluster asks its clients for; files in PEM.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The authority of servers and clients.
    pub ca: PathBuf,
    /// The servers' certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// A cluster, which ends with this value.
#[derive(Debug)]
pub struct Etcd {
    members: Vec<Member>,
    tls: Option<Tls>,
    dir: tempfile::TempDir,
}

#[derive(Debug)]
struct Member {
    args: Vec<String>,
    client: u16,
    health: u16,
    log: PathBuf,
    child: Option<Child>,
}

impl Etcd {
    /// One member.
    pub fn start() -> Self {
        Self::cluster(1, None)
    }

    /// So many members; returns when they have a leader.
    pub fn cluster(count: usize, tls: Option<Tls>) -> Self {
        for _ in 1..TRIES_MAX {
            let mut etcd = Self::plan(count, tls.clone(), &[]);
            if etcd.start_all().is_ok() {
                return etcd;
            }
        }
        let mut etcd = Self::plan(count, tls, &[]);
        etcd.start_all().unwrap_or_else(|why| panic!("etcd does not start: {why}"));
        etcd
    }

    fn plan(count: usize, tls: Option<Tls>, more: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("godwit-etcd-").tempdir();
        let dir = dir.expect("a scratch directory can be made");
        let held: Vec<_> = (0..count * 3)
            .map(|_| TcpListener::bind("127.0.0.1:0").expect("loopback has free ports"))
            .collect();
        let port = |n: usize| held[n].local_addr().expect("a bound socket").port();
        let peer = |n: usize| format!("http://127.0.0.1:{}", port(3 * n + 1));
        let all: Vec<_> = (0..count).map(|n| format!("m{n}={}", peer(n))).collect();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let members = (0..count).map(|n| {
            let (client, health) = (port(3 * n), port(3 * n + 2));
            let url = format!("{scheme}://127.0.0.1:{client}");
            let data = dir.path().join(format!("m{n}")).display().to_string();
            let mut args = vec!["--name".to_owned(), format!("m{n}")];
            let mut flag = |name: &str, value: &str| args.extend([name.into(), value.into()]);
            flag("--data-dir", &data);
            flag("--listen-client-urls", &url);
            flag("--advertise-client-urls", &url);
            flag("--listen-peer-urls", &peer(n));
            flag("--initial-advertise-peer-urls", &peer(n));
            flag("--initial-cluster", &all.join(","));
            flag("--listen-metrics-urls", &format!("http://127.0.0.1:{health}"));
            // Quick elections, and leases as short as etcd has them.
            flag("--heartbeat-interval", "50");
            flag("--election-timeout", "500");
            flag("--log-level", "warn");
            if let Some(tls) = &tls {
                flag("--trusted-ca-file", &tls.ca.display().to_string());
                flag("--cert-file", &tls.cert.display().to_string());
                flag("--key-file", &tls.key.display().to_string());
                args.push("--client-cert-auth".to_owned());
            }
            args.extend(more.iter().map(|&arg| arg.to_owned()));
            let log = dir.path().join(format!("m{n}.log"));
            Member { args, client, health, log, child: None }
        });
        Self { members: members.collect(), tls, dir }
    }

    fn start_all(&mut self) -> Result<(), String> {
        self.members.iter_mut().try_for_each(Member::start)?;
        self.wait_well()
    }

    /// What programs take as `--registry`, without how to be let in.
    pub fn address(&self) -> String {
        let hosts: Vec<_> = self.ports().iter().map(|p| format!("127.0.0.1:{p}")).collect();
        format!("etcd://{}", hosts.join(","))
    }

    /// Where each member listens for clients.
    pub fn ports(&self) -> Vec<u16> {
        self.members.iter().map(|member| member.client).collect()
    }

    /// A directory that ends with the cluster.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// kill -9 of a member.
    pub fn kill(&mut self, member: usize) {
        self.members[member].kill();
    }

    /// Starts a member again on what it had, and waits until the cluster is well.
    pub fn start_again(&mut self, member: usize) {
        self.members[member].start().unwrap_or_else(|why| panic!("{why}"));
        self.wait_well().unwrap_or_else(|why| panic!("{why}"));
    }

    /// A member hangs, with its sockets open.
    pub fn freeze(&self, member: usize) {
        self.members[member].signal(Signal::STOP);
    }

    /// It goes on.
    pub fn thaw(&self, member: usize) {
        self.members[member].signal(Signal::CONT);
    }

    /// Waits until each member that runs has a leader.
    pub fn wait_well(&mut self) -> Result<(), String> {
        self.members.iter_mut().filter(|m| m.child.is_some()).try_for_each(Member::wait_well)
    }

    /// Runs etcdctl against the first member and returns what it said.
    pub fn ctl(&self, args: &[&str]) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let endpoint = format!("{scheme}://127.0.0.1:{}", self.members[0].client);
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &endpoint]);
        if let Some(tls) = &self.tls {
            let path = |path: &Path| path.display().to_string();
            command.args(["--cacert", &path(&tls.ca), "--cert", &path(&tls.cert)]);
            command.args(["--key", &path(&tls.key)]);
        }
        said(command.args(args), "etcdctl (Debian: etcd-client)")
    }

    /// Forgets the history up to now.
    pub fn compact(&self) {
        let status = self.ctl(&["get", "no-such-key", "-w", "json"]);
        let (_, rest) = status.split_once("\"revision\":").expect("etcdctl shows the revision");
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        self.ctl(&["compaction", &rest[..end], "--physical"]);
    }

    /// A backup in a file, for [`Etcd::restore`].
    pub fn backup(&self, name: &str) -> PathBuf {
        let file = self.dir.path().join(name);
        self.ctl(&["snapshot", "save", &file.display().to_string()]);
        file
    }

    /// Ends a cluster of one member and puts a backup in its place, at the same address.
    pub fn restore(&mut self, backup: &Path) {
        assert_eq!(self.members.len(), 1, "a cluster of one member is restored here");
        self.kill(0);
        let member = &mut self.members[0];
        let at = |flag: &str| {
            let found = member.args.iter().position(|arg| arg == flag).expect("it was planned");
            member.args[found + 1].clone()
        };
        let data = at("--data-dir");
        fs::remove_dir_all(&data).expect("its data can be removed");
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["snapshot", "restore"]).arg(backup);
        command.args(["--name", "m0", "--data-dir", &data]);
        command.args(["--initial-cluster", &at("--initial-cluster")]);
        command.args(["--initial-advertise-peer-urls", &at("--initial-advertise-peer-urls")]);
        said(&mut command, "etcdctl (Debian: etcd-client)");
        self.start_again(0);
    }
}

impl Drop for Etcd {
    #[allow(clippy::print_stderr)]
    fn drop(&mut self) {
        for member in &mut self.members {
            member.kill();
            if std::thread::panicking() {
                let log = fs::read_to_string(&member.log).unwrap_or_default();
                let lines: Vec<_> = log.lines().collect();
                let last = &lines[lines.len().saturating_sub(8)..];
                eprintln!("--- {}\n{}", member.log.display(), last.join("\n"));
            }
        }
    }
}

impl Member {
    fn start(&mut self) -> Result<(), String> {
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.map_err(|why| why.to_string())?;
        // Ends with the thread that started it, however that ends.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "etcd"]).args(&self.args);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn();
        self.child = Some(child.map_err(|why| format!("cannot run setpriv: {why}"))?);
        Ok(())
    }

    fn wait_well(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + WELL_MAX;
        loop {
            match self.health() {
                Ok(text) if text.contains("\"true\"") => return Ok(()),
                other if Instant::now() > deadline => {
                    return Err(format!("etcd is not well in time: {other:?}"));
                }
                _ => {}
            }
            if let Some(Ok(Some(status))) = self.child.as_mut().map(Child::try_wait) {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                return Err(format!(
                    "etcd ended ({status}; is Debian's etcd-server installed?): {}",
                    log.lines().last().unwrap_or_default()
                ));
            }
            pause();
        }
    }

    fn health(&self) -> std::io::Result<String> {
        let mut socket = TcpStream::connect(("127.0.0.1", self.health))?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        socket.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        socket.read_to_string(&mut text)?;
        Ok(text)
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("the member runs");
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("a child can be signalled");
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn said(command: &mut Command, what: &str) -> String {
    let out = command.output().unwrap_or_else(|why| panic!("cannot run {what}: {why}"));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let error = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{what}: {text}{error}");
    text
}

#[allow(clippy::disallowed_methods)] // tests wait in threads of their own
fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}
