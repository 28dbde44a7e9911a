//! A push as its users run it, against sidecars that follow a script.

#![allow(clippy::unwrap_used)] // a helper of a test may stop at the first surprise

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keyspace::Hlc;
use serde_json::Value;
use store::bucket::{Bucket, BucketAddress, Put, S3Options, ServedOptions};
use store::repository::{Keys, Manifest, Repository, Snapshot, Snapshots};
use stream::export::{self, Arrived, Begun, End, Export, ExportFile, PIECE_BYTES, Ready};
use stream::{Message, Purpose};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use topology::members::SidecarMember;
use topology::operator::SNAPSHOT_SEALED;
use topology::record::{Cluster, Phase, Record, UnixMs};
use topology::service::{Service, ServiceView};
use topology::{Epoch, ShardName};

/// The files of a node: what its next checkpoint has.
type Files = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// How a sidecar behaves.
#[derive(Clone, Copy, PartialEq)]
enum Script {
    Honest,
    /// Knows the hashes of table files before it reads them.
    Remembers,
    /// Closes the connection after the first piece.
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
                Cluster::of(slots.iter().map(|s| s.parse().unwrap())),
            )]),
            forks: Vec::new(),
            reads: Default::default(),
            level: 0,
            rest: Default::default(),
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
            // Nothing that another shard has too: what is sent would depend on who is first.
            ("CURRENT".to_owned(), format!("MANIFEST-00000{n}\n").into_bytes()),
            // Three pieces, each another.
            (
                "000012.sst".to_owned(),
                (0..2_500_000_u32)
                    .flat_map(|i| (i * 7 + n as u32).to_le_bytes())
                    .chain(vec![n as u8; 8 << 20])
                    .collect(),
            ),
            ("000013.log".to_owned(), Vec::new()),
        ]);
        self.files.push(files.clone());
        let store = self.dir.path().join("store");
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
                last_seen: Default::default(),
                drill: None,
                needs: None,
                sees: BTreeMap::new(),
                at: UnixMs::now(),
            };
            self.service.put_sidecar(&member, Duration::from_secs(600)).await.unwrap();
            tokio::spawn(async move {
                while let Ok((socket, _)) = listener.accept().await {
                    tokio::spawn(serve(
                        socket,
                        shard.clone(),
                        slots,
                        files.clone(),
                        script,
                        store.clone(),
                    ));
                }
            });
        });
    }

    fn store(&self) -> String {
        format!("file://{}", self.dir.path().join("store").display())
    }

    fn push(&self) -> Output {
        self.push_with(&[])
    }

    fn push_with(&self, more: &[&str]) -> Output {
        self.push_to(&self.store(), more)
    }

    fn push_to(&self, store: &str, more: &[&str]) -> Output {
        let registry = format!("file:{}", self.dir.path().join("registry").display());
        let mut args = vec!["push", "--registry", &registry, "--service", "demo"];
        args.extend(["--cluster", "a", "--to", store, "--wait", "500ms", "--output", "json"]);
        args.extend(more);
        run(&args)
    }

    fn pushed(&self) -> Value {
        let output = self.push();
        assert!(output.status.success(), "{}", said(&output));
        last_line(&output)
    }

    fn store_files(&self, part: &str) -> Vec<PathBuf> {
        files_below(&self.dir.path().join("store").join(part))
    }
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let (mut found, mut dirs) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() { dirs.push(path) } else { found.push(path) }
        }
    }
    // What is still being written is no object yet.
    found.retain(|path| path.extension().is_none_or(|extension| extension != "writing"));
    found
}

