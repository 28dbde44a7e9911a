//! Patterns that leave deleted records at one end of a key: does their rate hold?

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::client::Client;
use crate::load::per_op;
use crate::say;
use crate::server::{Cores, Server, node_program};

/// How long the patterns are.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Elements of the list, and twice the members of the sorted sets.
    #[arg(long, default_value_t = 2_000_000)]
    elements: u64,
    /// What the node is given as `--memory`, in MiB.
    #[arg(long, default_value_t = 256)]
    memory_mib: u64,
    /// Only patterns whose name has this in it.
    #[arg(long)]
    only: Option<String>,
    /// The node's program [default: beside this one].
    #[arg(long)]
    node: Option<PathBuf>,
    #[command(flatten)]
    cores: Cores,
}

/// The first and the last twentieth are compared; the very first one warms up.
const PARTS: u64 = 20;
/// The goal: at least this part of the first rate at the end.
const KEPT: f64 = 0.5;

type Step = fn(&mut Client, u64) -> Result<()>;

/// What is done, how often for each element, and how.
const PATTERNS: [(&str, u64, Step); 6] = [
    ("LPUSH of all", 1, |client, number| {
        client.pipe(&[b"LPUSH", b"list", number.to_string().as_bytes()])
    }),
    ("RPOP of all", 1, |client, _| client.pipe(&[b"RPOP", b"list"])),
    ("LPUSH, RPOP", 1, |client, number| {
        client.pipe(&[b"LPUSH", b"queue", number.to_string().as_bytes()])?;
        client.pipe(&[b"RPOP", b"queue"])
    }),
    ("ZADD of all", 2, |client, number| {
        let number = number.to_string();
        client.pipe(&[b"ZADD", b"zset", number.as_bytes(), number.as_bytes()])
    }),
    ("ZPOPMIN of all", 2, |client, _| client.pipe(&[b"ZPOPMIN", b"zset"])),
    ("ZADD, ZREMRANGEBYRANK of all but 1000", 4, |client, number| {
        let number = number.to_string();
        client.pipe(&[b"ZADD", b"trimmed", number.as_bytes(), number.as_bytes()])?;
        client.pipe(&[b"ZREMRANGEBYRANK", b"trimmed", b"0", b"-1001"])
    }),
];

/// Runs each pattern and prints its rate at the start and at the end.
pub(crate) fn run(options: &Options) -> Result<()> {
    let program = node_program(options.node.as_deref())?;
    let dir = tempfile::Builder::new().prefix("godwit-bench-").tempdir()?;
    let memory = format!("{}MiB", options.memory_mib);
    let server = Server::node(options.cores.server_core, &program, dir.path(), &memory)?;
    let mut client = Client::connect(server.port)?;
    say!(
        "| | first, CPU us | last, CPU us | last / first rate by CPU | by the clock | goal {KEPT} |"
    );
    say!("|---|---|---|---|---|---|");
    for (name, part_of, step) in PATTERNS {
        // Those that empty a key need what filled it.
        if options.only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            continue;
        }
        let each = (options.elements / part_of / PARTS).max(1);
        let mut parts = Vec::new();
        for part in 0..PARTS {
            let (cpu, begun) = (server.cpu()?, Instant::now());
            for number in part * each..(part + 1) * each {
                step(&mut client, number)?;
            }
            client.flush()?;
            parts.push((server.cpu()?.saturating_sub(cpu), begun.elapsed()));
        }
        let (first, last) = (parts[1], parts[parts.len() - 1]);
        let ratio = |first: Duration, last: Duration| first.as_secs_f64() / last.as_secs_f64();
        let by_cpu = ratio(first.0, last.0);
        say!(
            "| {name} | {:.2} | {:.2} | {by_cpu:.2} | {:.2} | {} |",
            per_op(first.0, each),
            per_op(last.0, each),
            ratio(first.1, last.1),
            if by_cpu >= KEPT { "reached" } else { "missed" }
        );
    }
    let resident = server.resident()?;
    say!("\nresident memory: {} MiB of --memory {memory}", resident >> 20);
    server.stop()
}
