//! The snapshotter as its users run it, against sidecars that follow a script.

#![allow(clippy::unwrap_used)] // a helper of a test may stop at the first surprise

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keyspace::Hlc;
use serde_json::Value;
use stream::export::{self, Arrived, Export, ExportFile, ExportManifest};
use stream::{Message, Purpose};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use topology::members::SidecarMember;
use topology::record::{Cluster, Phase, Record, Shard, UnixMs};
use topology::service::Service;
use topology::{Epoch, ShardName};

/// The files of a node: what its next checkpoint has.
type Files = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// How a sidecar behaves.
#[derive(Clone, Copy, PartialEq)]
enum Script {
    Honest,
    /// Closes the connection in the middle of the first file.
    Dies,
    /// Says a hash that the bytes do not have.
    Lies,
    Refuses,
}

struct Stage {
    runtime: Runtime,
    dir: tempfile::TempDir,
    service: Service,
    files: Vec<Files>,
}

impl Stage {
    /// A service with one cluster of these shards, each with a scripted sidecar.
    fn new(scripts: &[Script]) -> Self {
        let runtime = Runtime::new().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let registry = format!("file:{}", dir.path().join("registry").display());
        let slots = ["0-8191", "8192-16383"];
        let record = Record {
            format: Record::FORMAT,
            service: "demo".to_owned(),
            epoch: Epoch(1),
            primaries: vec!["a/0".parse().unwrap(), "a/1".parse().unwrap()],
            phase: Phase::Steady,
            lease_ms: 3_000,
            clusters: BTreeMap::from([(
                "a".to_owned(),
                Cluster {
                    shards: slots.iter().map(|s| Shard { slots: s.parse().unwrap() }).collect(),
                },
            )]),
            forks: Vec::new(),
        };
        let service = runtime.block_on(async {
            let service = Service::open(topology::open(&registry).unwrap(), "demo").await.unwrap();
            service.create_record(&record).await.unwrap();
            service
        });
        let mut stage = Self { runtime, dir, service, files: Vec::new() };
        for (n, script) in scripts.iter().enumerate() {
            stage.sidecar(n, slots[n], *script);
        }
        stage
    }

    /// Starts a sidecar for a shard and registers it.
    fn sidecar(&mut self, n: usize, slots: &'static str, script: Script) {
        let shard = ShardName { cluster: "a".to_owned(), shard: n as u32 };
        let files = Files::default();
        files.lock().unwrap().extend([
            ("CURRENT".to_owned(), b"MANIFEST-000005\n".to_vec()),
            ("000012.sst".to_owned(), format!("shard {n} ").repeat(400_000).into_bytes()),
            ("000013.log".to_owned(), Vec::new()),
        ]);
        self.files.push(files.clone());
        self.runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let member = SidecarMember {
                shard: shard.clone(),
                stream: listener.local_addr().unwrap().to_string(),
                metrics: None,
                pid: std::process::id(),
                version: "0.1.0".to_owned(),
                tail: None,
                drained: None,
                streams: BTreeMap::new(),
                receiving: BTreeMap::new(),
                leased_until: BTreeMap::new(),
                at: UnixMs::now(),
            };
            self.service.put_sidecar(&member, Duration::from_secs(600)).await.unwrap();
            tokio::spawn(async move {
                while let Ok((socket, _)) = listener.accept().await {
                    tokio::spawn(serve(socket, shard.clone(), slots, files.clone(), script));
                }
            });
        });
    }

    fn store(&self) -> String {
        format!("file://{}", self.dir.path().join("store").display())
    }

    fn push(&self) -> Output {
        let registry = format!("file:{}", self.dir.path().join("registry").display());
        let store = self.store();
        let mut args = vec!["push", "--registry", &registry, "--service", "demo"];
        args.extend(["--cluster", "a", "--to", &store, "--wait", "500ms", "--output", "json"]);
        run(&args)
    }

    fn pushed(&self) -> Value {
        let output = self.push();
        assert!(output.status.success(), "{}", said(&output));
        last_line(&output)
    }

    fn store_files(&self, part: &str) -> Vec<std::path::PathBuf> {
        let mut found = Vec::new();
        let mut dirs = vec![self.dir.path().join("store").join(part)];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() { dirs.push(path) } else { found.push(path) }
            }
        }
        found
    }
}

