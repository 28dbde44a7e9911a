//! redis-server, a node and RocksDB alone, round after round.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::client::Client;
use crate::floor::{self, Operation};
use crate::latency::ask_admin;
use crate::load::{self, Amount, Load, Sample};
use crate::server::{Cores, Server, node_program};
use crate::table::{self, Line, Who};

/// How long the comparison is.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Keys, and requests of each pipelined test.
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Sizes of values in bytes.
    #[arg(long, value_delimiter = ',', default_values_t = [128, 1024])]
    value_bytes: Vec<usize>,
    /// Medians are over so many rounds.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Connections.
    #[arg(long, default_value_t = 50)]
    clients: usize,
    /// What the node is given as `--memory`, in MiB.
    #[arg(long, default_value_t = 4096)]
    memory_mib: u64,
    /// Only these of: set, get, hset, zadd.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Without redis-server.
    #[arg(long)]
    without_redis: bool,
    /// Without RocksDB alone.
    #[arg(long)]
    without_floor: bool,
    /// The node's program [default: beside this one].
    #[arg(long)]
    node: Option<PathBuf>,
    /// Where data lies while it runs [default: the system's].
    #[arg(long)]
    dir: Option<PathBuf>,
    #[command(flatten)]
    cores: Cores,
}

/// What was measured, by line and by who was measured; a sample for each round.
pub(crate) type Found = BTreeMap<(Line, Who), Vec<Sample>>;

/// One round at one size.
struct Round<'a> {
    options: &'a Options,
    value_bytes: usize,
    found: &'a mut Found,
    /// Commands of one of the node's batches, by pipeline length.
    batches: BTreeMap<usize, u64>,
    notes: Vec<String>,
}

const PIPELINES: [usize; 2] = [16, 1];
/// Commands that are sent one by one are slower: so many times fewer of them do.
const ONE_BY_ONE: u64 = 4;

/// Runs all rounds and prints the tables.
pub(crate) fn run(options: &Options) -> Result<()> {
    let program = node_program(options.node.as_deref())?;
    for &value_bytes in &options.value_bytes {
        let mut found = Found::new();
        let mut notes = Vec::new();
        for _ in 0..options.rounds {
            let batches = BTreeMap::new();
            let mut round =
                Round { options, value_bytes, found: &mut found, batches, notes: Vec::new() };
            if !options.without_redis {
                round.redis()?;
            }
            round.node(&program)?;
            if !options.without_floor {
                round.floor()?;
            }
            notes = round.notes;
        }
        table::print(value_bytes, options.keys, options.rounds, &found, &notes);
    }
    Ok(())
}

