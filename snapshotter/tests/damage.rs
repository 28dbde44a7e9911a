//! Whatever is wrong with what is stored is named by `verify` and refused by `restore`, which writes
//! nothing outside of its directory; and what was interrupted goes on.

#![allow(clippy::unwrap_used)] // a helper of a test may stop at the first surprise

mod stored;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use stored::{Records, Stored, key_in, said};

/// A small snapshot with a log.
fn small() -> Stored {
    let mut stored = Stored::new();
    let of = |n: usize, prefix: &str| {
        let mut records = Records::default();
        records.string(&key_in(n, prefix), b"value").hash(&key_in(n, "hash"), &[("f", "v")]);
        records
    };
    stored.write(0, &of(0, "in"));
    stored.write(1, &of(1, "in"));
    stored.seal([&of(0, "log"), &of(1, "log")]);
    stored
}

/// `verify` fails and names the file; `restore` fails, and nothing is where it should not be.
fn is_noticed(stored: &Stored, file: &Path, what: &str) {
    // All of it is read, and nothing is marked: the list of snapshots stays as it is.
    let verified = stored.run("verify", &["--sample", "100"]);
    let name = file.file_name().unwrap().to_str().unwrap();
    assert_eq!(verified.status.code(), Some(1), "{what} {name}: {}", said(&verified));
    assert!(said(&verified).contains(name), "{what} {name}: {}", said(&verified));
    let before = fs::read_dir(stored.dir.path()).unwrap().count();
    let to = stored.dir.path().join("to");
    let restored = stored.run("restore", &["--to", to.to_str().unwrap()]);
    let code = restored.status.code();
    assert!(code == Some(1) || code == Some(3), "{what} {name}: {}", said(&restored));
    let db = |n: &str| to.join(n).join("db").exists();
    assert!(!(db("0") && db("1")), "{what} {name}: it was restored");
    let _ = fs::remove_dir_all(&to);
    assert_eq!(fs::read_dir(stored.dir.path()).unwrap().count(), before, "{what} {name}");
}

#[test]
fn a_flipped_byte_in_any_file_is_named() {
    let stored = small();
    let files = stored.stored();
    assert!(files.len() > 12, "{files:?}");
    for (n, file) in files.iter().enumerate() {
        let good = fs::read(file).unwrap();
        if good.is_empty() {
            continue;
        }
        let mut bad = good.clone();
        // Its beginning, its middle, its end: one of them for each file, in turn.
        let at = [0, good.len() / 2, good.len() - 1][n % 3];
        bad[at] ^= 0x20;
        replace(file, &bad);
        is_noticed(&stored, file, "a flipped byte in");
        replace(file, &good);
    }
    assert!(stored.run("verify", &[]).status.success());
}

/// As another file: nothing writes over what is there.
fn replace(file: &Path, bytes: &[u8]) {
    fs::remove_file(file).unwrap();
    fs::write(file, bytes).unwrap();
}

#[test]
fn a_cut_file_two_swapped_files_and_a_link_are_named() {
    let stored = small();
    let objects: Vec<PathBuf> = stored
        .stored()
        .into_iter()
        .filter(|path| path.to_string_lossy().contains("/objects/"))
        .collect();
    let (first, second) = (&objects[0], &objects[1]);
    let (one, two) = (fs::read(first).unwrap(), fs::read(second).unwrap());
    replace(first, &one[..one.len() - 1]);
    is_noticed(&stored, first, "a cut");
    replace(first, &two);
    replace(second, &one);
    is_noticed(&stored, first, "swapped");
    replace(second, &two);
    fs::remove_file(first).unwrap();
    is_noticed(&stored, first, "missing");
    symlink("/etc/passwd", first).unwrap();
    is_noticed(&stored, first, "a link");
    fs::remove_file(first).unwrap();
    // Longer than any may be, so it is not even read.
    let mut long = one.clone();
    long.resize(9 << 20, 0);
    fs::write(first, &long).unwrap();
    is_noticed(&stored, first, "longer than any");
    fs::remove_file(first).unwrap();
    fs::write(first, &one).unwrap();

    // A sealed manifest that another has taken the place of.
    let manifests =
        |n: &str| stored.stored().into_iter().find(|p| p.ends_with(format!("shard-{n}"))).unwrap();
    let (zero, other) = (manifests("0"), manifests("1"));
    let good = fs::read(&zero).unwrap();
    replace(&zero, &fs::read(&other).unwrap());
    is_noticed(&stored, &zero, "another's");
    replace(&zero, &good);
    assert!(stored.run("verify", &[]).status.success());
}

