//! What may be set, and what is made of it.

use std::path::PathBuf;
use std::time::Duration;

use observe::{ProbeSettings, Times};
use ops::config::ConfigError;
use ops::tls::{MutualConfig, MutualSettings, Switch};
use ops::units::{Share, Size, Span};
use serde::{Deserialize, Serialize};
use topology::ShardName;
use topology::record::is_name;

use crate::archive::{ArchiveConfig, ArchiveSettings};
use crate::export::{KEEPING_DEFAULT, Keeping, RATE_DEFAULT};
use crate::link::LinkConfig;
use crate::spool::Budget;
use crate::target::FollowConfig;
use crate::target::hold::HoldSettings;

const OUTAGE_DEFAULT: Duration = Duration::from_secs(6 * 3600);
/// More than clocks that are kept by NTP differ, and less than anybody should notice.
const CLOCK_SKEW_DEFAULT: Duration = Duration::from_millis(500);

/// Flags, GODWIT_* and the keys of the config file.
#[derive(clap::Args, Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// The node's directory, on the same mount as the node sees it
    #[arg(long, env = "GODWIT_NODE_DIR", value_name = "DIR")]
    pub node_dir: Option<PathBuf>,
    /// The node's admin listener [default: unix:DIR/admin.sock]
    #[arg(long, env = "GODWIT_NODE_ADMIN", value_name = "ADDRESS")]
    pub node_admin: Option<String>,
    /// Where other sidecars and snapshotters connect
    #[arg(long, env = "GODWIT_LISTEN", value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// What others dial, if it is not what --listen says
    #[arg(long, env = "GODWIT_ANNOUNCE", value_name = "HOST:PORT")]
    pub announce: Option<String>,
    /// The registry, such as etcd://10.0.0.1:2379 or, for one machine,
    /// file:/var/lib/godwit-registry
    #[arg(long, env = "GODWIT_REGISTRY", value_name = "ADDRESS")]
    pub registry: Option<String>,
    /// The service
    #[arg(long, env = "GODWIT_SERVICE", value_name = "NAME")]
    pub service: Option<String>,
    /// The cluster that the node is of
    #[arg(long, env = "GODWIT_CLUSTER", value_name = "NAME")]
    pub cluster: Option<String>,
    /// The node's shard
    #[arg(long, env = "GODWIT_SHARD", value_name = "NUMBER")]
    pub shard: Option<u32>,
    /// The most that the spool may take; past it a follower is marked lost [default: 16GiB]
    #[arg(long, env = "GODWIT_SPOOL_BUDGET", value_name = "SIZE")]
    pub spool_budget: Option<Size>,
    /// How old a log file may become in the spool [default: 24h]
    #[arg(long, env = "GODWIT_SPOOL_AGE", value_name = "SPAN")]
    pub spool_age: Option<Span>,
    /// What must stay free on the volume [default: 512MiB]
    #[arg(long, env = "GODWIT_SPOOL_FREE", value_name = "SIZE")]
    pub spool_free: Option<Size>,
    /// The outage that the spool should be ready for: said where it is not [default: 6h]
    #[arg(long, env = "GODWIT_SPOOL_OUTAGE", value_name = "SPAN")]
    pub spool_outage: Option<Span>,
    /// How far clocks of followers may be from ours before it is an alarm [default: 500ms]
    #[arg(long, env = "GODWIT_CLOCK_SKEW_MAX", value_name = "SPAN")]
    pub clock_skew_max: Option<Span>,
    /// The most that is staged of one source before it has to wait [default: 4GiB]
    #[arg(long, env = "GODWIT_STAGE_BUDGET", value_name = "SIZE")]
    pub stage_budget: Option<Size>,
    /// Bytes a second to all followers together; live frames go before seeds [default: no bound]
    #[arg(long, env = "GODWIT_BANDWIDTH", value_name = "SIZE")]
    pub bandwidth: Option<Size>,
    /// Bytes of frames on their way to one follower, not acknowledged [default: 32MiB]
    #[arg(long, env = "GODWIT_WINDOW", value_name = "SIZE")]
    pub window: Option<Size>,
    /// Bytes of a seed on their way to one follower: what a cut sends again [default: 8MiB]
    #[arg(long, env = "GODWIT_SEED_WINDOW", value_name = "SIZE")]
    pub seed_window: Option<Size>,
    /// The kernel's buffers of a connection, each way [default: as the kernel sees fit]
    #[arg(long, env = "GODWIT_SOCKET_BUFFER", value_name = "SIZE")]
    pub socket_buffer: Option<Size>,
    /// How long a peer may say nothing, or take nothing, before it counts as dead [default: 8s]
    #[arg(long, env = "GODWIT_PEER_TIMEOUT", value_name = "SPAN")]
    pub peer_timeout: Option<Span>,
    /// The first pause before a stream is made again; each failure doubles it [default: 50ms]
    #[arg(long, env = "GODWIT_RECONNECT_MIN", value_name = "SPAN")]
    pub reconnect_min: Option<Span>,
    /// The longest pause before a stream is made again [default: 2s]
    #[arg(long, env = "GODWIT_RECONNECT_MAX", value_name = "SPAN")]
    pub reconnect_max: Option<Span>,
    /// What compressing may take of one processor while nothing waits, in percent [default: 5]
    #[arg(long, env = "GODWIT_COMPRESS_CPU", value_name = "PERCENT")]
    pub compress_cpu: Option<u32>,
    /// Seeds and catching up slow down while the node's commands take longer [default: 10ms]
    #[arg(long, env = "GODWIT_NODE_P99_MAX", value_name = "SPAN")]
    pub node_p99_max: Option<Span>,
    /// But not below so many bytes a second [default: 4MiB]
    #[arg(long, env = "GODWIT_BULK_RATE_MIN", value_name = "SIZE")]
    pub bulk_rate_min: Option<Size>,
    /// How far behind its source the node is kept on purpose; staging goes on [default: 0s]
    #[arg(long, env = "GODWIT_APPLY_DELAY", value_name = "SPAN")]
    pub apply_delay: Option<Span>,
    /// The share of the keys that a stream may delete within a minute; one that would delete more, or
    /// flush everything, stops before it is applied [default: none, it never stops]
    #[arg(long, env = "GODWIT_BREAKER_DELETES", value_name = "PERCENT")]
    pub breaker_deletes: Option<Share>,
    /// The node program that a drill starts on a fork of the node, beside it; without, no drill is done here
    #[arg(long, env = "GODWIT_DRILL_NODE", value_name = "PROGRAM")]
    pub drill_node: Option<PathBuf>,
    /// How many bytes a second a snapshot reads of the node's disk [default: 256MiB]
    #[arg(long, env = "GODWIT_EXPORT_RATE", value_name = "SIZE")]
    pub export_rate: Option<Size>,
    /// The most log files that are kept since the last snapshot, so that the next one can be the log [default: 8GiB]
    #[arg(long, env = "GODWIT_SNAPSHOT_LOG_BUDGET", value_name = "SIZE")]
    pub snapshot_log_budget: Option<Size>,
    /// How old these may become [default: 48h]
    #[arg(long, env = "GODWIT_SNAPSHOT_LOG_AGE", value_name = "SPAN")]
    pub snapshot_log_age: Option<Span>,
    /// Whether TLS is spoken; `off` where only trusted machines are on the network [default: on if there is a certificate]
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
    /// The section `[archive]`.
    #[command(flatten)]
    pub archive: ArchiveSettings,
    /// The section `[probe]`.
    #[command(flatten)]
    pub probe: ProbeSettings,
}

