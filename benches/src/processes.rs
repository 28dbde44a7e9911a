//! Several nodes on one machine: what an operation costs where there are two beside one.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::latency::{median, reached};
use crate::load::{self, Amount, Load};
use crate::say;
use crate::server::{Cores, Server, node_program};

/// How much of it.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Processes.
    #[arg(long, default_value_t = 2)]
    processes: u64,
    /// Keys and requests, of all processes together.
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    #[arg(long, default_value_t = 128)]
    value_bytes: usize,
    /// Connections, of all processes together.
    #[arg(long, default_value_t = 50)]
    clients: usize,
    /// What all nodes are given as `--memory` together, in MiB.
    #[arg(long, default_value_t = 2048)]
    memory_mib: u64,
    /// Medians are over so many rounds.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The node's program [default: beside this one].
    #[arg(long)]
    node: Option<PathBuf>,
    #[command(flatten)]
    cores: Cores,
}

/// The goal: CPU per operation of several against that of one, and what a run differs by itself.
const GOAL: f64 = 1.1;

/// Measures one process and several, turn by turn.
pub(crate) fn run(options: &Options) -> Result<()> {
    let program = node_program(options.node.as_deref())?;
    let several = options.processes.max(2);
    let mut found = vec![[Vec::new(), Vec::new()]; Load::ALL.len()];
    for _ in 0..options.rounds {
        for (which, count) in [1, several].into_iter().enumerate() {
            let dir = tempfile::Builder::new().prefix("godwit-bench-").tempdir()?;
            let memory = format!("{}MiB", options.memory_mib / count);
            let start = |number: u64| {
                let dir = dir.path().join(number.to_string());
                std::fs::create_dir(&dir)?;
                Server::node(options.cores.server_core, &program, &dir, &memory)
            };
            let servers = (0..count).map(start).collect::<Result<Vec<_>>>()?;
            let part = Amount {
                clients: options.clients / count as usize,
                keys: options.keys / count,
                requests: options.keys / count,
                pipeline: 16,
                value_bytes: options.value_bytes,
            };
            for (load, found) in Load::ALL.into_iter().zip(&mut found) {
                found[which].push(together(&servers, options.cores.client_core, load, &part)?);
            }
            servers.into_iter().try_for_each(Server::stop)?;
        }
    }
    say!("{} keys, by 16, {several} processes on one core beside one\n", options.keys);
    say!(
        "| | one, CPU us | {several}, CPU us | {several} / one | goal {GOAL} |\n|---|---|---|---|---|"
    );
    for (load, [one, all]) in Load::ALL.into_iter().zip(&mut found) {
        let (one, all) = (median(one), median(all));
        let times = all / one;
        say!("| {} | {one:.2} | {all:.2} | {times:.2} | {} |", load.name(), reached(times <= GOAL));
    }
    Ok(())
}

/// Runs a load against all servers at once; microseconds of CPU an operation.
fn together(servers: &[Server], core: usize, load: Load, part: &Amount) -> Result<f64> {
    let samples = std::thread::scope(|scope| {
        let run = |server| scope.spawn(move || load::run(server, core, load, part));
        let running: Vec<_> = servers.iter().map(run).collect();
        let ended = running
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| bail!("a client panicked")));
        ended.collect::<Result<Vec<_>>>()
    })?;
    Ok(samples.iter().map(|sample| sample.cpu_us).sum::<f64>() / samples.len() as f64)
}
