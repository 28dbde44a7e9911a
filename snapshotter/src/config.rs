//! What a push needs to know. The other verbs take flags alone.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::ValueEnum;
use ops::config::ConfigError;
use ops::tls::{Mutual, MutualConfig, MutualSettings, PeerName, Switch};
use ops::units::{Size, Span};
use serde::{Deserialize, Serialize};
use store::StoreError;
use store::bucket::{Bucket, BucketAddress, S3Options, ServedOptions};
use store::repository::{Keys, Manifest};

use crate::cli::Output;
use crate::cron::load::Limit;
use crate::cron::{Cron, CronSettings, Window};
use crate::push::ChainLimits;

/// How many shards are fetched at a time, if nothing else is said.
const PARALLEL_DEFAULT: usize = 4;
/// More connections at a time help nobody.
const PARALLEL_MAX: usize = 256;
/// Segments that may follow on one set of files, if nothing else is said: a restore fetches each.
const LOG_SEGMENTS_DEFAULT: usize = 1024;
/// Their bytes, of a hundred of the files'.
const LOG_PERCENT_DEFAULT: u64 = 25;
/// How long to wait for the registry to show a record and every sidecar.
const WAIT_DEFAULT: Span = Span::secs(10);

/// The settings of `push`, from flags, environment and file.
#[derive(Clone, Debug, Default, clap::Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// The registry: `etcd://host:port`, or `file:/dir` for one machine
    #[arg(long, env = "GODWIT_REGISTRY", value_name = "REGISTRY")]
    pub registry: Option<String>,
    /// The service
    #[arg(long, env = "GODWIT_SERVICE", value_name = "NAME")]
    pub service: Option<String>,
    /// The cluster whose shards are to be stored; a standby cluster will do, and spares the active
    #[arg(long, env = "GODWIT_CLUSTER", value_name = "NAME")]
    pub cluster: Option<String>,
    /// The store: a directory, s3://bucket/prefix, or godwit://HOST:PORT where `serve` runs; made if it is not there
    #[arg(long, env = "GODWIT_TO", value_name = "URL")]
    pub to: Option<String>,
    /// The URL of an S3 store that is not Amazon's
    #[arg(long, env = "GODWIT_ENDPOINT", value_name = "URL")]
    pub endpoint: Option<String>,
    /// The region of the bucket
    #[arg(long, env = "GODWIT_REGION", value_name = "NAME")]
    pub region: Option<String>,
    /// Have the store encrypt what it keeps: AES256 or aws:kms
    #[arg(long, env = "GODWIT_SSE", value_name = "NAME")]
    pub sse: Option<String>,
    /// Encrypt before it is sent, with the keys in this file; those that write are enough
    #[arg(long, env = "GODWIT_KEY_FILE", value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// By files or by the log since the last snapshot, whichever is less; or by files alone [default: cheapest]
    #[arg(long, env = "GODWIT_WAY", value_enum)]
    pub way: Option<WaySetting>,
    /// Segments of log that may follow on one set of files [default: 1024]
    #[arg(long, env = "GODWIT_LOG_SEGMENTS", value_name = "N")]
    pub log_segments: Option<usize>,
    /// Bytes of log that may follow on one set of files, of a hundred of theirs [default: 25]
    #[arg(long, env = "GODWIT_LOG_PERCENT", value_name = "PERCENT")]
    pub log_percent: Option<u64>,
    /// Which nodes digest what they hold, for `prove`: this reads all of it [default: standby]
    #[arg(long, env = "GODWIT_DIGEST", value_enum)]
    pub digest: Option<Digests>,
    /// Bytes a second from all sidecars together [default: no bound]
    #[arg(long, env = "GODWIT_BANDWIDTH", value_name = "SIZE")]
    pub bandwidth: Option<Size>,
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
    /// Begin only while no node of the cluster takes so many commands a second [default: always]
    #[arg(long, env = "GODWIT_IF_LOAD_BELOW", value_name = "N")]
    pub if_load_below: Option<u64>,
    /// Wait so long for that, instead of not beginning at all
    #[arg(long, env = "GODWIT_LOAD_WAIT", value_name = "SPAN")]
    pub load_wait: Option<Span>,
    /// Run at these times of the day only (UTC), such as 02:00-05:00; at its end the run stops
    #[arg(long, env = "GODWIT_WINDOW", value_name = "HH:MM-HH:MM")]
    pub window: Option<Window>,
    /// Wait first for a random part of this [default: not at all]
    #[arg(long, env = "GODWIT_JITTER", value_name = "SPAN")]
    pub jitter: Option<Span>,
    /// How nice to be to other processes: 0 (as started) to 19 [default: run when no other wants to]
    #[arg(long, env = "GODWIT_NICE", value_name = "N")]
    pub nice: Option<i32>,
    /// Use disks only when nobody else does (ionice's class idle)
    #[arg(long, env = "GODWIT_IO_IDLE", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub io_idle: Option<bool>,
    /// Write what came of the run to this file, as JSON
    #[arg(long, env = "GODWIT_REPORT", value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// And as metrics to this one, for node_exporter's textfile collector: one file for each verb
    #[arg(long, env = "GODWIT_TEXTFILE", value_name = "FILE.prom")]
    pub textfile: Option<PathBuf>,
}

/// Which ways a push may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WaySetting {
    /// Files, or the log since the last snapshot: whichever is less.
    #[default]
    Cheapest,
    /// Files alone.
    Files,
}

/// Of which nodes digests are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Digests {
    /// All.
    On,
    /// Those that serve no writes.
    #[default]
    Standby,
    /// None.
    Off,
}

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// A directory, or a part of a bucket.
    Bucket(BucketAddress),
    /// `godwit://HOST:PORT`: with a daemon that serves it.
    Served(String),
}

