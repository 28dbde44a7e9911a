//! The settings of `push`, as they are given.

use std::path::PathBuf;

use clap::ValueEnum;
use ops::tls::Switch;
use ops::units::{Size, Span};
use serde::{Deserialize, Serialize};

use crate::cli::Output;
use crate::cron::Window;

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
    /// How nice to be to other processes: 0 (as started) to 19 [default: 10]
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
