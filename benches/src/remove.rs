//! Deleting a large hash: one write, and how long it takes.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::client::Client;
use crate::latency::{median, reached};
use crate::say;
use crate::server::{Cores, Server, node_program};

/// How large.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Fields of the hash.
    #[arg(long, default_value_t = 2_000_000)]
    fields: u64,
    /// Hashes that are deleted, one after the other.
    #[arg(long, default_value_t = 3)]
    times: u64,
    /// What the node is given as `--memory`, in MiB.
    #[arg(long, default_value_t = 256)]
    memory_mib: u64,
    /// The node's program [default: beside this one].
    #[arg(long)]
    node: Option<PathBuf>,
    #[command(flatten)]
    cores: Cores,
}

/// The goal.
const GOAL_MS: f64 = 5.0;
/// Fields of one HSET.
const TOGETHER: u64 = 100;

/// Fills, deletes and prints.
pub(crate) fn run(options: &Options) -> Result<()> {
    let program = node_program(options.node.as_deref())?;
    let dir = tempfile::Builder::new().prefix("godwit-bench-").tempdir()?;
    let memory = format!("{}MiB", options.memory_mib);
    let server = Server::node(options.cores.server_core, &program, dir.path(), &memory)?;
    let mut client = Client::connect(server.port)?;
    let mut took = Vec::new();
    for _ in 0..options.times {
        for first in (0..options.fields).step_by(TOGETHER as usize) {
            let fields: Vec<String> = (first..options.fields.min(first + TOGETHER))
                .map(|n| format!("field:{n}"))
                .collect();
            let mut command: Vec<&[u8]> = vec![b"HSET", b"large"];
            fields.iter().for_each(|field| command.extend([field.as_bytes(), b"value"]));
            client.pipe(&command)?;
        }
        let held = client.call(&[b"HLEN", b"large"])?;
        if held.trim() != format!(":{}", options.fields) {
            bail!("the hash has {held} fields of {}", options.fields);
        }
        let commits = client.info("godwit_commits")?;
        let sequence = client.info("master_repl_offset")?;
        let begun = Instant::now();
        client.call(&[b"DEL", b"large"])?;
        took.push(begun.elapsed().as_secs_f64() * 1e3);
        let commits = client.info("godwit_commits")? - commits;
        // A heartbeat may come between; a write for each field would be millions.
        let records = client.info("master_repl_offset")? - sequence;
        say!(
            "DEL of {} fields: {:.3} ms, {commits} commits, {records} records in the log",
            options.fields,
            took[took.len() - 1]
        );
    }
    let found = median(&mut took);
    say!("\nmedian: {found:.3} ms (goal: {GOAL_MS} ms): {}", reached(found < GOAL_MS));
    server.stop()
}
