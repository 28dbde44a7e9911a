//! What is wrong is answered with one sentence that says what and what to do, with the exit code
//! that the README promises; it loses nothing, and nothing panics.

#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tests::client::Client;
use tests::clouds::binaries;
use tests::clouds::ports::Ports;
use tests::clouds::start::http_get;
use tests::wait;

/// How long anything may take before it counts as stuck.
const STUCK: Duration = Duration::from_secs(20);
/// How long a program may take to end after SIGTERM.
const TERM_MAX: Duration = Duration::from_secs(3);
/// The programs, with a verb that reads their settings.
const PROGRAMS: [(&str, &[&str]); 5] = [
    ("node", &[]),
    ("proxy", &[]),
    ("replicator", &[]),
    ("snapshotter", &["push"]),
    ("switchover", &[]),
];

/// A program that runs; killed when dropped.
struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    fn start(scratch: &Path, program: &str, args: &[&str]) -> Self {
        let log = scratch.join(format!("{program}-{}.log", rand::random::<u32>()));
        let out = File::create(&log).unwrap();
        let child = Command::new(binaries::path(&format!("godwit-{program}")).unwrap())
            .args(args)
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        Self { child, log }
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned()
    }

    /// Its exit code and how long it took to end.
    fn ends(&mut self, within: Duration) -> (Option<i32>, Duration) {
        let start = Instant::now();
        let ended = wait::until("a program to end", within, || {
            self.child.try_wait()?.context("it still runs")
        });
        let status = ended.unwrap_or_else(|e| panic!("{e:#}: {}", self.said()));
        (status.code(), start.elapsed())
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// SIGTERM: it must end well, in time, and never have panicked.
    fn term(mut self) {
        self.signal(Signal::TERM);
        let (code, took) = self.ends(TERM_MAX);
        assert_eq!(code, Some(0), "after {took:?}: {}", self.said());
        self.calm();
    }

    fn calm(&self) {
        assert!(!self.said().contains("panicked"), "{}", self.said());
    }

    fn answers(&self, address: &str) -> Client {
        wait::until("an answer", STUCK, || {
            let mut client = Client::connect(address)?;
            client.call(&["PING"])?;
            Ok(client)
        })
        .unwrap_or_else(|e| panic!("{e:#}: {}", self.said()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a program that must end with this code and say all of these words, in one sentence.
fn refused(program: &str, args: &[&str], code: i32, words: &[&str]) {
    let scratch = tempfile::tempdir().unwrap();
    let mut running = Running::start(scratch.path(), program, args);
    let (found, _) = running.ends(STUCK);
    let said = running.said();
    let line = format!("godwit-{program} {}: {said}", args.join(" "));
    assert_eq!(found, Some(code), "{line}");
    let sentence = said.lines().last().unwrap_or_default();
    assert!(sentence.starts_with(&format!("godwit-{program}: ")), "{line}");
    for word in words {
        assert!(sentence.contains(word), "`{word}` is missing: {line}");
    }
    running.calm();
}

fn with<'a>(first: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [first, more].concat()
}

fn sample(program: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    root.join(program).join(format!("godwit-{program}.toml"))
}

/// The key of a line of a sample, set or commented out.
fn key(line: &str) -> Option<&str> {
    let line = line.trim_start_matches('#').trim_start();
    let (key, _) = line.split_once(" = ")?;
    let is_of_key = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    key.chars().all(is_of_key).then_some(key)
}

/// The section that begins with a line of a sample.
fn section(line: &str) -> Option<&str> {
    line.strip_prefix('[')?.strip_suffix(']')
}

/// A sample's keys as flags are named: `bandwidth` of `[archive]` is `archive-bandwidth`.
fn keys(text: &str) -> Vec<String> {
    let mut prefix = String::new();
    let mut found = Vec::new();
    for line in text.lines() {
        if let Some(section) = section(line) {
            prefix = format!("{section}-");
        } else if let Some(key) = key(line) {
            found.push(format!("{prefix}{key}"));
        }
    }
    found
}

#[test]
fn settings() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("settings.toml");
    let name = file.to_str().unwrap();
    for (program, verb) in PROGRAMS {
        let check = |text: &str, words: &[&str]| {
            fs::write(&file, text).unwrap();
            let args = with(verb, &["--config", name, "--check-config"]);
            refused(program, &args, 2, &with(&[name], words));
        };
        check("servcie = 'x'", &["`servcie`"]);
        check("regisrty = 'x'", &["unknown key `regisrty`", "did you mean `registry`?"]);
        check("registry = 5", &["registry", "expected a string"]);
        check("\nregistry = ", &["not valid TOML: line 2"]);
        let args = with(verb, &["--config", "/nowhere/at.toml", "--check-config"]);
        refused(program, &args, 2, &["/nowhere/at.toml", "No such file"]);
    }
    for (program, args, words) in [
        ("node", &["--dir", "x", "--listen", "nowhere"][..], "`listen` is `nowhere`"),
        ("node", &["--dir", "x"], "`listen` is not set"),
        ("node", &["--dir", "x", "--listen", "127.0.0.1:0", "--memory", "1MiB"], "at least"),
        ("node", &["--dir", "x", "--listen", "127.0.0.1:0", "--shard", "0"], "needs all of"),
        ("proxy", &["--listen", "127.0.0.1:0"], "backend"),
        ("switchover", &["--registry", "bogus", "--service", "s", "status"], "is no registry"),
        (
            "switchover",
            &["--registry", "etcd:x", "--service", "s", "status"],
            "write etcd://HOST:PORT",
        ),
    ] {
        refused(program, args, 2, &[words]);
    }
}

#[test]
fn samples_have_every_setting_and_no_other() {
    let scratch = tempfile::tempdir().unwrap();
    for (program, verb) in PROGRAMS {
        let binary = binaries::path(&format!("godwit-{program}")).unwrap();
        let run = |args: &[&str]| {
            let output = Command::new(&binary).args(args).output().unwrap();
            let said =
                String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            (output.status.code(), said.into_owned())
        };
        let (_, said) = run(&["--version"]);
        assert!(said.starts_with(&format!("godwit-{program} 0.")), "{said}");
        let (_, said) = run(&["--completions", "bash"]);
        assert!(said.contains("complete -F"), "{program}: {said}");
        let (_, said) = run(&["--help"]);
        assert!(said.contains("Examples:"), "{program}: {said}");

        let text = fs::read_to_string(sample(program)).unwrap();
        let keys = keys(&text);
        let (_, help) = run(&with(verb, &["--help"]));
        for line in help.split("Examples:").next().unwrap().lines() {
            let Some((_, flag)) = line.split_once("--").filter(|(before, _)| {
                before.trim().is_empty() || before.trim().trim_end_matches(',').len() == 2
            }) else {
                continue;
            };
            let flag = flag.split([' ', '=']).next().unwrap();
            let about = ["config", "check-config", "completions", "help", "version"];
            // What is said of one run of switchover is a flag only.
            let only = program == "switchover" && ["output", "dry-run", "reason"].contains(&flag);
            if !only && !about.contains(&flag) {
                assert!(keys.iter().any(|key| key == flag), "{program}'s sample lacks {flag}");
            }
        }
        // With every key set, those that exclude each other too, none is unknown.
        let all = text.lines().filter(|line| key(line).is_some() || section(line).is_some());
        let all: Vec<_> = all.map(|line| line.trim_start_matches('#').trim_start()).collect();
        let file = scratch.path().join("all.toml");
        fs::write(&file, all.join("\n")).unwrap();
        let (_, said) = run(&with(verb, &["--config", file.to_str().unwrap(), "--check-config"]));
        assert!(!said.contains("unknown key") && !said.contains("TOML"), "{program}: {said}");
        let file = sample(program);
        let (code, said) =
            run(&with(verb, &["--config", file.to_str().unwrap(), "--check-config"]));
        assert_eq!((code, said.trim()), (Some(0), "config is good"), "{program}");
    }
}

#[test]
fn ports_in_use_and_places_that_cannot_be_reached() {
    let scratch = tempfile::tempdir().unwrap();
    let in_scratch = |name: &str| scratch.path().join(name).display().to_string();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let (dir, registry) = (in_scratch("node"), format!("file:{}", in_scratch("registry")));
    let store = format!("file://{}", in_scratch("store"));
    let service = ["--registry", &registry, "--service", "demo", "--cluster", "a"];
    let nowhere = ["--registry", "file:/proc/nowhere", "--service", "demo", "--cluster", "a"];
    let any = ["--listen", "127.0.0.1:0"];
    let (node, sidecar) = (["--dir", &dir], ["--node-dir", &dir]);

    let in_use = [&taken[..], "is the port in use"];
    let at = ["--listen", &taken];
    refused("node", &with(&node, &at), 1, &in_use);
    refused("node", &[&node[..], &any, &["--metrics", &taken]].concat(), 1, &in_use);
    refused("proxy", &with(&at, &["--backend", "127.0.0.1:1"]), 1, &in_use);
    let shard = ["--shard", "0"];
    refused("replicator", &[&sidecar[..], &at, &service, &shard].concat(), 1, &in_use);

    let lost = ["/proc/nowhere", "No such file"];
    refused("node", &[&node[..], &any, &nowhere, &shard].concat(), 1, &lost);
    refused("proxy", &[&any[..], &nowhere].concat(), 1, &lost);
    refused("replicator", &[&sidecar[..], &any, &nowhere, &shard].concat(), 1, &lost);
    refused("snapshotter", &[&["push"], &nowhere[..], &["--to", &store]].concat(), 1, &lost);
    refused("switchover", &with(&["status"], &nowhere[..4]), 2, &lost);
    refused("node", &with(&any, &["--dir", "/proc/nowhere"]), 1, &lost);

    let push = with(&["push"], &service);
    let no_store = ["/proc/nowhere", "nothing was sealed"];
    refused("snapshotter", &with(&push, &["--to", "file:///proc/nowhere/s"]), 1, &no_store);
    refused("snapshotter", &with(&push, &["--to", "ftp://x"]), 2, &["`s3://bucket/prefix`"]);
    refused(
        "snapshotter",
        &["verify", "--from", "file:///nowhere"],
        1,
        &["no object GODWIT-STORE"],
    );
    let gone = format!("unix:{}", in_scratch("admin.sock"));
    refused("node", &["compact", "--admin", &gone], 1, &[&gone, "is the node running?"]);
    refused("switchover", &with(&["status"], &service[..4]), 1, &["no record", "`init`"]);
}

/// A directory that a node was killed in, with 200 writes that were answered.
fn killed_node(scratch: &Path, name: &str) -> PathBuf {
    let dir = scratch.join(name);
    let mut ports = Ports::reserve().unwrap();
    let at = ports.next_address().unwrap();
    let args = ["--dir", dir.to_str().unwrap(), "--listen", &at, "--durability", "always"];
    let mut node = Running::start(scratch, "node", &args);
    let mut client = node.answers(&at);
    for n in 0..200 {
        client.call(&["SET", &format!("key:{n}"), &"x".repeat(300)]).unwrap();
    }
    // The LOCK is seen to be held, and by whom.
    let second = ["--dir", dir.to_str().unwrap(), "--listen", "127.0.0.1:0"];
    refused("node", &second, 1, &["is in use", &node.child.id().to_string(), "another directory"]);
    node.child.kill().unwrap();
    node.ends(STUCK);
    dir
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").args(["-r", "--"]).args([from, to]).status().unwrap();
    assert!(status.success());
}

fn log_of(dir: &Path) -> PathBuf {
    let entries = fs::read_dir(dir.join("db")).unwrap().map(|entry| entry.unwrap().path());
    let mut logs: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|e| e == "log")).collect();
    logs.sort();
    logs.pop().unwrap()
}