/// What a sidecar runs with.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node's directory.
    pub node_dir: PathBuf,
    /// The node's admin listener.
    pub node_admin: String,
    /// Where to listen.
    pub listen: String,
    /// What others dial; `None`: the listener's own address.
    pub announce: Option<String>,
    /// The registry's address.
    pub registry: String,
    /// The service.
    pub service: String,
    /// The shard that the node is.
    pub shard: ShardName,
    /// The limits of the spool.
    pub budget: Budget,
    /// The outage that the spool should be ready for.
    pub outage: Duration,
    /// How far clocks of followers may be from ours.
    pub clock_skew_max: Duration,
    /// The most bytes staged of one source.
    pub stage_bytes: u64,
    /// What connections to followers run with.
    pub link: LinkConfig,
    /// What is held back of what is staged.
    pub hold: HoldSettings,
    /// The node program of drills, if they are done here.
    pub drill_node: Option<PathBuf>,
    /// Bytes a second that an export reads.
    pub export_rate: u64,
    /// What is kept of the log for the next snapshot.
    pub snapshot_log: Keeping,
    /// TLS with other sidecars and snapshotters, unless it is off.
    pub tls: Option<MutualConfig>,
    /// Where the log and checkpoints are archived, if they are.
    pub archive: Option<ArchiveConfig>,
    /// Where the archives of sources are, if they are read while no connection comes.
    pub follow: Option<FollowConfig>,
    /// When primaries are asked whether they serve.
    pub probe: Times,
}

