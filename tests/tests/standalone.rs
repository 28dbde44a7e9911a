//! Without a registry and without a config file: a node serves clients, a proxy fronts it.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use tests::client::Client;
use tests::clouds::ports::Ports;
use tests::clouds::{Process, binaries};
use tests::wait;

fn serve(name: &str, program: &str, args: &[&str], dir: &std::path::Path) -> Process {
    let args = args.iter().map(|&a| a.to_owned()).collect();
    let log = dir.join(format!("{name}.log"));
    let mut process = Process::new(name.to_owned(), binaries::path(program).unwrap(), args, log);
    process.start().unwrap();
    process
}

fn answers(process: &Process, address: &str) -> Client {
    wait::until(&format!("{} to answer", process.name), Duration::from_secs(20), || {
        let mut client = Client::connect(address)?;
        client.call(&["PING"])?;
        Ok(client)
    })
    .unwrap_or_else(|e| panic!("{e:#}\n{}", process.tail(20)))
}

#[test]
fn a_node_and_a_proxy_need_nothing_else() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("node");
    let mut ports = Ports::reserve().unwrap();
    let (at, front) = (ports.next_address().unwrap(), ports.next_address().unwrap());
    let dir_text = dir.display().to_string();
    let node_args = ["--dir", &dir_text, "--listen", &at];
    let mut node = serve("node", "godwit-node", &node_args, scratch.path());
    let mut direct = answers(&node, &at);
    let proxy_args = ["--listen", &front, "--backend", &at];
    let mut proxy = serve("proxy", "godwit-proxy", &proxy_args, scratch.path());
    let mut through = answers(&proxy, &front);

    through.call(&["SET", "key", "value"]).unwrap();
    assert_eq!(direct.text(&["GET", "key"]).unwrap(), "value");

    // A node process that dies loses nothing, and its proxy finds it again.
    node.kill9().unwrap();
    node.start().unwrap();
    answers(&node, &at);
    let found = wait::until("the proxy to find the node again", Duration::from_secs(20), || {
        through.text(&["GET", "key"])
    });
    assert_eq!(found.unwrap(), "value");

    node.term().unwrap();
    proxy.term().unwrap();
    assert!(node.panics().is_empty() && proxy.panics().is_empty());
}
