//! What a push needs to know. The other verbs take flags alone.

use std::path::PathBuf;

use ops::config::ConfigError;
use ops::tls::{MutualConfig, MutualSettings, Switch};
use ops::units::Span;
use serde::{Deserialize, Serialize};
use store::Address;

use crate::cli::Output;

/// How many shards are fetched at a time, if nothing else is said.
const PARALLEL_DEFAULT: usize = 4;
/// More connections at a time help nobody.
const PARALLEL_MAX: usize = 256;
/// How long to wait for the registry to show a record and every sidecar.
const WAIT_DEFAULT: Span = Span::secs(10);

/// The settings of `push`, from flags, environment and file.
#[derive(Clone, Debug, Default, clap::Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// The registry: `file:/dir`
    #[arg(long, env = "GODWIT_REGISTRY", value_name = "REGISTRY")]
    pub registry: Option<String>,
    /// The service
    #[arg(long, env = "GODWIT_SERVICE", value_name = "NAME")]
    pub service: Option<String>,
    /// The cluster whose shards are to be stored; a standby cluster will do, and spares the active
    #[arg(long, env = "GODWIT_CLUSTER", value_name = "NAME")]
    pub cluster: Option<String>,
    /// The store: `file:///path`; made if it is not there
    #[arg(long, env = "GODWIT_TO", value_name = "URL")]
    pub to: Option<String>,
    /// How many shards to fetch at a time [default: 4]
    #[arg(long, env = "GODWIT_PARALLEL", value_name = "N")]
    pub parallel: Option<usize>,
    /// How long to wait for the shards' sidecars to appear in the registry [default: 10s]
    #[arg(long, env = "GODWIT_WAIT", value_name = "SPAN")]
    pub wait: Option<Span>,
    /// What the last line looks like [default: text]
    #[arg(long, env = "GODWIT_OUTPUT", value_enum)]
    pub output: Option<Output>,
    /// Whether TLS is spoken; as the sidecars do [default: on if there is a certificate]
    #[arg(long, env = "GODWIT_TLS", value_enum)]
    pub tls: Option<Switch>,
    /// The authorities of the peers' certificates, as PEM
    #[arg(long, env = "GODWIT_TLS_CA", value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// Our own certificate, with those between it and its authority, as PEM
    #[arg(long, env = "GODWIT_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// Its private key, as PEM
    #[arg(long, env = "GODWIT_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Names that any peer's certificate may have, beside `SHARD.CLUSTER.SERVICE.godwit`
    #[arg(long, env = "GODWIT_TLS_PEERS", value_name = "NAME,...", value_delimiter = ',')]
    pub tls_peers: Option<Vec<String>>,
}

/// Settings that were checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the registry is.
    pub registry: String,
    /// The service.
    pub service: String,
    /// The cluster.
    pub cluster: String,
    /// The store.
    pub to: Address,
    /// Shards at a time.
    pub parallel: usize,
    /// How long to wait for the registry.
    pub wait: std::time::Duration,
    /// What the last line looks like.
    pub output: Output,
    /// TLS with the sidecars, unless it is off.
    pub tls: Option<MutualConfig>,
}

impl Settings {
    /// Checks them.
    ///
    /// # Errors
    /// A sentence that says what is missing or wrong.
    pub fn validate(self) -> Result<Config, ConfigError> {
        let name = |kind: &str, flag: &str, value: Option<String>| {
            let value = need(flag, value)?;
            if topology::record::is_name(&value) {
                return Ok(value);
            }
            Err(ConfigError::invalid(format!(
                "`{value}` is no name of a {kind}: letters, digits, `-` and `_`, at most 63"
            )))
        };
        let parallel = self.parallel.unwrap_or(PARALLEL_DEFAULT);
        if parallel == 0 || parallel > PARALLEL_MAX {
            return Err(ConfigError::invalid(format!(
                "--parallel {parallel}: write a number of 1 to {PARALLEL_MAX}"
            )));
        }
        let tls = MutualSettings {
            tls: self.tls,
            ca: self.tls_ca,
            cert: self.tls_cert,
            key: self.tls_key,
            peers: self.tls_peers.unwrap_or_default(),
        };
        let to = need("to", self.to)?;
        Ok(Config {
            registry: need("registry", self.registry)?,
            service: name("service", "service", self.service)?,
            cluster: name("cluster", "cluster", self.cluster)?,
            to: to
                .parse()
                .map_err(|why: store::StoreError| ConfigError::invalid(why.to_string()))?,
            parallel,
            wait: self.wait.unwrap_or(WAIT_DEFAULT).duration(),
            output: self.output.unwrap_or_default(),
            tls: tls.check(None)?,
        })
    }
}

fn need(flag: &str, value: Option<String>) -> Result<String, ConfigError> {
    value.ok_or_else(|| {
        let variable = flag.to_uppercase().replace('-', "_");
        ConfigError::invalid(format!(
            "`{flag}` is not set: give --{flag}, GODWIT_{variable} or the key in a config file"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Settings {
        Settings {
            registry: Some("file:/r".to_owned()),
            service: Some("demo".to_owned()),
            cluster: Some("a".to_owned()),
            to: Some("file:///s".to_owned()),
            ..Settings::default()
        }
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        assert_eq!(good().validate().unwrap().parallel, PARALLEL_DEFAULT);
        let refusal = |settings: Settings| settings.validate().unwrap_err().to_string();
        assert!(refusal(Settings { to: None, ..good() }).contains("--to"));
        assert!(refusal(Settings { to: Some("s3://b".into()), ..good() }).contains("not built"));
        assert!(refusal(Settings { parallel: Some(0), ..good() }).contains("--parallel 0"));
        assert!(refusal(Settings { cluster: Some("a/b".into()), ..good() }).contains("`a/b`"));
    }

    #[test]
    fn the_sample_is_what_it_says() {
        let sample: Settings = toml_of(include_str!("../godwit-snapshotter.toml"));
        sample.validate().unwrap();
    }

    fn toml_of(text: &str) -> Settings {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        // `log` and `metrics` are keys of every daemon, and taken out before.
        let mut common = ops::cli::Common { config: Some(path.clone()), ..Default::default() };
        std::fs::write(&path, text).unwrap();
        common.load(Settings::default()).unwrap()
    }
}
