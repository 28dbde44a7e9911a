//! `godwit-replicator`: parses the command line and calls in.

use std::process::ExitCode;

use clap::Parser;
use godwit_replicator::settings::{Config, Settings};
use godwit_replicator::verbs::{self, Verb};

const EXAMPLES: &str = "\
Examples:
  godwit-replicator --node-dir /var/lib/godwit --listen 0.0.0.0:6500 --announce 10.0.0.5:6500 \\
      --registry file:/var/lib/godwit-registry --service shop --cluster a --shard 0 \\
      --tls-ca ca.pem --tls-cert sidecar.pem --tls-key sidecar.key
  godwit-replicator --config replicator.toml --check-config

  How streams are, and what will be lacking
    godwit-replicator status --registry file:/var/lib/godwit-registry --service shop

  What an old primary had acknowledged alone, and giving it back
    godwit-replicator ledger list --node-dir /var/lib/godwit
    godwit-replicator ledger replay NAME --if-unchanged --dry-run --node-dir /var/lib/godwit \\
        --registry file:/var/lib/godwit-registry --service shop

  In from a stock Redis, and out to one
    godwit-replicator redis-in --from redis://10.0.0.9 --to redis://10.0.0.5 --state /var/lib/in
    godwit-replicator redis-out --node-dir /var/lib/godwit --node redis://127.0.0.1 \\
        --to redis://10.0.0.9 --state /var/lib/out

  Whether standbys hold what their primaries do, and mending what does not
    godwit-replicator verify --keys --registry file:/var/lib/godwit-registry --service shop
    godwit-replicator repair --yes --registry file:/var/lib/godwit-registry --service shop

  A standby that is behind on purpose, and a breaker that has tripped
    godwit-replicator catch-up --node-dir /var/lib/godwit
    godwit-replicator apply-anyway --yes --node-dir /var/lib/godwit

  Which moments are archived, and a node's directory as of one
    godwit-replicator archive list --from s3://backups/godwit
    godwit-replicator restore --from s3://backups/godwit --shard a/0 --to /var/lib/godwit/restored \\
        --at 2026-11-22T05:10:00Z

Run it beside the node: same machine, same mount, same user.";

#[derive(Parser)]
#[command(name = "godwit-replicator", version, about = "The sidecar of a Godwit node: ships its log to other clusters, and applies theirs", after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
struct Args {
    #[command(flatten)]
    common: ops::cli::Common,
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    verb: Option<Verb>,
}

fn main() -> ExitCode {
    ops::cli::run("godwit-replicator", async {
        let Args { mut common, settings, verb } = Args::parse();
        if let Some(verb) = verb {
            if verb.is_daemon() {
                return verbs::run(verb).await;
            }
            let filter = std::env::var("GODWIT_LOG").unwrap_or_else(|_| "warn".to_owned());
            ops::log::start(&filter, ops::log::Format::Text)?;
            return verbs::run(verb).await;
        }
        if let Some(exit) = common.completions::<Args>() {
            return Ok(exit);
        }
        let config = Config::of(common.load(settings)?)?;
        if let Some(exit) = common.checked() {
            return Ok(exit);
        }
        common.start_logging()?;
        let shutdown = ops::shutdown::Shutdown::on_signals()?;
        godwit_replicator::run(config, common.metrics, shutdown).await?;
        Ok(ops::exit::Exit::Done)
    })
}