async fn serve(
    socket: TcpStream,
    shard: ShardName,
    slots: &str,
    files: Files,
    script: Script,
    store: PathBuf,
) -> Option<()> {
    let mut conn = stream::split(socket);
    let Message::Hello(hello) = conn.reader.message().await.ok()? else { return None };
    assert_eq!((hello.purpose, hello.to.as_str()), (Purpose::Export, shard.to_string().as_str()));
    let Arrived::Message(Export::Open(open)) = export::next(&mut conn.reader).await.ok()? else {
        return None;
    };
    if script == Script::Refuses {
        let sentence = "a snapshot is being taken already".to_owned();
        export::send(&mut conn.writer, &Export::Refusal { sentence }).await.ok()?;
        return None;
    }
    let say = async |conn: &mut stream::Connection<TcpStream>, message: Export| {
        export::send(&mut conn.writer, &message).await.ok()
    };
    let ready = Ready { files: Vec::new(), files_permille: 1000, log: Err("none here".to_owned()) };
    say(&mut conn, Export::Ready(Box::new(ready))).await?;
    let begin = export::next(&mut conn.reader).await.ok()?;
    assert_eq!(begin, Arrived::Message(Export::Begin { log: false }));
    let files: Vec<_> = files.lock().unwrap().clone().into_iter().collect();
    let hash = |bytes: &[u8]| match open.naming {
        Some(key) => *blake3::keyed_hash(&key, bytes).as_bytes(),
        None => *blake3::hash(bytes).as_bytes(),
    };
    // Of some files hashes are remembered, of others they are not.
    let described = files.iter().map(|(name, bytes)| ExportFile {
        name: name.clone(),
        size: bytes.len() as u64,
        hashes: (script == Script::Remembers && name.ends_with(".sst"))
            .then(|| bytes.chunks(PIECE_BYTES).map(hash).collect()),
    });
    let position = "0000000000000000000000000000beef@42".parse().unwrap();
    let (history, stamp) = (wal::History::default(), Hlc::new(1_795_000_000_000, 0));
    let described: Vec<_> = described.collect();
    let begun = Begun {
        service: "demo".to_owned(),
        shard: shard.to_string(),
        slots: slots.parse().unwrap(),
        database: "0000000000000000000000000000beef".to_owned(),
        position,
        history: history.clone(),
        stamp,
        epoch: 1,
        cuttable: false,
        files: described.clone(),
    };
    say(&mut conn, Export::Begun(Box::new(begun))).await?;
    let cut = export::next(&mut conn.reader).await.ok()?;
    assert_eq!(cut, Arrived::Message(Export::Cut(None)));
    say(&mut conn, Export::End(Box::new(End { position, history, stamp }))).await?;
    let Arrived::Message(Export::Want(wanted)) = export::next(&mut conn.reader).await.ok()? else {
        return None;
    };
    let mut number = 0_u32;
    for ((_, bytes), file) in files.iter().zip(&described) {
        for piece in bytes.chunks(PIECE_BYTES) {
            let take = if file.hashes.is_some() {
                wanted.contains(&number)
            } else {
                let mut hash = hash(piece);
                hash[0] ^= u8::from(script == Script::Lies);
                say(&mut conn, Export::Offer { piece: number, hash }).await?;
                let answer = export::next(&mut conn.reader).await.ok()?;
                let Arrived::Message(Export::Take { take }) = answer else { return None };
                take
            };
            if take {
                if script == Script::Dies && number > 0 {
                    // Once the first one is stored.
                    while files_below(&store.join("objects")).is_empty() {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    return None;
                }
                let packed = zstd::bulk::compress(piece, 1).unwrap();
                let what = (number, piece.len() as u32);
                export::send_piece(&mut conn.writer, what, true, &packed).await.ok()?;
            }
            number += 1;
        }
    }
    say(&mut conn, Export::Done).await?;
    let sealed = export::next(&mut conn.reader).await.ok()?;
    assert_eq!(sealed, Arrived::Message(Export::Sealed));
    say(&mut conn, Export::Kept { why: Some("it is a script".to_owned()) }).await
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

impl Stage {
    /// What the repository says of its newest snapshot, whose pieces are all read back.
    fn newest(&self, keys: Keys) -> (Snapshot, Vec<Manifest>) {
        self.runtime.block_on(async {
            let repository = self.repository(keys).await;
            let snapshots = Snapshots::open(&repository).await.unwrap();
            let (snapshot, _) = snapshots.list().next_back().expect("a snapshot").clone();
            let mut manifests = Vec::new();
            for n in 0..snapshot.shards.len() {
                let manifest = snapshots.manifest(&snapshot, n).await.unwrap();
                let files = self.files[n].lock().unwrap().clone();
                for (name, bytes) in files {
                    let entry = manifest.files.iter().find(|entry| entry.name.as_str() == name);
                    let mut back = Vec::new();
                    for piece in &entry.expect("every file").pieces {
                        back.extend(repository.piece(piece).await.unwrap());
                    }
                    assert!(back == bytes, "{name} differs");
                }
                manifests.push(manifest);
            }
            (snapshot, manifests)
        })
    }

    async fn repository(&self, keys: Keys) -> Repository {
        let address: BucketAddress = self.store().parse().unwrap();
        let bucket = Bucket::open(&address, &S3Options::default()).unwrap();
        Repository::open(bucket, keys).await.unwrap()
    }
}

#[test]
fn a_push_is_sealed_with_all_its_pieces_and_the_next_one_sends_what_is_new() {
    let stage = Stage::new(&[Script::Remembers, Script::Honest]);
    let first = stage.pushed();
    assert!(first["bytes_sent"].as_u64().unwrap() > 0, "{first}");
    assert!(first["bytes_total"].as_u64().unwrap() > 30_000_000, "{first}");
    assert!(first["seconds"].as_f64().is_some() && first["cut"].is_null(), "{first}");
    assert_eq!(first["shards"][1]["shard"], "a/1");
    assert_eq!(first["shards"][1]["way"], "full");
    assert_eq!(first["shards"][1]["position"], "0000000000000000000000000000beef@42");
    assert_eq!(first["shards"][1]["log_not_kept"], "it is a script");
    let (snapshot, manifests) = stage.newest(Keys::none());
    assert_eq!(snapshot.id.to_string(), first["snapshot"].as_str().unwrap());
    assert_eq!(manifests[0].files[0].pieces.len(), 3);

    // A file more on one shard, nothing new on the other.
    stage.files[1].lock().unwrap().insert("000014.sst".to_owned(), b"new".repeat(1000));
    let second = stage.pushed();
    assert_eq!(second["shards"][0]["way"], "objects-reused");
    assert_eq!(second["shards"][0]["bytes_sent"], 0);
    assert_eq!(second["shards"][1]["files"], 4);
    assert_eq!(second["shards"][1]["reused"], 2);
    assert!(second["bytes_sent"].as_u64().unwrap() < 3000, "{second}");
    stage.newest(Keys::none());

    // Whoever asks the registry knows of the last one.
    let told = |view: &ServiceView| {
        let note = view.notes.get(SNAPSHOT_SEALED)?;
        note.says.starts_with(second["snapshot"].as_str().unwrap()).then_some(note.good)
    };
    let mut watch = stage.service.watch();
    let told = stage.runtime.block_on(async {
        let seen = watch.wait_for(|view| told(view).is_some());
        let view = tokio::time::timeout(Duration::from_secs(10), seen).await.unwrap().unwrap();
        told(&view)
    });
    assert_eq!(told, Some(true));
}

#[test]
fn an_encrypted_push_needs_the_keys_that_write_and_is_read_with_the_others() {
    let stage = Stage::new(&[Script::Honest, Script::Remembers]);
    let keys = Keys::generate().unwrap();
    let file = stage.dir.path().join("snapshots.key");
    fs::write(&file, keys.to_write().to_text()).unwrap();
    let file = file.display().to_string();
    let output = stage.push_with(&["--key-file", &file]);
    assert!(output.status.success(), "{}", said(&output));
    let (_, manifests) = stage.newest(keys.clone());
    // The same again, known by keyed hashes alone.
    let again = stage.push_with(&["--key-file", &file]);
    assert_eq!(last_line(&again)["bytes_sent"], 0, "{}", said(&again));
    let piece = manifests[0].files[0].pieces[0];
    stage.runtime.block_on(async {
        let blind = stage.repository(keys.to_write()).await;
        let why = blind.piece(&piece).await.unwrap_err().to_string();
        assert!(why.contains("no private key"), "{why}");
    });
    let without = stage.push();
    assert_eq!(without.status.code(), Some(1), "{}", said(&without));
    assert!(said(&without).contains("name the key file"), "{}", said(&without));
}

/// A daemon that ends with it.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Stage {
    /// `serve` on this stage's store; where it listens.
    fn serve(&self, more: &[&str]) -> (Daemon, String) {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (listen, store) = (free.to_string(), self.store());
        let mut daemon = Command::new(env!("CARGO_BIN_EXE_godwit-snapshotter"));
        daemon.args(["serve", "--listen", &listen, "--service", "demo", "--in", &store]);
        let daemon = Daemon(daemon.args(more).spawn().unwrap());
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(free).is_err() {
            assert!(std::time::Instant::now() < deadline, "the daemon does not listen");
            std::thread::yield_now();
        }
        (daemon, listen)
    }
}

#[test]
fn a_daemon_takes_pushes_in_and_nobody_takes_anything_away_over_the_wire() {
    let stage = Stage::new(&[Script::Honest, Script::Remembers]);
    let (_daemon, listen) = stage.serve(&[]);
    let to = format!("godwit://{listen}");
    let pushed = stage.push_to(&to, &[]);
    assert!(pushed.status.success(), "{}", said(&pushed));
    let (snapshot, _) = stage.newest(Keys::none());
    assert_eq!(snapshot.id.to_string(), last_line(&pushed)["snapshot"].as_str().unwrap());
    let again = stage.push_to(&to, &[]);
    assert_eq!(last_line(&again)["bytes_sent"], 0, "{}", said(&again));

    // Whoever has the pusher's key can add, and can take nothing away.
    stage.runtime.block_on(async {
        let peer = ops::tls::PeerName::new("snapshotter.demo.godwit").unwrap();
        let options = ServedOptions { service: "demo".to_owned(), peer, tls: None };
        let bucket = Bucket::served(&listen, options.clone());
        let header = bucket.get("GODWIT-STORE", 1 << 20).await.unwrap().unwrap();
        assert_eq!(bucket.put_new("GODWIT-STORE", b"x".to_vec()).await.unwrap(), Put::Exists);
        assert_eq!(bucket.get("GODWIT-STORE", 1 << 20).await.unwrap().unwrap(), header);
        assert_eq!(bucket.get("objects/00/none", 10).await.unwrap(), None);
        bucket.delete("GODWIT-STORE").await.unwrap_err();
        bucket.put("GODWIT-STORE", Vec::new()).await.unwrap_err();
        bucket.list("").await.unwrap_err();
        for name in ["gc/marks", "gc/lease/0000000000000001", "../x"] {
            bucket.put_new(name, b"x".to_vec()).await.unwrap_err();
        }
        let repository = Repository::open(bucket, Keys::none()).await.unwrap();
        let mut snapshots = Snapshots::open(&repository).await.unwrap();
        let why = snapshots.forget(&snapshot.id, 1).await.unwrap_err().to_string();
        assert!(why.contains("not a pusher's to write"), "{why}");
        let other = ServedOptions { service: "other".to_owned(), ..options };
        let why = Bucket::served(&listen, other).head("GODWIT-STORE").await.unwrap_err();
        assert!(why.to_string().contains("not of `other`"), "{why}");
    });
    assert_eq!(stage.newest(Keys::none()).0.id.to_string(), last_line(&again)["snapshot"]);
}

#[test]
fn a_daemon_whose_disk_is_full_says_so_and_nothing_is_sealed() {
    let stage = Stage::new(&[Script::Honest, Script::Honest]);
    let (_daemon, listen) = stage.serve(&["--free", "1024TiB"]);
    let pushed = stage.push_to(&format!("godwit://{listen}"), &[]);
    assert_eq!(pushed.status.code(), Some(1), "{}", said(&pushed));
    assert!(said(&pushed).contains("make room there"), "{}", said(&pushed));
    assert!(stage.store_files("snapshots").is_empty());
}

#[test]
fn what_was_stored_before_a_push_ended_early_is_not_sent_again() {
    let whole = Stage::new(&[Script::Honest, Script::Honest]).pushed();
    let mut stage = Stage::new(&[Script::Honest, Script::Dies]);
    assert_eq!(stage.push().status.code(), Some(1));
    assert!(!stage.store_files("objects").is_empty());
    // A sidecar that lives takes the place of the one that died.
    let files = stage.files.clone();
    stage.sidecar(1, "8192-16383", Script::Honest);
    stage.files = files;
    let pushed = stage.pushed();
    assert!(pushed["bytes_sent"].as_u64() < whole["bytes_sent"].as_u64(), "{pushed}\n{whole}");
    stage.newest(Keys::none());
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
    let mut push = vec!["push", "--registry", "file:/r", "--service", "demo", "--cluster", "a"];
    push.extend(["--to", "file:///s", "--check-config"]);
    check(&push, 0, "config is good");
    for args in [&["--help"][..], &["push", "--help"], &["--version"]] {
        check(args, 0, "");
    }
    let help = said(&run(&["--help"]));
    assert!(help.contains("Examples:") && help.contains("Exit codes:"), "{help}");
}
