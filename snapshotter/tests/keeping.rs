//! What is kept and what goes, and what is around a run that a timer starts.

#![allow(clippy::unwrap_used)] // a helper of a test may stop at the first surprise

mod stored;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use store::repository::{Keys, Snapshots};
use stored::{Records, Stored, key_in, noise, said};

/// So many snapshots, each with something that the others do not have.
fn several(count: u64) -> (Stored, Vec<String>) {
    let mut stored = Stored::new();
    let mut ids = Vec::new();
    for n in 0..count {
        let mut records = Records::default();
        records.string(&key_in(0, "k"), &noise(n, 20_000));
        stored.write(0, &records);
        let nothing = Records::default();
        ids.push(stored.seal([&nothing, &nothing]).id.to_string());
    }
    (stored, ids)
}

fn listed(stored: &Stored) -> Vec<String> {
    let listed = stored.ok("list", &[]);
    let all = listed["snapshots"].as_array().unwrap().iter();
    all.map(|snapshot| snapshot["snapshot"].as_str().unwrap().to_owned()).collect()
}

/// Files of the repository that are there for snapshots.
fn objects(stored: &Stored) -> Vec<PathBuf> {
    let all = stored.stored().into_iter();
    all.filter(|path| path.to_string_lossy().contains("/objects/")).collect()
}

/// Every piece and segment that is stored is one that a manifest names.
fn assert_nothing_is_left_over(stored: &Stored) {
    let repository = stored.repository();
    let needed = stored.runtime.block_on(async {
        let snapshots = Snapshots::open(&repository).await.unwrap();
        let mut needed = BTreeSet::new();
        for (snapshot, _) in snapshots.list() {
            for n in 0..snapshot.shards.len() {
                let manifest = snapshots.manifest(snapshot, n).await.unwrap();
                needed.extend(manifest.blobs().map(|blob| stored.store().join(blob.name())));
            }
        }
        needed
    });
    assert_eq!(objects(stored).into_iter().collect::<BTreeSet<_>>(), needed);
}

#[test]
fn old_snapshots_go_in_two_phases_and_the_last_proven_stays() {
    let (stored, ids) = several(5);
    let scratch = stored.dir.path().join("scratch");
    let args = ["--snapshot", &ids[1], "--scratch", scratch.to_str().unwrap()];
    assert_eq!(stored.ok("prove", &args)["proven"], true);
    // What a push that was killed has left: a piece that nothing names, and a file that is half written.
    let repository = stored.repository();
    let orphan = stored.runtime.block_on(async {
        let known = repository.known().await.unwrap();
        repository.put_piece(&known, noise(99, 5_000)).await.unwrap().0
    });
    let orphan = stored.store().join(orphan.name());
    let unfinished = orphan.with_extension("writing-0.writing");
    fs::write(&unfinished, b"half").unwrap();
    let (all, before) = (objects(&stored).len(), stored.stored().len());

    let refused = stored.run("prune", &[]);
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    let keep = ["--keep-last", "2"];
    let dry = stored.ok("prune", &[&keep[..], &["--dry-run"]].concat());
    assert_eq!(dry["gone"].as_array().unwrap().len(), 2, "{dry}");
    assert_eq!((listed(&stored).len(), stored.stored().len()), (5, before), "nothing was changed");

    let first = stored.ok("prune", &keep);
    assert_eq!(listed(&stored), [&ids[1], &ids[3], &ids[4]].map(Clone::clone));
    assert!(first["swept"]["marked"].as_u64().unwrap() > 0, "{first}");
    assert_eq!(first["swept"]["deleted"], 0, "{first}");
    assert!(orphan.exists() && unfinished.exists(), "a writer may be at it");
    let long_ago = SystemTime::now() - Duration::from_secs(2 * 3600);
    fs::File::options().write(true).open(&unfinished).unwrap().set_modified(long_ago).unwrap();
    let second = stored.ok("prune", &keep);
    assert!(second["swept"]["deleted"].as_u64().unwrap() > 0, "{second}");
    assert!(!orphan.exists() && !unfinished.exists());
    assert!(objects(&stored).len() < all);
    assert_nothing_is_left_over(&stored);
    assert_eq!(stored.ok("verify", &["--all"])["verified"], true);
}

