//! What may be set for feeding a Redis.

use std::path::PathBuf;
use std::time::Duration;

use ops::config::ConfigError;
use ops::tls::ClientFiles;
use ops::units::{Size, Span};
use serde::{Deserialize, Serialize};

use crate::redis::address::Address;
use crate::redis::settings::client_files;
use crate::spool::Budget;

/// The position key's beginning, if no other is given; the id of the node's database follows.
const POSITION_KEY: &str = "godwit.redis.position";

/// Flags, GODWIT_* and the keys of the config file.
#[derive(clap::Args, Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// The node's directory, on the same mount as the node sees it
    #[arg(long, env = "GODWIT_NODE_DIR", value_name = "DIR")]
    pub node_dir: Option<PathBuf>,
    /// Where the node serves clients: redis://, rediss:// or unix://, with user and password
    #[arg(long, env = "GODWIT_NODE", value_name = "ADDRESS", hide_env_values = true)]
    pub node: Option<String>,
    /// The Redis to write
    #[arg(long, env = "GODWIT_TO", value_name = "ADDRESS", hide_env_values = true)]
    pub to: Option<String>,
    /// Where to keep the status
    #[arg(long, env = "GODWIT_STATE", value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// The most that the spool of log files may take before a new copy is needed [default: 16GiB]
    #[arg(long, env = "GODWIT_SPOOL_BUDGET", value_name = "SIZE")]
    pub spool_budget: Option<Size>,
    /// How old a log file may become in it [default: 24h]
    #[arg(long, env = "GODWIT_SPOOL_AGE", value_name = "SPAN")]
    pub spool_age: Option<Span>,
    /// What must stay free on the volume [default: 512MiB]
    #[arg(long, env = "GODWIT_SPOOL_FREE", value_name = "SIZE")]
    pub spool_free: Option<Size>,
    /// What the key of the target that holds the position begins with [default: godwit.redis.position]
    #[arg(long, env = "GODWIT_POSITION_KEY", value_name = "KEY")]
    pub position_key: Option<String>,
    /// Delete from a target that was never fed what the node does not have
    #[arg(long, env = "GODWIT_OVERWRITE", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub overwrite: Option<bool>,
    /// The authorities of servers behind rediss://, as PEM
    #[arg(long, env = "GODWIT_TLS_CA", value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// Our certificate for servers that ask for one, as PEM
    #[arg(long, env = "GODWIT_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// The key of that certificate, as PEM
    #[arg(long, env = "GODWIT_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
}

/// What it runs with.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node's directory.
    pub node_dir: PathBuf,
    /// Where the node serves clients.
    pub node: Address,
    /// The target.
    pub to: Address,
    /// The directory of the status.
    pub state: PathBuf,
    /// The limits of the spool.
    pub budget: Budget,
    /// What the position key begins with.
    pub position_key: String,
    /// Whether a target that was never fed may lose what the node does not have.
    pub overwrite: bool,
    /// The files for TLS.
    pub tls: Option<ClientFiles>,
}

impl Config {
    /// Checks the whole of it, in sentences.
    pub fn of(settings: Settings) -> Result<Self, ConfigError> {
        let missing = |name: &str| ConfigError::invalid(format!("--{name} is missing"));
        let address = |text: Option<String>, name: &str| {
            let text = text.ok_or_else(|| missing(name))?;
            let parsed = text.parse::<Address>();
            parsed.map_err(|why| ConfigError::invalid(format!("--{name}: {why}")))
        };
        let config = Self {
            node_dir: settings.node_dir.ok_or_else(|| missing("node-dir"))?,
            node: address(settings.node, "node")?,
            to: address(settings.to, "to")?,
            state: settings.state.ok_or_else(|| missing("state"))?,
            budget: Budget {
                bytes: settings.spool_budget.map_or(16 << 30, |size| size.0),
                age: settings.spool_age.map_or(Duration::from_secs(24 * 3600), |span| span.0),
                free: settings.spool_free.map_or(512 << 20, |size| size.0),
            },
            position_key: settings.position_key.unwrap_or_else(|| POSITION_KEY.to_owned()),
            overwrite: settings.overwrite.unwrap_or(false),
            tls: client_files(settings.tls_ca, settings.tls_cert, settings.tls_key)?,
        };
        if config.node.endpoint == config.to.endpoint {
            return Err(ConfigError::invalid("--node and --to are the same server"));
        }
        if (config.node.tls || config.to.tls) && config.tls.is_none() {
            return Err(ConfigError::invalid("rediss:// needs --tls-ca"));
        }
        if config.budget.bytes < 1 << 20 {
            return Err(ConfigError::invalid("--spool-budget is too small: at least 1MiB"));
        }
        if config.position_key.is_empty() || config.position_key.contains(['{', '}']) {
            return Err(ConfigError::invalid("--position-key must be a name without braces"));
        }
        Ok(config)
    }
}
