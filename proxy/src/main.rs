//! godwit-proxy: parses its arguments and calls [`godwit_proxy::run`].

use clap::Parser;
use ops::exit::Exit;
use ops::shutdown::Shutdown;

const EXAMPLES: &str = "\
Examples:
  Front one node, or any Redis:
    godwit-proxy --listen 127.0.0.1:6300 --backend 127.0.0.1:6400
  Serve a service in its cluster `a`:
    godwit-proxy --listen 0.0.0.0:6300 --announce 10.0.0.5:6300 \\
      --registry file:/var/lib/godwit/registry --service shop --cluster a --metrics 0.0.0.0:9300
  Check a config file:
    godwit-proxy --config /etc/godwit/proxy.toml --check-config

Exit codes: 0 done, 1 failed, 2 usage.";

/// Sends each command of its clients to the primary of its slot, and holds writes during a switch.
#[derive(Parser)]
#[command(name = "godwit-proxy", version, after_help = EXAMPLES)]
struct Args {
    #[command(flatten)]
    settings: godwit_proxy::config::Settings,
    #[command(flatten)]
    common: ops::cli::Common,
}

fn main() -> std::process::ExitCode {
    ops::cli::run("godwit-proxy", async {
        let Args { settings, mut common } = Args::parse();
        if let Some(exit) = common.completions::<Args>() {
            return Ok(exit);
        }
        let config = common.load(settings)?.validate()?;
        if let Some(exit) = common.checked() {
            return Ok(exit);
        }
        common.start_logging()?;
        let shutdown = Shutdown::on_signals()?;
        godwit_proxy::run(config, common.metrics, shutdown).await?;
        Ok(Exit::Done)
    })
}