#[test]
fn damaged_logs_lose_nothing_in_silence() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = killed_node(scratch.path(), "whole");
    let len = fs::metadata(log_of(&dir)).unwrap().len() as usize;
    let count = |dir: &Path| {
        let mut ports = Ports::reserve().unwrap();
        let at = ports.next_address().unwrap();
        let args = ["--dir", dir.to_str().unwrap(), "--listen", &at];
        let node = Running::start(scratch.path(), "node", &args);
        let count = node.answers(&at).call(&["DBSIZE"]).unwrap().as_integer().unwrap();
        let said = node.said();
        node.term();
        (count, said)
    };
    // One bit anywhere: what was answered is either there or spoken of, and the file is as it was.
    for place in [len / 7, len / 3, len / 2, len - 2000] {
        let damaged = scratch.path().join(format!("flipped-{place}"));
        copy(&dir, &damaged);
        let log = log_of(&damaged);
        let mut bytes = fs::read(&log).unwrap();
        bytes[place] ^= 0x10;
        fs::write(&log, &bytes).unwrap();
        let args = ["--dir", damaged.to_str().unwrap(), "--listen", "127.0.0.1:0"];
        let words = [log.to_str().unwrap(), "is damaged", "nothing was changed", "truncate -s "];
        refused("node", &args, 1, &words);
        assert_eq!(fs::read(&log).unwrap(), bytes);
    }
    // Doing what the sentence says opens it with what came before.
    let damaged = scratch.path().join(format!("flipped-{}", len / 2));
    let log = log_of(&damaged);
    File::options().write(true).open(&log).unwrap().set_len((len / 2) as u64).unwrap();
    let (found, said) = count(&damaged);
    assert!((50..150).contains(&found), "{found}: {said}");
    // A torn end is what a power cut leaves of the last write.
    let torn = scratch.path().join("torn");
    copy(&dir, &torn);
    File::options().write(true).open(log_of(&torn)).unwrap().set_len(len as u64 - 10).unwrap();
    assert_eq!(count(&torn).0, 199);
    assert_eq!(count(&dir).0, 200);
}

