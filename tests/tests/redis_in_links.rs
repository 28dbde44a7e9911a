//! Coming in from a stock Redis over TLS with certificates on both sides, and over a Unix socket: the same
//! copy, that goes on by a partial resync, and who does not show the right certificate is told so.

#![allow(clippy::unwrap_used)] // of tests, helpers too

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use tests::client::Client;
use tests::clouds::certificates::{Authority, flags};
use tests::clouds::ports::Ports;
use tests::clouds::{Process, binaries};
use tests::redis::{Redis, contents, fill, info, same};
use tests::wait;

const LIMIT: Duration = Duration::from_secs(60);
const POSITION: &str = "godwit.redis.position";

fn program(name: &str, program: &str, args: &[String], dir: &Path) -> Process {
    let (program, log) = (binaries::path(program).unwrap(), dir.join(format!("{name}.log")));
    let mut process = Process::new(name.to_owned(), program, args.to_vec(), log);
    process.start().unwrap();
    process
}

fn node(dir: &Path, ports: &mut Ports) -> (Process, String) {
    let address = ports.next_address().unwrap();
    let own = dir.join("node").display().to_string();
    let args = ["--dir", &own, "--listen", &address].map(str::to_owned);
    let process = program("node", "godwit-node", &args, dir);
    wait::until("the node to serve", LIMIT, || Client::connect(&address)?.call(&["PING"])).unwrap();
    (process, address)
}

fn follow(from: &str, to: &str, dir: &Path, more: &[String]) -> Process {
    let (state, to) = (dir.join("state").display().to_string(), format!("redis://{to}"));
    let args = ["redis-in", "--from", from, "--to", &to, "--state", &state].map(str::to_owned);
    program("redis-in", "godwit-replicator", &[&args, more].concat(), dir)
}

fn level(source: &Redis, target: &mut Client, sidecar: &Process) {
    let wanted = info(&mut source.client(), "master_repl_offset").unwrap();
    wait::until("the target to be level", LIMIT, || {
        ensure!(sidecar.alive(), "the sidecar has ended");
        let at = target.text(&["GET", POSITION])?;
        let offset: Option<u64> = at.split(' ').nth(2).and_then(|offset| offset.parse().ok());
        ensure!(at.starts_with("at ") && offset >= Some(wanted), "{at}, wanted {wanted}");
        Ok(())
    })
    .unwrap_or_else(|e| panic!("{e:#}\n{}", sidecar.tail(30)));
}

/// A copy over this link, that goes on after its sidecar was killed.
fn copies(source: &Redis, dir: &Path, ports: &mut Ports, from: &str, more: &[String]) {
    fill(&mut source.client(), "before:").unwrap();
    let (_node, at) = node(dir, ports);
    let mut target = Client::connect(&at).unwrap();
    let mut sidecar = follow(from, &at, dir, more);
    level(source, &mut target, &sidecar);
    source.client().call(&["SET", "while", "it follows"]).unwrap();
    level(source, &mut target, &sidecar);
    sidecar.kill9().unwrap();
    fill(&mut source.client(), "after:").unwrap();
    sidecar.start().unwrap();
    level(source, &mut target, &sidecar);
    let all = contents(&mut source.client(), POSITION).unwrap();
    same(&all, &contents(&mut target, POSITION).unwrap()).unwrap();
    assert!(all.contains_key("while") && all.len() > 10);
    assert_eq!(info(&mut source.client(), "sync_full").unwrap(), 1, "it went on where it was");
    assert!(info(&mut source.client(), "sync_partial_ok").unwrap() >= 1);
}

/// A redis-server that takes only who shows a certificate of this directory's authority.
fn with_tls(dir: &Path, ports: &mut Ports) -> (Redis, String) {
    let certificates = dir.join("tls");
    let authority = Authority::create(&certificates, "the test's").unwrap();
    authority.sign("source", "localhost").unwrap();
    authority.sign("us", "redis-in").unwrap();
    let address = ports.next_address().unwrap();
    let port = address.rsplit(':').next().unwrap().to_owned();
    let path = |name: &str| certificates.join(name).display().to_string();
    let (ca, cert, key) = (path("ca.pem"), path("source.pem"), path("source.key"));
    let args = ["--tls-port", &port, "--tls-ca-cert-file", &ca, "--tls-cert-file", &cert];
    let args = [&args[..], &["--tls-key-file", &key, "--tls-auth-clients", "yes"]].concat();
    (Redis::start("source", dir, ports, &args), format!("rediss://localhost:{port}"))
}

#[test]
fn over_tls_with_certificates_on_both_sides() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let mut ports = Ports::reserve().unwrap();
    let (source, from) = with_tls(dir, &mut ports);
    copies(&source, dir, &mut ports, &from, &flags(&dir.join("tls"), "us"));
}

#[test]
fn who_has_not_the_right_certificate_is_told_so_and_brings_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let mut ports = Ports::reserve().unwrap();
    let (source, from) = with_tls(dir, &mut ports);
    source.client().call(&["SET", "secret", "1"]).unwrap();
    let (_node, at) = node(dir, &mut ports);
    Authority::create(&dir.join("other"), "another's").unwrap().sign("us", "redis-in").unwrap();
    let ours = |name: &str| dir.join(name).join("ca.pem").display().to_string();
    let cases = [
        // It does not know who signed the source's.
        ("unknown", flags(&dir.join("other"), "us"), "certificate"),
        // It shows none.
        ("none", vec!["--tls-ca".to_owned(), ours("tls")], "certificate"),
    ];
    for (name, more, words) in cases {
        let own = dir.join(name);
        std::fs::create_dir_all(&own).unwrap();
        let sidecar = follow(&from, &at, &own, &more);
        let told = wait::until("it to say why", LIMIT, || {
            let status = std::fs::read(own.join("state/status.json"))?;
            let status: serde_json::Value = serde_json::from_slice(&status)?;
            let problem = status["problem"].as_str().unwrap_or_default().to_lowercase();
            ensure!(problem.contains(words), "{name}: {status}\n{}", sidecar.tail(10));
            Ok(())
        });
        told.unwrap_or_else(|e| panic!("{e:#}"));
        let held = Client::connect(&at).unwrap().call(&["EXISTS", "secret"]).unwrap();
        assert_eq!(held.as_integer(), Some(0));
    }
    assert_eq!(info(&mut source.client(), "sync_full").unwrap(), 0);
}

#[test]
fn over_a_unix_socket() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let mut ports = Ports::reserve().unwrap();
    let socket = dir.join("redis.sock").display().to_string();
    let source = Redis::start("source", dir, &mut ports, &["--unixsocket", &socket]);
    copies(&source, dir, &mut ports, &format!("unix://{socket}"), &[]);
}
