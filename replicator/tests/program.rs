//! The program's command line: what it says of itself, and of settings that cannot be.
#![allow(clippy::unwrap_used)] // of tests, helpers too

use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_godwit-replicator")).args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn help_has_examples_and_the_sample_config_is_good() {
    let help = run(&["--help"]);
    assert!(help.status.success() && text(&help).contains("Examples:"));
    assert!(text(&run(&["--version"])).starts_with("godwit-replicator 0."));
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/godwit-replicator.toml");
    let checked = run(&["--config", sample, "--check-config"]);
    assert!(checked.status.success(), "{}", text(&checked));
    assert!(text(&checked).contains("config is good"));
}

#[test]
fn settings_that_cannot_be_are_named() {
    let base = ["--node-dir", "/tmp/n", "--listen", "127.0.0.1:0", "--registry", "file:/tmp/r"];
    let whole = ["--service", "demo", "--cluster", "a", "--shard", "0", "--check-config"];
    let with = |more: &[&str]| run(&[&base[..], &whole[..], more].concat());
    assert!(with(&[]).status.success(), "{}", text(&with(&[])));
    for (more, says) in [
        (&["--window", "1"][..], "--window of 1 bytes is too small"),
        (&["--node-admin", "0.0.0.0:1"], "reachable from other machines"),
        (&["--tls-ca", "/ca.pem"], "--tls-cert, --tls-key are missing"),
        (&["--announce", "nowhere"], "--announce must be HOST:PORT"),
    ] {
        let output = with(more);
        assert_eq!(output.status.code(), Some(2), "{more:?}: {}", text(&output));
        assert!(text(&output).contains(says), "{more:?}: {}", text(&output));
    }
    let missing = run(&["--check-config"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing).contains("--node-dir is missing"));
}