#[test]
fn directories_of_somebody_else() {
    let scratch = tempfile::tempdir().unwrap();
    let registry = format!("file:{}", scratch.path().join("registry").display());
    let init = ["init", "--registry", &registry, "--service", "demo", "--active", "a"];
    let clusters = ["--cluster", "a=0-8191,8192-16383", "--cluster", "b=0-16383"];
    let tool = binaries::path("godwit-switchover").unwrap();
    assert!(Command::new(tool).args(with(&init, &clusters)).output().unwrap().status.success());
    let dir = scratch.path().join("node");
    let text = dir.display().to_string();
    let mut ports = Ports::reserve().unwrap();
    let at = ports.next_address().unwrap();
    let start = ["--dir", &text, "--listen", &at, "--registry", &registry];
    let member = |service, shard| {
        [&start[..], &["--service", service, "--cluster", "a", "--shard", shard]].concat()
    };
    let node = Running::start(scratch.path(), "node", &member("demo", "0"));
    node.answers(&at);
    node.term();

    let another = "database";
    refused("node", &member("other", "0"), 1, &[another, "service `demo`", "for `other`"]);
    refused("node", &member("demo", "1"), 1, &[another, "shard a/0", "as a/1"]);
    refused("node", &start[..4], 1, &["service `demo`", "--registry", "another directory"]);
    let identity = dir.join("db/GODWIT");
    let good = fs::read_to_string(&identity).unwrap();
    fs::write(&identity, good.replace("\"format\": 1", "\"format\": 9")).unwrap();
    refused("node", &member("demo", "0"), 1, &[dir.join("db").to_str().unwrap(), "format 9"]);
    fs::write(&identity, &good[..good.len() / 2]).unwrap();
    refused("node", &member("demo", "0"), 1, &[identity.to_str().unwrap()]);
    fs::remove_file(&identity).unwrap();
    refused("node", &member("demo", "0"), 1, &["without the file GODWIT", "another program's"]);
    fs::write(&identity, good).unwrap();
    let node = Running::start(scratch.path(), "node", &member("demo", "0"));
    node.answers(&at);
    node.term();
}