#[test]
fn what_was_found_damaged_is_listed_so_until_all_of_it_was_good_again() {
    let stored = small();
    let listed = |state: &str, damaged: bool| {
        let (list, show) = (stored.ok("list", &[]), stored.ok("show", &[]));
        for shown in [&list["snapshots"][0], &show] {
            assert_eq!(
                (&shown["state"], shown["damaged-at"].is_string()),
                (&state.into(), damaged)
            );
        }
    };
    let is_object = |path: &&PathBuf| path.to_string_lossy().contains("/objects/");
    let object = stored.stored().iter().find(is_object).unwrap().clone();
    let good = fs::read(&object).unwrap();
    replace(&object, b"else");
    assert_eq!(stored.run("verify", &[]).status.code(), Some(1));
    listed("sealed", true);
    // A sample marks nothing.
    replace(&object, &good);
    assert!(stored.run("verify", &["--sample", "100"]).status.success());
    listed("sealed", true);
    assert!(stored.run("verify", &[]).status.success());
    listed("verified", false);
}

/// A text of a repository that is not encrypted, with the hash that makes it one.
fn sealed(name: &str, json: &str) -> (String, Vec<u8>) {
    let mut hasher = blake3::Hasher::new();
    hasher.update(name.as_bytes()).update(b"\n").update(json.as_bytes());
    let line = hasher.finalize().to_hex().to_string();
    (line.clone(), format!("{line}\n{json}").into_bytes())
}

#[test]
fn a_forged_manifest_leads_nowhere() {
    let stored = small();
    let find = |end: &str| stored.stored().into_iter().find(|p| p.to_string_lossy().ends_with(end));
    let (manifest, page) = (find("shard-0").unwrap(), find("chain/0000000000000000").unwrap());
    let name =
        |path: &Path| path.strip_prefix(stored.store()).unwrap().to_str().unwrap().to_owned();
    let text = |path: &Path| {
        let text = fs::read_to_string(path).unwrap();
        let (line, json) = text.split_once('\n').unwrap();
        (line.to_owned(), json.to_owned())
    };
    let ((line, json), (_, listed)) = (text(&manifest), text(&page));
    for name_of_file in ["../../../evil", "/etc/evil", "..", "a/b", ".hidden"] {
        let forged = json.replace("\"CURRENT\"", &format!("\"{name_of_file}\""));
        assert_ne!(forged, json);
        let (new, bytes) = sealed(&name(&manifest), &forged);
        replace(&manifest, &bytes);
        replace(&page, &sealed(&name(&page), &listed.replace(&line, &new)).1);
        is_noticed(&stored, &manifest, name_of_file);
    }
}

#[test]
fn a_link_in_a_directory_that_is_being_restored_is_not_followed() {
    let stored = small();
    let to = stored.dir.path().join("to");
    let args = ["--shard", "a/0", "--to", to.to_str().unwrap()];
    // One after the other is damaged, until a restore has begun before it meets that.
    for file in stored.stored().iter().filter(|p| p.to_string_lossy().contains("/objects/")) {
        let good = fs::read(file).unwrap();
        let mut bad = good.clone();
        let last = bad.len() - 1;
        bad[last] ^= 1;
        replace(file, &bad);
        let output = stored.run("restore", &args);
        replace(file, &good);
        if !output.status.success() && to.join("restore.json").exists() {
            break;
        }
        let _ = fs::remove_dir_all(&to);
    }
    assert!(to.join("restore.json").exists(), "no damage was met in the middle");
    let outside = stored.dir.path().join("outside");
    fs::write(&outside, b"untouched").unwrap();
    let planted = to.join("db.partial/CURRENT");
    fs::create_dir_all(to.join("db.partial")).unwrap();
    let _ = fs::remove_file(&planted);
    symlink(&outside, &planted).unwrap();
    let output = stored.run("restore", &args);
    assert!(!output.status.success(), "{}", said(&output));
    assert_eq!(fs::read(&outside).unwrap(), b"untouched");
    // Without it, it goes on where it was.
    fs::remove_file(&planted).unwrap();
    stored.ok("restore", &args);
    assert!(to.join("db").exists());
}
