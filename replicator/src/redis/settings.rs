//! What may be set for following a Redis.

use std::path::PathBuf;

use ops::config::ConfigError;
use ops::tls::ClientFiles;
use ops::units::Size;
use serde::{Deserialize, Serialize};

use super::address::Address;

/// The position key, if no other is given.
const POSITION_KEY: &str = "godwit.redis.position";
/// The least spool that is of use: two files of the stream.
const SPOOL_BYTES_MIN: u64 = 128 << 20;

/// Flags, GODWIT_* and the keys of the config file.
#[derive(clap::Args, Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// The Redis to follow: redis://, rediss:// or unix://, with user and password
    #[arg(long, env = "GODWIT_FROM", value_name = "ADDRESS", hide_env_values = true)]
    pub from: Option<String>,
    /// What to write: a Godwit node, a node of a Godwit cluster for all of it, or any Redis that stands alone
    #[arg(long, env = "GODWIT_TO", value_name = "ADDRESS", hide_env_values = true)]
    pub to: Option<String>,
    /// Where to keep what is received and not applied, and the status
    #[arg(long, env = "GODWIT_STATE", value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// The most that is received and not applied before the source has to wait [default: 16GiB]
    #[arg(long, env = "GODWIT_SPOOL_BUDGET", value_name = "SIZE")]
    pub spool_budget: Option<Size>,
    /// The key of the target that holds the position [default: godwit.redis.position]
    #[arg(long, env = "GODWIT_POSITION_KEY", value_name = "KEY")]
    pub position_key: Option<String>,
    /// Delete what is in a target that was never followed into
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
    /// The source.
    pub from: Address,
    /// The target.
    pub to: Address,
    /// The directory of spool and status.
    pub state: PathBuf,
    /// The most bytes of the spool.
    pub spool_budget: u64,
    /// The position key.
    pub position_key: String,
    /// Whether a target that is not ours may be emptied.
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
            from: address(settings.from, "from")?,
            to: address(settings.to, "to")?,
            state: settings.state.ok_or_else(|| missing("state"))?,
            spool_budget: settings.spool_budget.map_or(16 << 30, |size| size.0),
            position_key: settings.position_key.unwrap_or_else(|| POSITION_KEY.to_owned()),
            overwrite: settings.overwrite.unwrap_or(false),
            tls: client_files(settings.tls_ca, settings.tls_cert, settings.tls_key)?,
        };
        if config.from.endpoint == config.to.endpoint {
            return Err(ConfigError::invalid("--from and --to are the same server"));
        }
        if (config.from.tls || config.to.tls) && config.tls.is_none() {
            return Err(ConfigError::invalid("rediss:// needs --tls-ca"));
        }
        if config.spool_budget < SPOOL_BYTES_MIN {
            return Err(ConfigError::invalid(format!(
                "--spool-budget of {} bytes is too small: at least {SPOOL_BYTES_MIN}",
                config.spool_budget
            )));
        }
        if config.position_key.is_empty() || config.position_key.contains(['{', '}']) {
            return Err(ConfigError::invalid(
                "--position-key must be a name without braces: of several shards each gets one with a hash tag",
            ));
        }
        Ok(config)
    }
}

/// The files that these settings name together.
pub fn client_files(
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
) -> Result<Option<ClientFiles>, ConfigError> {
    let own = match (cert, key) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        _ => return Err(ConfigError::invalid("--tls-cert and --tls-key go together")),
    };
    match (ca, own) {
        (Some(ca), own) => Ok(Some(ClientFiles { ca, own })),
        (None, None) => Ok(None),
        (None, Some(_)) => Err(ConfigError::invalid("--tls-cert needs --tls-ca")),
    }
}