impl Round<'_> {
    fn scratch(&self) -> Result<tempfile::TempDir> {
        let mut builder = tempfile::Builder::new();
        let prefixed = builder.prefix("godwit-bench-");
        Ok(match &self.options.dir {
            Some(dir) => prefixed.tempdir_in(dir)?,
            None => prefixed.tempdir()?,
        })
    }

    fn loads(&self) -> impl Iterator<Item = Load> + use<> {
        let only = self.options.only.clone();
        let chosen = move |load: &Load| {
            only.is_empty() || only.iter().any(|name| name.eq_ignore_ascii_case(load.name()))
        };
        Load::ALL.into_iter().filter(chosen)
    }

    fn amount(&self, pipeline: usize) -> Amount {
        let keys = self.options.keys;
        let requests = if pipeline == 1 { keys / ONE_BY_ONE } else { keys };
        let (clients, value_bytes) = (self.options.clients, self.value_bytes);
        Amount { clients, keys, requests: requests.max(1), pipeline, value_bytes }
    }

    fn note(&mut self, line: Line, who: Who, sample: Sample) {
        self.found.entry((line, who)).or_default().push(sample);
    }

    fn redis(&mut self) -> Result<()> {
        let dir = self.scratch()?;
        let cores = self.options.cores;
        let server = Server::redis(cores.server_core, dir.path())?;
        for load in self.loads() {
            if load == Load::Get {
                load::fill(&server, self.options.keys, self.value_bytes)?;
            }
            for pipeline in PIPELINES {
                let amount = self.amount(pipeline);
                let sample = load::run(&server, cores.client_core, load, &amount)?;
                self.note(Line::Load(load, pipeline), Who::Redis, sample);
            }
        }
        server.stop()
    }

    fn node(&mut self, program: &Path) -> Result<()> {
        let dir = self.scratch()?;
        let cores = self.options.cores;
        let memory = format!("{}MiB", self.options.memory_mib);
        let start = || Server::node(cores.server_core, program, dir.path(), &memory);
        let mut server = start()?;
        let mut resident = 0;
        for load in self.loads() {
            if load == Load::Get {
                load::fill(&server, self.options.keys, self.value_bytes)?;
            }
            for pipeline in PIPELINES {
                let amount = self.amount(pipeline);
                let mut client = Client::connect(server.port)?;
                let before = Counters::read(&mut client)?;
                let sample = load::run(&server, cores.client_core, load, &amount)?;
                let grown = Counters::read(&mut client)?.since(&before);
                self.note(Line::Load(load, pipeline), Who::Node, sample);
                if load == Load::Set {
                    let batch = amount.requests.checked_div(grown.commits).unwrap_or(1).max(1);
                    self.batches.insert(pipeline, batch);
                    self.notes.push(format!("batches of SET by {pipeline}: {batch} commands"));
                }
                if load == Load::Get {
                    self.notes.push(format!(
                        "GET by {pipeline}: {:.2} % found in the cache (goal: 99)",
                        grown.hit_rate() * 100.0
                    ));
                }
                resident = resident.max(server.resident()?);
            }
            if load == Load::Get {
                // Neither this nor the floor is to compact while it is measured.
                ask_admin(&dir.path().join("node/admin.sock"), &[b"GODWIT.COMPACT"])?;
                server.stop()?;
                server = start()?;
                let mut amount = self.amount(16);
                amount.requests = (amount.requests / ONE_BY_ONE).max(1);
                let sample = load::run(&server, cores.client_core, load, &amount)?;
                self.note(Line::Cold, Who::Node, sample);
            }
        }
        let given = self.options.memory_mib << 20;
        self.notes.push(format!(
            "resident memory: {} MiB at most, {:.2}x of --memory (goal: 1.25)",
            resident >> 20,
            resident as f64 / given as f64
        ));
        server.stop()
    }

    fn floor(&mut self) -> Result<()> {
        let core = self.options.cores.server_core;
        let (keys, memory) = (self.options.keys, self.options.memory_mib as usize * (1 << 20));
        let value_bytes = self.value_bytes;
        for load in self.loads().filter(|&load| load == Load::Set) {
            for pipeline in PIPELINES {
                let dir = self.scratch()?;
                let what = (Operation::Put, self.batches.get(&pipeline).copied().unwrap_or(1));
                let amount = (keys, self.amount(pipeline).requests);
                let floor = floor::Options::new(dir.path(), what, amount, value_bytes, memory);
                self.note(Line::Load(load, pipeline), Who::Floor, floor::measure(core, &floor)?);
            }
        }
        if self.loads().any(|load| load == Load::Get) {
            let dir = self.scratch()?;
            let of = |operation, requests| {
                let what = (operation, 16);
                floor::Options::new(dir.path(), what, (keys, requests), value_bytes, memory)
            };
            floor::measure(core, &of(Operation::Fill, keys))?;
            let few = (keys / ONE_BY_ONE).max(1);
            self.note(Line::Cold, Who::Floor, floor::measure(core, &of(Operation::Cold, few))?);
            let warm = floor::measure(core, &of(Operation::Get, few))?;
            for pipeline in PIPELINES {
                self.note(Line::Load(Load::Get, pipeline), Who::Floor, warm);
            }
        }
        Ok(())
    }
}

/// What INFO counts.
struct Counters {
    commits: u64,
    hits: u64,
    misses: u64,
}

impl Counters {
    fn read(client: &mut Client) -> Result<Self> {
        Ok(Self {
            commits: client.info("godwit_commits")?,
            hits: client.info("godwit_cache_hits")?,
            misses: client.info("godwit_cache_misses")?,
        })
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            commits: self.commits - before.commits,
            hits: self.hits - before.hits,
            misses: self.misses - before.misses,
        }
    }

    fn hit_rate(&self) -> f64 {
        self.hits as f64 / (self.hits + self.misses).max(1) as f64
    }
}
