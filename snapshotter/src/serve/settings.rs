//! What `serve` needs to know.

use std::path::PathBuf;
use std::time::Duration;

use ops::config::ConfigError;
use ops::tls::{MutualConfig, MutualSettings, Switch};
use ops::units::{Size, Span};
use serde::{Deserialize, Serialize};
use store::StoreError;
use store::bucket::S3Options;

use topology::ShardName;

use super::MaterialiseConfig;
use crate::config::{StoreConfig, StoreUrl};
use crate::materialise::Place;

/// What stays free where the snapshots are, if nothing else is said.
const FREE_DEFAULT: u64 = 1 << 30;
/// Connections at a time, if nothing else is said.
const CONNECTIONS_DEFAULT: usize = 32;
/// Memory for objects on their way, if nothing else is said.
const MEMORY_DEFAULT: u64 = 768 << 20;
/// How long a handshake may take, if nothing else is said.
const HANDSHAKE_DEFAULT: Duration = Duration::from_secs(5);

/// The settings of `serve`, from flags, environment and file.
#[derive(Clone, Debug, Default, clap::Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ServeSettings {
    /// Where pushers connect
    #[arg(id = "serve-listen", long = "listen", env = "GODWIT_LISTEN", value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Whose snapshots are kept
    #[arg(id = "serve-service", long = "service", env = "GODWIT_SERVICE", value_name = "NAME")]
    pub service: Option<String>,
    /// Where they are kept: a directory, or s3://bucket/prefix
    #[arg(id = "serve-in", long = "in", env = "GODWIT_IN", value_name = "URL")]
    pub r#in: Option<String>,
    /// The URL of an S3 store that is not Amazon's
    #[arg(id = "serve-endpoint", long = "endpoint", env = "GODWIT_ENDPOINT", value_name = "URL")]
    pub endpoint: Option<String>,
    /// The region of the bucket
    #[arg(id = "serve-region", long = "region", env = "GODWIT_REGION", value_name = "NAME")]
    pub region: Option<String>,
    /// What must stay free on the volume of a directory, and where snapshots are materialised [default: 1GiB]
    #[arg(id = "serve-free", long = "free", env = "GODWIT_FREE", value_name = "SIZE")]
    pub free: Option<Size>,
    /// Keep so many of the newest snapshots of each cluster materialised, for `activate` [default: 0, none]
    #[arg(
        id = "serve-materialise",
        long = "materialise",
        env = "GODWIT_MATERIALISE",
        value_name = "N"
    )]
    pub materialise: Option<usize>,
    /// Of these shards, such as a/0 [default: all]
    #[arg(
        id = "serve-materialise-shards",
        long = "materialise-shards",
        env = "GODWIT_MATERIALISE_SHARDS",
        value_name = "SHARD,...",
        value_delimiter = ','
    )]
    pub materialise_shards: Option<Vec<String>>,
    /// Where: on the file system of the nodes that are to have them [default: beside --in, DIR.materialised]
    #[arg(
        id = "serve-materialised",
        long = "materialised",
        env = "GODWIT_MATERIALISED",
        value_name = "DIR"
    )]
    pub materialised: Option<PathBuf>,
    /// Connections at a time [default: 32]
    #[arg(
        id = "serve-connections",
        long = "connections",
        env = "GODWIT_CONNECTIONS",
        value_name = "N"
    )]
    pub connections: Option<usize>,
    /// Memory for objects on their way [default: 768MiB]
    #[arg(id = "serve-memory", long = "memory", env = "GODWIT_MEMORY", value_name = "SIZE")]
    pub memory: Option<Size>,
    /// How long a handshake may take [default: 5s]
    #[arg(
        id = "serve-handshake",
        long = "handshake",
        env = "GODWIT_HANDSHAKE",
        value_name = "SPAN"
    )]
    pub handshake: Option<Span>,
    /// Whether TLS is spoken [default: on if there is a certificate]
    #[arg(id = "serve-tls", long = "tls", env = "GODWIT_TLS", value_enum)]
    pub tls: Option<Switch>,
    /// The authorities of the pushers' certificates, as PEM
    #[arg(id = "serve-tls-ca", long = "tls-ca", env = "GODWIT_TLS_CA", value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// Our own certificate, with those between it and its authority, as PEM
    #[arg(id = "serve-tls-cert", long = "tls-cert", env = "GODWIT_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// Its private key, as PEM
    #[arg(id = "serve-tls-key", long = "tls-key", env = "GODWIT_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Names that a pusher's certificate may have, beside `snapshotter.SERVICE.godwit`
    #[arg(
        id = "serve-tls-peers",
        long = "tls-peers",
        env = "GODWIT_TLS_PEERS",
        value_name = "NAME,...",
        value_delimiter = ','
    )]
    pub tls_peers: Option<Vec<String>>,
}