async fn serve(
    socket: TcpStream,
    shard: ShardName,
    slots: &str,
    files: Files,
    script: Script,
) -> Option<()> {
    let mut conn = stream::split(socket);
    let Message::Hello(hello) = conn.reader.message().await.ok()? else { return None };
    assert_eq!((hello.purpose, hello.to.as_str()), (Purpose::Export, shard.to_string().as_str()));
    let opened = export::next(&mut conn.reader).await.ok()?;
    assert!(matches!(opened, Arrived::Message(Export::Open { .. })));
    if script == Script::Refuses {
        let sentence = "a snapshot is being taken already".to_owned();
        export::send(&mut conn.writer, &Export::Refusal { sentence }).await.ok()?;
        return None;
    }
    let files: Vec<_> = files.lock().unwrap().clone().into_iter().collect();
    let described = files.iter().map(|(name, bytes)| {
        let mut hash = *blake3::hash(bytes).as_bytes();
        hash[0] ^= u8::from(script == Script::Lies);
        ExportFile { name: name.clone(), size: bytes.len() as u64, hash }
    });
    let manifest = ExportManifest {
        service: "demo".to_owned(),
        shard: shard.to_string(),
        slots: slots.parse().unwrap(),
        database: "0000000000000000000000000000beef".to_owned(),
        position: "0000000000000000000000000000beef@42".parse().unwrap(),
        history: wal::History::default(),
        stamp: Hlc::new(1_795_000_000_000, 0),
        files: described.collect(),
    };
    export::send(&mut conn.writer, &Export::Hashing { done: 0, total: 1 }).await.ok()?;
    export::send(&mut conn.writer, &Export::Manifest(Box::new(manifest))).await.ok()?;
    let Arrived::Message(Export::Want(wanted)) = export::next(&mut conn.reader).await.ok()? else {
        return None;
    };
    for file in wanted {
        for piece in files[file as usize].1.chunks(export::CHUNK_BYTES_MAX) {
            let piece = zstd::bulk::compress(piece, 1).unwrap();
            export::send_chunk(&mut conn.writer, file, &piece).await.ok()?;
            if script == Script::Dies {
                return None;
            }
        }
        export::send(&mut conn.writer, &Export::FileDone { file }).await.ok()?;
    }
    export::send(&mut conn.writer, &Export::Done).await.ok()
}

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_godwit-snapshotter")).args(args).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn last_line(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.lines().last().expect("a last line")).unwrap()
}

fn restore(stage: &Stage, id: &str, to: &Path) -> Output {
    let (store, to) = (stage.store(), to.display().to_string());
    run(&["restore", "--from", &store, "--snapshot", id, "--shard", "a/1", "--to", &to])
}

#[test]
fn a_pushed_snapshot_is_listed_verified_and_restored_and_the_next_one_is_smaller() {
    let stage = Stage::new(&[Script::Honest, Script::Honest]);
    let first = stage.pushed();
    assert!(first["bytes_sent"].as_u64().unwrap() > 0, "{first}");
    assert!(first["bytes_total"].as_u64().unwrap() > 6_000_000, "{first}");
    assert!(first["seconds"].as_f64().is_some(), "{first}");
    assert_eq!(first["shards"][1]["shard"], "a/1");
    assert_eq!(first["shards"][1]["position"], "0000000000000000000000000000beef@42");

    // A file more on one shard, nothing new on the other.
    stage.files[1].lock().unwrap().insert("000014.sst".to_owned(), b"new".repeat(1000));
    let second = stage.pushed();
    assert_eq!(second["shards"][0]["way"], "objects-reused");
    assert_eq!(second["shards"][0]["bytes_sent"], 0);
    assert_eq!(second["shards"][1]["files"], 4);
    assert_eq!(second["shards"][1]["reused"], 3);
    assert!(second["bytes_sent"].as_u64() < first["bytes_sent"].as_u64(), "{second}");

    let store = stage.store();
    let list = |state: &str| {
        let listed = last_line(&run(&["list", "--from", &store, "--output", "json"]));
        assert_eq!(listed["snapshots"].as_array().unwrap().len(), 2, "{listed}");
        assert_eq!(listed["snapshots"][1]["state"], state, "{listed}");
    };
    list("sealed");
    let verified = run(&["verify", "--from", &store, "--output", "json"]);
    assert!(verified.status.success(), "{}", said(&verified));
    assert_eq!(last_line(&verified)["snapshot"], second["snapshot"]);
    list("verified");

    let to = stage.dir.path().join("restored/node");
    let id = second["snapshot"].as_str().unwrap();
    let restored = restore(&stage, id, &to);
    assert!(restored.status.success(), "{}", said(&restored));
    for (name, bytes) in stage.files[1].lock().unwrap().iter() {
        assert!(fs::read(to.join("db").join(name)).unwrap() == *bytes, "{name} differs");
    }
    let adopt = admin::Adopt::parse(&fs::read(to.join("db/ADOPT")).unwrap()).unwrap();
    assert!(adopt.follow.is_none() && adopt.stamp >= Hlc::new(1_795_000_000_000, 0));

    let again = restore(&stage, id, &to);
    assert_eq!(again.status.code(), Some(3), "{}", said(&again));
    assert!(said(&again).contains("not empty"));
}

