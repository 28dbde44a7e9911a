//! Redis clients of other languages, as their registries have them, against a node and against a
//! proxy: redis-py, ioredis, node-redis, redis-cli and redis-benchmark.
//!
//! They are installed once, under `target/clients`. Where a registry cannot be reached (or there is
//! no Python, no Node.js) its story says so on stderr and passes.

#![allow(clippy::unwrap_used)]

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use tests::client::Client;
use tests::clouds::ports::Ports;
use tests::clouds::{Process, binaries};
use tests::wait;

/// How long a client may take for all that it does.
const STORY_S_MAX: &str = "60";

/// A node, and a proxy before it.
struct Served {
    node: Process,
    proxy: Process,
    addresses: [(String, String); 2],
    _scratch: tempfile::TempDir,
    _ports: Ports,
}

impl Served {
    fn start() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let mut ports = Ports::reserve().unwrap();
        let (at, front) = (ports.next_address().unwrap(), ports.next_address().unwrap());
        let dir = scratch.path().join("node").display().to_string();
        let serve = |name: &str, args: &[&str], address: &str| {
            let program = binaries::path(&format!("godwit-{name}")).unwrap();
            let args = args.iter().map(|&arg| arg.to_owned()).collect();
            let log = scratch.path().join(format!("{name}.log"));
            let mut process = Process::new(name.to_owned(), program, args, log);
            process.start().unwrap();
            wait::until(&format!("the {name} to answer"), Duration::from_secs(20), || {
                Client::connect(address)?.call(&["PING"])
            })
            .unwrap_or_else(|e| panic!("{e:#}\n{}", process.tail(20)));
            process
        };
        let node = serve("node", &["--dir", &dir, "--listen", &at], &at);
        let proxy = serve("proxy", &["--listen", &front, "--backend", &at], &front);
        let split = |address: &str| {
            let (host, port) = address.rsplit_once(':').unwrap();
            (host.to_owned(), port.to_owned())
        };
        let addresses = [split(&at), split(&front)];
        Self { node, proxy, addresses, _scratch: scratch, _ports: ports }
    }

    fn end(mut self) {
        self.proxy.term().unwrap();
        self.node.term().unwrap();
        for process in [&self.node, &self.proxy] {
            assert_eq!(process.panics(), Vec::<String>::new());
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs a client to its end, which must be a good one.
fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    output
}

fn limited(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("timeout");
    command.arg(STORY_S_MAX).arg(program);
    command
}

/// A directory that has what `manifest` asks for: `install` fills it where it is not there yet.
/// `None`, with the reason on stderr: the registry was not reached.
fn installed(name: &str, manifest: &str, install: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let manifest = root().join("clients").join(manifest);
    let wanted = fs::read(&manifest).unwrap();
    let cache = root().join("../target/clients");
    fs::create_dir_all(&cache).unwrap();
    let (dir, stamp) = (cache.join(name), cache.join(format!("{name}.installed")));
    if fs::read(&stamp).is_ok_and(|have| have == wanted) {
        return Some(dir);
    }
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    if install(&dir) {
        fs::write(stamp, wanted).unwrap();
        return Some(dir);
    }
    eprintln!("SKIPPED: the clients of {} could not be installed", manifest.display());
    None
}

fn succeeds(command: &mut Command) -> bool {
    match command.output() {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            eprintln!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
            false
        }
        Err(why) => {
            eprintln!("{command:?}: {why}");
            false
        }
    }
}

#[test]
fn python() {
    let installed = installed("python", "requirements.txt", |dir| {
        succeeds(Command::new("python3").args(["-m", "venv"]).arg(dir))
            && succeeds(
                Command::new(dir.join("bin/pip"))
                    .args(["install", "--quiet", "--disable-pip-version-check", "--requirement"])
                    .arg(root().join("clients/requirements.txt")),
            )
    });
    let Some(venv) = installed else { return };
    let served = Served::start();
    for (host, port) in &served.addresses {
        let mut story = limited(venv.join("bin/python"));
        run(story.arg(root().join("clients/redis_py.py")).args([host, port]));
    }
    served.end();
}

#[test]
fn javascript() {
    let installed = installed("javascript", "package.json", |dir| {
        fs::copy(root().join("clients/package.json"), dir.join("package.json")).unwrap();
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"]).arg(dir);
        succeeds(&mut npm)
    });
    let Some(packages) = installed else { return };
    let served = Served::start();
    for (host, port) in &served.addresses {
        let mut story = limited("node");
        story.env("NODE_PATH", packages.join("node_modules"));
        run(story.arg(root().join("clients/clients.js")).args([host, port]));
    }
    served.end();
}

#[test]
fn redis_tools() {
    let served = Served::start();
    for (host, port) in &served.addresses {
        let at = ["-h", host, "-p", port];
        let cli = |args: &[&str]| {
            let output = run(limited("redis-cli").args(at).args(args));
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        assert_eq!(cli(&["set", "hello", "world"]), "OK");
        for protocol in ["-2", "-3"] {
            assert_eq!(cli(&[protocol, "get", "hello"]), "world");
        }
        assert_eq!(cli(&["--scan", "--pattern", "hel*"]), "hello");
        assert_eq!(cli(&["-e", "--no-raw", "del", "hello"]), "(integer) 1");
        for pipeline in ["1", "16"] {
            let mut benchmark = limited("redis-benchmark");
            benchmark.args(at).args(["-P", pipeline, "-n", "2000", "-c", "20", "-r", "500"]);
            benchmark.args(["--csv", "-e", "-t", "set,get,incr,hset,zadd,mset,lpush"]);
            let said = String::from_utf8(run(&mut benchmark).stdout).unwrap();
            for test in ["SET", "GET", "INCR", "HSET", "ZADD", "MSET (10 keys)", "LPUSH"] {
                assert!(said.contains(&format!("\"{test}\",")), "{test} is not in {said}");
            }
            assert!(!said.contains("Error"), "{said}");
        }
    }
    served.end();
}