/// Settings that were checked.
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// Where to listen.
    pub listen: String,
    /// Whose snapshots.
    pub service: String,
    /// Where they are kept.
    pub store: StoreConfig,
    /// Bytes that stay free on a directory's volume.
    pub free: u64,
    /// What is materialised, if anything is.
    pub materialise: Option<MaterialiseConfig>,
    /// Connections at a time.
    pub connections: usize,
    /// Bytes of objects on their way.
    pub memory: u64,
    /// How long a handshake may take.
    pub handshake: Duration,
    /// TLS, unless it is off.
    pub tls: Option<MutualConfig>,
}

impl ServeSettings {
    /// Checks them.
    ///
    /// # Errors
    /// A sentence that says what is missing or wrong.
    pub fn validate(self) -> Result<ServeConfig, ConfigError> {
        let need = |name: &str, value: Option<String>| {
            value.ok_or_else(|| ConfigError::invalid(format!("`{name}` is not set: give --{name}")))
        };
        let wrong = |why: StoreError| ConfigError::invalid(why.to_string());
        let listen = need("listen", self.listen)?;
        let service = need("service", self.service)?;
        if !topology::record::is_name(&service) {
            return Err(ConfigError::invalid(format!("`{service}` is no name of a service")));
        }
        let url: StoreUrl = need("in", self.r#in)?.parse().map_err(wrong)?;
        if matches!(url, StoreUrl::Served(_)) {
            return Err(ConfigError::invalid(
                "--in is where snapshots are kept, not another daemon",
            ));
        }
        let tls = MutualSettings {
            tls: self.tls,
            ca: self.tls_ca,
            cert: self.tls_cert,
            key: self.tls_key,
            peers: self.tls_peers.unwrap_or_default(),
        };
        let connections = self.connections.unwrap_or(CONNECTIONS_DEFAULT);
        if connections == 0 {
            return Err(ConfigError::invalid("--connections must be at least 1"));
        }
        let free = self.free.map_or(FREE_DEFAULT, |size| size.0);
        let shards: Result<Vec<ShardName>, _> =
            self.materialise_shards.unwrap_or_default().iter().map(|name| name.parse()).collect();
        let shards = shards.map_err(|why| ConfigError::invalid(why.to_string()))?;
        let materialise = match (self.materialise.unwrap_or(0), &url) {
            (0, _) if !shards.is_empty() => {
                return Err(ConfigError::invalid(
                    "--materialise-shards says of which shards, and --materialise not how many: give it too",
                ));
            }
            (0, _) => None,
            (keep, StoreUrl::Bucket(address)) => {
                let place = Place::new(self.materialised.as_deref(), address);
                let place = place.map_err(|why| ConfigError::invalid(why.to_string()))?;
                Some(MaterialiseConfig { keep, shards, place, free })
            }
            (_, StoreUrl::Served(_)) => None,
        };
        Ok(ServeConfig {
            materialise,
            tls: tls.check(Some(&listen))?,
            listen,
            service,
            store: StoreConfig {
                url,
                options: S3Options::with(self.endpoint, self.region, None).map_err(wrong)?,
                key_file: None,
            },
            free,
            connections,
            memory: self.memory.map_or(MEMORY_DEFAULT, |size| size.0),
            handshake: self.handshake.map_or(HANDSHAKE_DEFAULT, |span| span.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_what_it_says_and_has_every_setting() {
        let text = include_str!("../../godwit-snapshotter-serve.toml");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        std::fs::write(&path, text).unwrap();
        let mut common = ops::cli::Common { config: Some(path), ..Default::default() };
        let settings: ServeSettings = common.load(ServeSettings::default()).unwrap();
        settings.validate().unwrap();
        let all = serde_json::to_value(ServeSettings::default()).unwrap();
        for key in all.as_object().unwrap().keys() {
            let has = text.lines().any(|line| {
                line.trim_start_matches('#').trim_start().starts_with(&format!("{key} ="))
            });
            assert!(has, "the sample lacks {key}");
        }
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let good = || ServeSettings {
            listen: Some("127.0.0.1:0".to_owned()),
            service: Some("demo".to_owned()),
            r#in: Some("/s".to_owned()),
            ..ServeSettings::default()
        };
        good().validate().unwrap();
        let refusal = |settings: ServeSettings| settings.validate().unwrap_err().to_string();
        assert!(refusal(ServeSettings { service: None, ..good() }).contains("--service"));
        let daemon = Some("godwit://a:1".to_owned());
        assert!(refusal(ServeSettings { r#in: daemon, ..good() }).contains("another daemon"));
        let open = Some("0.0.0.0:1".to_owned());
        assert!(refusal(ServeSettings { listen: open, ..good() }).contains("certificate"));
        assert!(refusal(ServeSettings { connections: Some(0), ..good() }).contains("at least 1"));
        let kept = ServeSettings { materialise: Some(2), ..good() }.validate().unwrap().materialise;
        assert_eq!(kept.unwrap().place.root(), std::path::Path::new("/s.materialised"));
        let bucket = Some("s3://backups/godwit".to_owned());
        let nowhere = ServeSettings { r#in: bucket, materialise: Some(1), ..good() };
        assert!(refusal(nowhere).contains("--materialised"));
        let which = Some(vec!["a/0".to_owned()]);
        assert!(
            refusal(ServeSettings { materialise_shards: which, ..good() }).contains("how many")
        );
    }
}
