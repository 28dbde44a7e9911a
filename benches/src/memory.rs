//! Whether a node keeps to its `--memory`, whatever is done to it: with far more data than that.

use std::path::PathBuf;

use anyhow::Result;

use crate::client::Client;
use crate::latency::reached;
use crate::load::{self, Amount, Load};
use crate::say;
use crate::server::{Cores, Server, node_program};

/// How much of it.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// What the node is given as `--memory`, in MiB.
    #[arg(long, default_value_t = 256)]
    memory_mib: u64,
    /// Bytes of values that strings, the hash and the lists get each, in MiB.
    #[arg(long, default_value_t = 2560)]
    data_mib: u64,
    #[arg(long, default_value_t = 1024)]
    value_bytes: usize,
    /// Connections.
    #[arg(long, default_value_t = 50)]
    clients: usize,
    /// The node's program [default: beside this one].
    #[arg(long)]
    node: Option<PathBuf>,
    /// Where data lies while it runs [default: the system's].
    #[arg(long)]
    dir: Option<PathBuf>,
    #[command(flatten)]
    cores: Cores,
}

/// The goal: resident memory against `--memory`.
const GOAL: f64 = 1.25;
/// Lists that elements are spread over.
const LISTS: u64 = 1000;

/// Runs each load and prints the most memory that was resident during it.
pub(crate) fn run(options: &Options) -> Result<()> {
    let program = node_program(options.node.as_deref())?;
    let mut builder = tempfile::Builder::new();
    let prefixed = builder.prefix("godwit-bench-");
    let dir = match &options.dir {
        Some(dir) => prefixed.tempdir_in(dir)?,
        None => prefixed.tempdir()?,
    };
    let memory = format!("{}MiB", options.memory_mib);
    let server = Server::node(options.cores.server_core, &program, dir.path(), &memory)?;
    let keys = (options.data_mib << 20) / options.value_bytes as u64;
    say!("--memory {memory}, {} MiB of data for each load\n", options.data_mib);
    say!("| | most that was resident, MiB | of --memory | goal {GOAL} |\n|---|---|---|---|");
    let mut most = 0.0_f64;
    let mut note = |name: &str| -> Result<()> {
        let peak = server.peak()?;
        let part = peak as f64 / (options.memory_mib << 20) as f64;
        most = most.max(part);
        say!("| {name} | {} | {part:.2} | {} |", peak >> 20, reached(part <= GOAL));
        server.forget_peak()
    };
    load::fill(&server, keys, options.value_bytes)?;
    note("SET of every key")?;
    for load in Load::ALL {
        for pipeline in [16, 1] {
            let requests = if pipeline == 1 { keys / 8 } else { keys };
            let (clients, value_bytes) = (options.clients, options.value_bytes);
            let amount = Amount { clients, keys, requests, pipeline, value_bytes };
            load::run(&server, options.cores.client_core, load, &amount)?;
            note(&format!("{} by {pipeline}", load.name()))?;
        }
    }
    let mut client = Client::connect(server.port)?;
    let value = vec![b'x'; options.value_bytes];
    for number in 0..keys {
        client.pipe(&[b"RPUSH", format!("list:{}", number % LISTS).as_bytes(), &value])?;
    }
    client.flush()?;
    note("RPUSH")?;
    for number in 0..keys {
        client.pipe(&[b"LPOP", format!("list:{}", number % LISTS).as_bytes()])?;
    }
    client.flush()?;
    note("LPOP")?;
    for _ in 0..4 {
        client.call(&[b"HLEN", b"hash:16"])?;
        client.call(&[b"ZRANGE", b"zset:16", b"0", b"10000"])?;
        client.call(&[b"HSCAN", b"hash:16", b"0", b"COUNT", b"10000"])?;
    }
    note("long ranges")?;
    client.call(&[b"DEL", b"hash:16", b"zset:16"])?;
    crate::latency::ask_admin(&dir.path().join("node/admin.sock"), &[b"GODWIT.COMPACT"])?;
    note("all of it compacted")?;
    say!("\nat most {most:.2}x of --memory (goal: {GOAL}): {}", reached(most <= GOAL));
    server.stop()
}