#[test]
fn damage_is_found_by_verify_refused_by_restore_and_repaired_by_the_next_push() {
    let stage = Stage::new(&[Script::Honest, Script::Honest]);
    let id = stage.pushed()["snapshot"].as_str().unwrap().to_owned();
    let sst = blake3::hash(&stage.files[1].lock().unwrap()["000012.sst"]).to_string();
    let objects = stage.store_files("objects");
    let object = objects.iter().find(|p| p.ends_with(format!("{sst}.zst"))).unwrap();
    let mut bytes = fs::read(object).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(object, bytes).unwrap();

    let store = stage.store();
    let verified = run(&["verify", "--from", &store, "--snapshot", &id]);
    assert_eq!(verified.status.code(), Some(1), "{}", said(&verified));
    assert!(said(&verified).contains(&sst), "{}", said(&verified));
    let to = stage.dir.path().join("restored");
    let restored = restore(&stage, &id, &to);
    assert_eq!(restored.status.code(), Some(1), "{}", said(&restored));
    assert!(said(&restored).contains(&sst), "{}", said(&restored));
    assert_eq!(fs::read_dir(&to).unwrap().count(), 0, "nothing is left of it");

    let pushed = stage.pushed();
    assert_eq!(pushed["shards"][0]["bytes_sent"], 0);
    assert_eq!(pushed["shards"][1]["reused"], 2);
    let verified = run(&["verify", "--from", &store, "--snapshot", &id]);
    assert!(verified.status.success(), "the object is whole again: {}", said(&verified));
}

#[test]
fn a_push_that_ends_early_has_sealed_nothing() {
    for (script, word) in [
        (Script::Dies, "closed the connection"),
        (Script::Lies, "another hash"),
        (Script::Refuses, "is being taken already"),
    ] {
        let stage = Stage::new(&[Script::Honest, script]);
        let output = stage.push();
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        let text = said(&output);
        assert!(text.contains("a/1") && text.contains(word), "{text}");
        assert!(text.contains("nothing was sealed"), "{text}");
        assert!(stage.store_files("snapshots").is_empty());
        assert!(stage.store_files("tmp").is_empty(), "{:?}", stage.store_files("tmp"));
    }
}

#[test]
fn what_is_wrong_with_a_command_line_is_said_in_words() {
    let stage = Stage::new(&[Script::Honest]);
    let missing = stage.push();
    assert_eq!(missing.status.code(), Some(1));
    assert!(said(&missing).contains("a/1 has no sidecar"), "{}", said(&missing));

    let check = |args: &[&str], code: i32, word: &str| {
        let output = run(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", said(&output));
        assert!(said(&output).contains(word), "{args:?}: {}", said(&output));
    };
    check(&["push"], 2, "`to` is not set");
    check(&["list", "--from", "s3://bucket"], 2, "not built yet");
    check(&["list", "--from", "file:///no/such/place"], 1, "no such directory");
    check(&["verify", "--from", &stage.store()], 1, "no sealed snapshot");
    let id =
        ["restore", "--from", "file:///s", "--snapshot", "../x", "--shard", "a/0", "--to", "d"];
    check(&id, 2, "no snapshot id");
    let mut push = vec!["push", "--registry", "file:/r", "--service", "demo", "--cluster", "a"];
    push.extend(["--to", "file:///s", "--check-config"]);
    check(&push, 0, "config is good");
    for args in [&["--help"][..], &["push", "--help"], &["--version"]] {
        check(args, 0, "");
    }
    let help = said(&run(&["--help"]));
    assert!(help.contains("Examples:") && help.contains("Exit codes:"), "{help}");
}