impl FromStr for StoreUrl {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        let Some(address) = text.strip_prefix("godwit://") else {
            return text.parse().map(Self::Bucket);
        };
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        if port.is_none() {
            let why = "write `godwit://HOST:PORT`".to_owned();
            return Err(StoreError::Address { address: text.to_owned(), why });
        }
        Ok(Self::Served(address.to_owned()))
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bucket(address) => address.fmt(f),
            Self::Served(address) => write!(f, "godwit://{address}"),
        }
    }
}

/// Where a store is, and how to get there.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Where.
    pub url: StoreUrl,
    /// How.
    pub options: S3Options,
    /// The keys, if it is encrypted.
    pub key_file: Option<PathBuf>,
}

impl StoreConfig {
    /// Its objects, where no daemon keeps them; nothing is asked of it yet.
    ///
    /// # Errors
    /// The keys of the bucket are missing.
    pub fn bucket(&self) -> Result<Bucket, StoreError> {
        match &self.url {
            StoreUrl::Bucket(address) => Bucket::open(address, &self.options),
            StoreUrl::Served(address) => Err(StoreError::Address {
                address: address.clone(),
                why: "a daemon keeps it, and it is pushed to only".to_owned(),
            }),
        }
    }

    /// The bucket and the keys; nothing is asked of it yet. A daemon is told whose snapshots these are.
    ///
    /// # Errors
    /// The key file cannot be read, or the keys of the bucket are missing.
    pub fn open(&self, service: &str, tls: Option<&Mutual>) -> anyhow::Result<(Bucket, Keys)> {
        let keys = Keys::read_if(self.key_file.as_deref())?;
        let StoreUrl::Served(address) = &self.url else { return Ok((self.bucket()?, keys)) };
        let peer = PeerName::new(&stream::names::of_snapshotter(service))?;
        let options = ServedOptions { service: service.to_owned(), peer, tls: tls.cloned() };
        Ok((Bucket::served(address, options), keys))
    }
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
    pub store: StoreConfig,
    /// Which ways there are.
    pub way: WaySetting,
    /// How far snapshots may go on by their logs.
    pub chain: ChainLimits,
    /// Which nodes digest what they hold.
    pub digest: Digests,
    /// Bytes a second from all sidecars together.
    pub bandwidth: Option<u64>,
    /// Shards at a time.
    pub parallel: usize,
    /// How long to wait for the registry.
    pub wait: std::time::Duration,
    /// What the last line looks like.
    pub output: Output,
    /// TLS with the sidecars, unless it is off.
    pub tls: Option<MutualConfig>,
    /// When it may begin, by what the nodes have to do.
    pub load: Option<Limit>,
    /// What a run that a timer starts needs around it.
    pub cron: Cron,
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
        if self.load_wait.is_some() && self.if_load_below.is_none() {
            let why = "--load-wait waits for --if-load-below, which is not set";
            return Err(ConfigError::invalid(why));
        }
        let wait = self.load_wait.map(Span::duration).unwrap_or_default();
        let cron = CronSettings {
            window: self.window,
            jitter: self.jitter,
            nice: self.nice,
            io_idle: self.io_idle.unwrap_or_default(),
            report: self.report,
            textfile: self.textfile,
        };
        let tls = MutualSettings {
            tls: self.tls,
            ca: self.tls_ca,
            cert: self.tls_cert,
            key: self.tls_key,
            peers: self.tls_peers.unwrap_or_default(),
        };
        let wrong = |why: StoreError| ConfigError::invalid(why.to_string());
        let store = StoreConfig {
            url: need("to", self.to)?.parse().map_err(wrong)?,
            options: S3Options::with(self.endpoint, self.region, self.sse).map_err(wrong)?,
            key_file: self.key_file,
        };
        let segments = self.log_segments.unwrap_or(LOG_SEGMENTS_DEFAULT);
        if segments > Manifest::LOG_MAX / 2 {
            return Err(ConfigError::invalid(format!(
                "--log-segments {segments}: at most {}",
                Manifest::LOG_MAX / 2
            )));
        }
        let bandwidth = self.bandwidth.map(|size| size.0);
        if bandwidth.is_some_and(|bytes| bytes < 64 << 10) {
            return Err(ConfigError::invalid("--bandwidth must be at least 64KiB"));
        }
        Ok(Config {
            registry: registry(self.registry)?,
            service: name("service", "service", self.service)?,
            cluster: name("cluster", "cluster", self.cluster)?,
            store,
            way: self.way.unwrap_or_default(),
            chain: ChainLimits {
                segments,
                percent: self.log_percent.unwrap_or(LOG_PERCENT_DEFAULT),
            },
            digest: self.digest.unwrap_or_default(),
            bandwidth,
            parallel,
            wait: self.wait.unwrap_or(WAIT_DEFAULT).duration(),
            output: self.output.unwrap_or_default(),
            tls: tls.check(None)?,
            load: self.if_load_below.map(|below| Limit { below, wait }),
            cron: cron.validate()?,
        })
    }
}

fn registry(value: Option<String>) -> Result<String, ConfigError> {
    let address = need("registry", value)?;
    topology::check_address(&address).map_err(|why| ConfigError::invalid(why.to_string()))?;
    Ok(address)
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
        assert!(refusal(Settings { to: Some("gs://b".into()), ..good() }).contains("not known"));
        assert!(
            refusal(Settings { to: Some("godwit://b".into()), ..good() }).contains("HOST:PORT")
        );
        assert!(refusal(Settings { sse: Some("none".into()), ..good() }).contains("AES256"));
        let slow = Settings { bandwidth: Some(Size(1)), ..good() };
        assert!(refusal(slow).contains("at least 64KiB"));
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