impl Config {
    /// Checks the whole of it, in sentences.
    pub fn of(settings: Settings) -> Result<Self, ConfigError> {
        fn need<T>(value: Option<T>, name: &str) -> Result<T, ConfigError> {
            value.ok_or_else(|| ConfigError::invalid(format!("--{name} is missing")))
        }
        let bytes = |size: Option<Size>, default: u64| size.map_or(default, |size| size.0);
        let link = LinkConfig::of(&settings)?;
        let node_dir = need(settings.node_dir, "node-dir")?;
        let node_admin = settings
            .node_admin
            .unwrap_or_else(|| format!("unix:{}", node_dir.join("admin.sock").display()));
        node_admin.parse::<admin::Address>().map_err(|e| ConfigError::invalid(e.to_string()))?;
        let (service, cluster) =
            (need(settings.service, "service")?, need(settings.cluster, "cluster")?);
        for (what, name) in [("service", &service), ("cluster", &cluster)] {
            if !is_name(name) {
                return Err(ConfigError::invalid(format!(
                    "`{name}` is no name for a {what}: up to 63 letters, digits, `-` and `_`"
                )));
            }
        }
        let listen = need(settings.listen, "listen")?;
        for (flag, address) in [("listen", Some(&listen)), ("announce", settings.announce.as_ref())]
        {
            let port = address.map(|a| a.rsplit_once(':').and_then(|(_, p)| p.parse::<u16>().ok()));
            if port == Some(None) {
                return Err(ConfigError::invalid(format!("--{flag} must be HOST:PORT")));
            }
        }
        let tls = MutualSettings {
            tls: settings.tls,
            ca: settings.tls_ca,
            cert: settings.tls_cert,
            key: settings.tls_key,
            peers: settings.tls_peers.unwrap_or_default(),
        };
        let tls = tls.check(Some(&listen))?;
        let age = settings.spool_age.map_or(Duration::from_secs(24 * 3600), |span| span.0);
        let config = Self {
            node_dir,
            node_admin,
            listen,
            tls,
            announce: settings.announce,
            registry: need(settings.registry, "registry")?,
            service,
            shard: ShardName { cluster, shard: need(settings.shard, "shard")? },
            budget: Budget {
                bytes: bytes(settings.spool_budget, 16 << 30),
                age,
                free: bytes(settings.spool_free, 512 << 20),
            },
            outage: settings.spool_outage.map_or(OUTAGE_DEFAULT, |span| span.0),
            clock_skew_max: settings.clock_skew_max.map_or(CLOCK_SKEW_DEFAULT, |span| span.0),
            stage_bytes: bytes(settings.stage_budget, 4 << 30),
            link,
            hold: HoldSettings {
                delay: settings.apply_delay.map_or(Duration::ZERO, |span| span.0),
                breaker: settings.breaker_deletes.map(|share| share.0),
            },
            drill_node: settings.drill_node,
            export_rate: bytes(settings.export_rate, RATE_DEFAULT),
            snapshot_log: Keeping {
                bytes: bytes(settings.snapshot_log_budget, KEEPING_DEFAULT.bytes),
                age: settings.snapshot_log_age.map_or(KEEPING_DEFAULT.age, |span| span.0),
            },
            follow: FollowConfig::of(&settings.archive)?,
            archive: ArchiveConfig::of(settings.archive)?,
            probe: settings.probe.check()?,
        };
        config.validate().map(|()| config)
    }

    fn validate(&self) -> Result<(), ConfigError> {
        let least = |value: u64, least: u64, flag: &str| {
            (value >= least).then_some(()).ok_or_else(|| {
                ConfigError::invalid(format!(
                    "--{flag} of {value} bytes is too small: at least {least}"
                ))
            })
        };
        least(self.budget.bytes, 1 << 20, "spool-budget")?;
        least(self.stage_bytes, 1 << 20, "stage-budget")?;
        least(self.export_rate, 64 << 10, "export-rate")?;
        topology::check_address(&self.registry).map_err(|why| ConfigError::invalid(why.to_string()))
    }
}
