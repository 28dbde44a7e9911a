//! In from a stock Redis, and out to one: verbs that run until they are told to stop.

use std::path::PathBuf;

use clap::{Args, Parser};
use ops::cli::Common;
use ops::config::ConfigError;
use ops::exit::Exit;
use ops::shutdown::Shutdown;

use super::Verb;
use crate::redis::{self, board, out};

const IN_EXAMPLES: &str = "\
Examples:
  godwit-replicator redis-in --from redis://10.0.0.9:6379 --to redis://10.0.0.5:6379 \\
      --state /var/lib/godwit-in
  godwit-replicator redis-in --config redis-in.toml --check-config
  godwit-replicator redis-in --state /var/lib/godwit-in --status

It connects to both servers as a client; nothing of it has to run beside either.";

const OUT_EXAMPLES: &str = "\
Examples:
  godwit-replicator redis-out --node-dir /var/lib/godwit/node --node redis://127.0.0.1:6379 \\
      --to redis://10.0.0.9:6379 --state /var/lib/godwit-out
  godwit-replicator redis-out --config redis-out.toml --check-config
  godwit-replicator redis-out --state /var/lib/godwit-out --status

Run it beside the node, with or without a sidecar: same machine, same mount, same user.";

/// The way in.
#[derive(Args, Clone, Debug)]
#[command(after_help = IN_EXAMPLES)]
pub struct InArgs {
    /// Print how it goes, as JSON, and exit; needs --state alone
    #[arg(long)]
    status: bool,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    settings: redis::settings::Settings,
}

/// The way out.
#[derive(Args, Clone, Debug)]
#[command(after_help = OUT_EXAMPLES)]
pub struct OutArgs {
    /// Print how it goes, as JSON, and exit; needs --state alone
    #[arg(long)]
    status: bool,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    settings: out::settings::Settings,
}

/// The verbs, for their completions.
#[derive(Parser)]
#[command(name = "godwit-replicator")]
struct Program {
    #[command(subcommand)]
    _verb: Verb,
}

pub(super) async fn enter(args: InArgs) -> anyhow::Result<Exit> {
    let InArgs { status, mut common, settings } = args;
    if let Some(exit) = common.completions::<Program>() {
        return Ok(exit);
    }
    let settings = common.load(settings)?;
    if status {
        return say_status(settings.state);
    }
    let config = redis::settings::Config::of(settings)?;
    if let Some(exit) = common.checked() {
        return Ok(exit);
    }
    common.start_logging()?;
    redis::run(config, common.metrics, Shutdown::on_signals()?).await?;
    Ok(Exit::Done)
}

pub(super) async fn leave(args: OutArgs) -> anyhow::Result<Exit> {
    let OutArgs { status, mut common, settings } = args;
    if let Some(exit) = common.completions::<Program>() {
        return Ok(exit);
    }
    let settings = common.load(settings)?;
    if status {
        return say_status(settings.state);
    }
    let config = out::settings::Config::of(settings)?;
    if let Some(exit) = common.checked() {
        return Ok(exit);
    }
    common.start_logging()?;
    out::run(config, common.metrics, Shutdown::on_signals()?).await?;
    Ok(Exit::Done)
}

/// Prints the status file of a state directory.
fn say_status(state: Option<PathBuf>) -> anyhow::Result<Exit> {
    let state = state.ok_or_else(|| ConfigError::invalid("--state is missing"))?;
    let path = board::path(&state);
    let text = std::fs::read_to_string(&path)
        .map_err(|why| anyhow::anyhow!("cannot read {}: {why}", path.display()))?;
    ops::cli::say(&text);
    Ok(Exit::Done)
}