/// Things that are not what a listener expects.
fn garbage() -> Vec<Vec<u8>> {
    let noise = (0..200_000).map(|_| rand::random()).collect();
    vec![
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"*1\r\n$-5\r\n".to_vec(),
        b"*-7\r\n*0\r\n\r\n*1\r\n:1\r\n".to_vec(),
        b"*99999999999999999999\r\n".to_vec(),
        b"*2\r\n$3\r\nGET\r\n$999999999999\r\n".to_vec(),
        b"$9999999\r\n".to_vec(),
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100\r\nno".to_vec(),
        b"*4\r\n$12\r\nGODWIT.APPLY\r\n$3\r\nb/0\r\n$5\r\n\xff\xff\xff\xff\xff\r\n$0\r\n\r\n"
            .to_vec(),
        b"*2\r\n$11\r\nGODWIT.SEED\r\n$12\r\n../../../etc\r\n".to_vec(),
        vec![0xff; 70_000],
        vec![0; 70_000],
        noise,
    ]
}

fn throw(mut socket: impl Read + Write, bytes: &[u8]) {
    // Whoever listens may answer, close or wait for more.
    let _ = socket.write_all(bytes);
    let mut answer = [0; 4096];
    let _ = socket.read(&mut answer);
}

#[test]
fn garbage_on_every_port() {
    const PATIENCE: Duration = Duration::from_millis(200);
    let scratch = tempfile::tempdir().unwrap();
    let mut ports = Ports::reserve().unwrap();
    let mut port = || ports.next_address().unwrap();
    let (client, metrics, front, front_metrics) = (port(), port(), port(), port());
    let (stream, sidecar_metrics) = (port(), port());
    let dir = scratch.path().join("node").display().to_string();
    let registry = format!("file:{}", scratch.path().join("registry").display());
    let service = ["--registry", &registry, "--service", "demo", "--cluster", "a", "--shard", "0"];
    let node = ["--dir", &dir, "--listen", &client, "--metrics", &metrics];
    let node = Running::start(scratch.path(), "node", &node);
    let mut direct = node.answers(&client);
    let proxy = ["--listen", &front, "--backend", &client, "--metrics", &front_metrics];
    let proxy = Running::start(scratch.path(), "proxy", &proxy);
    let mut through = proxy.answers(&front);
    let sidecar = ["--node-dir", &dir, "--listen", &stream, "--metrics", &sidecar_metrics];
    let sidecar = Running::start(scratch.path(), "replicator", &with(&sidecar, &service));
    for at in [&metrics, &front_metrics, &sidecar_metrics] {
        let pages = wait::until("the pages", STUCK, || {
            let text = http_get(&format!("http://{at}/metrics"))?;
            ensure!(text.contains("godwit_"), "no metrics: {text}");
            http_get(&format!("http://{at}/healthz"))
        });
        pages.unwrap();
    }
    for at in [&metrics, &front_metrics] {
        wait::until("readiness", STUCK, || http_get(&format!("http://{at}/readyz"))).unwrap();
    }
    direct.call(&["SET", "kept", "1"]).unwrap();
    for bytes in garbage() {
        for at in [&client, &front, &stream, &metrics, &front_metrics, &sidecar_metrics] {
            let socket = TcpStream::connect(at).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.set_write_timeout(Some(PATIENCE)).unwrap();
            throw(socket, &bytes);
        }
        let socket = UnixStream::connect(Path::new(&dir).join("admin.sock")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        throw(socket, &bytes);
    }
    assert_eq!(direct.text(&["GET", "kept"]).unwrap(), "1");
    assert_eq!(through.text(&["GET", "kept"]).unwrap(), "1");
    assert_eq!(node.answers(&format!("unix:{dir}/admin.sock")).text(&["PING"]).unwrap(), "PONG");
    http_get(&format!("http://{sidecar_metrics}/healthz")).unwrap();
    sidecar.term();
    proxy.term();
    node.term();
}

#[test]
fn sigterm_under_load_ends_well_and_soon() {
    let scratch = tempfile::tempdir().unwrap();
    let mut ports = Ports::reserve().unwrap();
    let (client, front) = (ports.next_address().unwrap(), ports.next_address().unwrap());
    let dir = scratch.path().join("node").display().to_string();
    let node = Running::start(scratch.path(), "node", &["--dir", &dir, "--listen", &client]);
    node.answers(&client);
    let proxy = ["--listen", &front, "--backend", &client];
    let proxy = Running::start(scratch.path(), "proxy", &proxy);
    proxy.answers(&front);
    let load = |at: &str| {
        let (_, port) = at.rsplit_once(':').unwrap();
        let args = ["-p", port, "-q", "-l", "-t", "set,lpush,get", "-c", "30", "-P", "16"];
        let mut command = Command::new("redis-benchmark");
        let child = command.args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Running { child, log: scratch.path().join("load") }
    };
    let written = |at: &str| {
        wait::until("load", STUCK, || {
            let pushed = Client::connect(at)?.call(&["LLEN", "mylist"])?.as_integer();
            ensure!(pushed > Some(0), "nothing was pushed yet");
            Ok(())
        })
        .unwrap();
    };
    let _load = (load(&front), load(&client));
    written(&client);
    proxy.term();
    node.term();
}
