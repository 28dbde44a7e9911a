//! How much CPU a node takes for an operation, beside redis-server and beside RocksDB alone, all in
//! one run and pinned alike: the server on one core, its client on another.
//!
//! `godwit-bench compare` is the comparison ([`compare`]), `godwit-bench queues` shows whether
//! queue and trim patterns keep their rate ([`queues`]), `godwit-bench bulk` what bulk loads gain
//! ([`bulk`]), `latency` how long GETs take while something else goes on ([`latency`]), `memory`
//! whether a node keeps to its `--memory` ([`memory`]), `processes` what several nodes on a machine
//! cost ([`processes`]), `delete` how long a large hash takes to go ([`remove`]), `stall` what readers
//! notice of writes that stand still ([`stall`]). [`server`] starts and measures processes,
//! [`client`] is a pipelining client, [`paced`] one with a fixed rate, [`load`] runs redis-benchmark,
//! [`floor`] is RocksDB alone.
//!
//! Times of the wall depend on what else the machine does; CPU per operation and the ratios of one
//! run are what to read.

mod bulk;
mod client;
mod compare;
mod floor;
mod latency;
mod load;
mod memory;
mod paced;
mod processes;
mod queues;
mod remove;
mod server;
mod stall;
mod table;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Prints a line; nobody may be reading, and that changes nothing.
macro_rules! say {
    ($($what:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stdout(), $($what)*);
    }};
}
pub(crate) use say;

/// Benchmarks of godwit-node.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// redis-server, godwit-node and RocksDB alone, side by side.
    Compare(compare::Options),
    /// Queue and trim patterns: the rate at the end beside the rate at the start.
    Queues(queues::Options),
    /// Rows by pipelined commands, and built and taken in as a load.
    Bulk(bulk::Options),
    /// p99 of GET: beside redis-server, while compactions run, while a checkpoint is made and read.
    Latency(latency::Options),
    /// Resident memory against `--memory` under each load, with far more data than memory.
    Memory(memory::Options),
    /// CPU per operation of several nodes on a machine against one.
    Processes(processes::Options),
    /// How long a hash of two million fields takes to delete.
    Delete(remove::Options),
    /// What readers notice while writes stand still.
    Stall(stall::Options),
    /// RocksDB alone: what `compare` starts, pinned, for its lines.
    Floor(floor::Options),
}

fn main() -> ExitCode {
    let done = match Args::parse().command {
        Command::Compare(options) => compare::run(&options),
        Command::Queues(options) => queues::run(&options),
        Command::Bulk(options) => bulk::run(&options),
        Command::Latency(options) => latency::run(&options),
        Command::Memory(options) => memory::run(&options),
        Command::Processes(options) => processes::run(&options),
        Command::Delete(options) => remove::run(&options),
        Command::Stall(options) => stall::run(&options),
        Command::Floor(options) => floor::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say!("godwit-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