#[test]
fn a_prune_that_is_killed_holds_up_nobody() {
    let (stored, _) = several(3);
    for after in [0, 2, 4, 8] {
        let mut command = stored.command("prune", &["--keep-last", "1"]);
        let mut running = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        #[allow(clippy::disallowed_methods)] // the moment is meant to be any
        std::thread::sleep(Duration::from_millis(after));
        running.kill().unwrap();
        running.wait().unwrap();
        // Whoever died holds nothing on this machine.
        stored.ok("prune", &["--keep-last", "1"]);
    }
    stored.ok("prune", &["--keep-last", "1"]);
    stored.ok("prune", &["--keep-last", "1"]);
    assert_nothing_is_left_over(&stored);
    assert_eq!(listed(&stored).len(), 1);
    assert_eq!(stored.ok("verify", &["--all"])["verified"], true);
}

#[test]
fn a_run_outside_of_its_window_does_nothing_and_reports_it() {
    let (stored, _) = several(1);
    let (report, metrics) = (stored.dir.path().join("r.json"), stored.dir.path().join("r.prom"));
    let timed = |more: &[&str]| {
        let files = ["--report", report.to_str().unwrap(), "--textfile", metrics.to_str().unwrap()];
        let output = stored.run("verify", &[&files[..], more].concat());
        let report: serde_json::Value =
            serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
        (output, report, fs::read_to_string(&metrics).unwrap())
    };
    let (output, told, page) = timed(&["--nice", "5", "--jitter", "10ms"]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!((&told["exit"], &told["result"]["verified"]), (&0.into(), &true.into()), "{told}");
    let success = "godwit_snapshotter_last_success_timestamp_seconds{verb=\"verify\"} ";
    let at = page.lines().find(|line| line.starts_with(success)).unwrap().to_owned();

    // A window of an hour that begins in two, whenever this runs.
    let hour = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() / 3600;
    let window = format!("{:02}:30-{:02}:30", (hour + 2) % 24, (hour + 3) % 24);
    let (output, told, page) = timed(&["--window", &window]);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(said(&output).contains("outside of --window"), "{}", said(&output));
    assert_eq!((&told["exit"], &told["verb"]), (&3.into(), &"verify".into()), "{told}");
    assert!(page.lines().any(|line| line == at), "the last success is kept: {page}");
    for bad in [["--window", "25:00-26:00"], ["--nice", "40"], ["--textfile", "x.txt"]] {
        let output = stored.run("verify", &bad);
        assert_eq!(output.status.code(), Some(2), "{bad:?}: {}", said(&output));
    }
}

#[test]
fn keys_are_made_rotated_and_told_apart() {
    let keys = Keys::generate().unwrap();
    let mut stored = Stored::with(keys.to_write(), Duration::ZERO);
    let nothing = Records::default();
    let mut records = Records::default();
    records.string(&key_in(0, "secret"), b"hush");
    stored.write(0, &records);
    stored.seal([&nothing, &nothing]);
    let rotated = keys.rotate().unwrap();
    stored.keys = rotated.to_write();
    records.string(&key_in(0, "later"), b"hush too");
    stored.write(0, &records);
    stored.seal([&nothing, &nothing]);
    let file = |name: &str, keys: &Keys| {
        let path = stored.dir.path().join(name);
        keys.write_new(&path).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (new, old, writer) = (
        file("new.key", &rotated),
        file("old.key", &keys),
        file("writer.key", &rotated.to_write()),
    );
    let other = file("other.key", &Keys::generate().unwrap());
    assert_eq!(stored.ok("verify", &["--all", "--key-file", &new])["verified"], true);
    let check = |key: &[&str], code: i32, says: &str| {
        let output = stored.run("verify", &[&["--all"], key].concat());
        assert_eq!(output.status.code(), Some(code), "{key:?}: {}", said(&output));
        assert!(said(&output).contains(says), "{key:?}: {}", said(&output));
    };
    // Not damage: what only writes is told so before anything is marked.
    check(&["--key-file", &writer], 3, "no private key");
    assert!(stored.ok("list", &["--key-file", &writer])["snapshots"][0]["damaged-at"].is_null());
    check(&["--key-file", &old], 1, "no private key opens it");
    check(&["--key-file", &other], 1, "key");
    check(&[], 1, "encrypted");
    let value = stored.run("cat", &["--key-file", &new, &key_in(0, "later")]);
    assert!(said(&value).contains("hush too"), "{}", said(&value));
    let to = stored.dir.path().join("to");
    let refused = stored.run("restore", &["--key-file", &writer, "--to", to.to_str().unwrap()]);
    assert!(!refused.status.success() && !to.exists(), "{}", said(&refused));
}
