//! Directories that a node must not use, and settings that make no sense: a sentence each.

use std::path::Path;
use std::process::{Command, Output};

use crate::cloud::Cloud;

fn node(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_godwit-node")).args(args).output().unwrap()
}

/// Starts a node that must refuse, with these words.
fn refused(dir: &Path, more: &[&str], words: &str) {
    let dir = dir.to_str().unwrap();
    let args = [&["--dir", dir, "--listen", "127.0.0.1:0", "--memory", "32MiB"], more].concat();
    let output = node(&args);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains(words), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_a_service_is_nobody_elses() {
    let cloud = Cloud::new().await;
    let a = cloud.start("a").await;
    a.writable().await;
    let dir = a.dir.clone();
    refused(&dir, &[], "holds its LOCK");
    a.stop().await;
    refused(&dir, &[], "belongs to service `demo`");
    let registry = format!("file:{}/registry", cloud.dir.path().display());
    let member = |service, shard| {
        ["--registry", &registry, "--cluster", "a", "--service", service, "--shard", shard]
            .map(str::to_owned)
    };
    let other = member("other", "0");
    refused(&dir, &other.each_ref().map(|s| s.as_str()), "started for `other`");
    let other = member("demo", "1");
    refused(&dir, &other.each_ref().map(|s| s.as_str()), "is shard a/0");
    let identity = dir.join("db/GODWIT");
    let later =
        std::fs::read_to_string(&identity).unwrap().replace("\"format\": 1", "\"format\": 2");
    std::fs::write(&identity, later).unwrap();
    refused(&dir, &[], "has format 2");
    std::fs::write(&identity, "{").unwrap();
    refused(&dir, &[], "is damaged");
    std::fs::remove_file(&identity).unwrap();
    refused(&dir, &[], "without the file GODWIT");
}

#[test]
fn settings_are_checked_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("node");
    refused(&at, &["--admin", "0.0.0.0:9"], "reachable from other machines");
    refused(&at, &["--service", "demo"], "needs all of");
    assert!(!at.exists());
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/godwit-node.toml");
    let checked = node(&["--config", sample, "--check-config"]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let file = dir.path().join("bad.toml");
    std::fs::write(&file, "lisen = \"127.0.0.1:1\"\n").unwrap();
    let output = node(&["--config", file.to_str().unwrap(), "--check-config"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("`listen`"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().to_string();
    let args = ["--dir", at.to_str().unwrap(), "--listen", &port];
    let output = node(&args);
    assert!(String::from_utf8_lossy(&output.stderr).contains("port in use"));
}
