//! godwit-node: see the library's front page.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use godwit_node::config::Settings;
use ops::exit::Exit;
use ops::shutdown::Shutdown;

/// A storage node: the Redis protocol over RocksDB
#[derive(Parser)]
#[command(name = "godwit-node", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
struct Args {
    #[command(flatten)]
    common: ops::cli::Common,
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Subcommand)]
enum Verb {
    /// Compact everything that a running node holds, and return when done
    Compact(admin::NodeArgs),
    /// Build files for `ingest` from rows of TSV, CSV or Parquet; prints a report as JSON
    Build(Box<godwit_node::bulk::BuildArgs>),
    /// Have a running node take in its part of a load, all of it or nothing; prints a report as JSON
    Ingest(godwit_node::bulk::IngestArgs),
    /// Have a running node write what is live in some slots, as of one position, into a load; prints
    /// a report as JSON
    Export(godwit_node::bulk::slots::ExportArgs),
    /// Have a running node delete all that is in some slots, at once; prints a report as JSON
    Delete(godwit_node::bulk::slots::DeleteArgs),
}

const EXAMPLES: &str = "\
Examples:
  Stand alone: no registry, no config file
    godwit-node --dir /var/lib/godwit/node --listen 127.0.0.1:6400

  Shard 0 of cluster a of service demo
    godwit-node --dir /data/a0 --listen 10.0.0.1:6400 --metrics 10.0.0.1:9400 \\
      --registry etcd://10.0.0.2:2379,10.0.0.3:2379,10.0.0.4:2379 \\
      --service demo --cluster a --shard 0

  From a config file, with one setting changed
    godwit-node --config /etc/godwit/node.toml --durability always

  Compact a running node
    godwit-node compact --admin unix:/var/lib/godwit/node/admin.sock

  Load a table: a hash a row, spread over 16 prefixes, then into a running node
    godwit-node build people.tsv --out load --type hash --key '{person:%{#16}}_%{id}'
    godwit-node ingest load --admin unix:/var/lib/godwit/node/admin.sock

  Bring half of the slots to another node, then delete them here
    godwit-node export 0-8191 --out /backup/half --admin unix:/var/lib/godwit/node/admin.sock
    godwit-node ingest /backup/half --admin unix:/var/lib/godwit/other/admin.sock
    godwit-node delete 0-8191 --yes --admin unix:/var/lib/godwit/node/admin.sock";

fn main() -> ExitCode {
    let args = Args::parse();
    ops::cli::run("godwit-node", start(args))
}

async fn start(args: Args) -> anyhow::Result<Exit> {
    let Args { mut common, settings, verb } = args;
    match verb {
        Some(Verb::Compact(node)) => {
            node.connect().await?.compact().await?;
            return Ok(Exit::Done);
        }
        Some(Verb::Build(args)) => {
            common.start_logging()?;
            let report =
                tokio::task::spawn_blocking(move || godwit_node::bulk::build(&args)).await??;
            ops::cli::say(&serde_json::to_string_pretty(&report)?);
            return Ok(Exit::Done);
        }
        Some(Verb::Ingest(args)) => {
            common.start_logging()?;
            let report = godwit_node::bulk::ingest(&args).await?;
            ops::cli::say(&serde_json::to_string_pretty(&report)?);
            return Ok(Exit::Done);
        }
        Some(Verb::Export(args)) => {
            common.start_logging()?;
            let report = godwit_node::bulk::slots::export(&args).await?;
            ops::cli::say(&serde_json::to_string_pretty(&report)?);
            return Ok(Exit::Done);
        }
        Some(Verb::Delete(args)) => {
            common.start_logging()?;
            let report = godwit_node::bulk::slots::delete(&args).await?;
            ops::cli::say(&serde_json::to_string_pretty(&report)?);
            return Ok(Exit::Done);
        }
        None => {}
    }
    if let Some(exit) = common.completions::<Args>() {
        return Ok(exit);
    }
    let config = common.load(settings)?.validate()?;
    if let Some(exit) = common.checked() {
        return Ok(exit);
    }
    common.start_logging()?;
    godwit_node::run(config, common.metrics.clone(), Shutdown::on_signals()?).await
}
