//! Settings as they are written, and the config that they make.

use std::time::Duration;

use observe::{ProbeSettings, Times};
use ops::config::ConfigError;
use ops::units::{Size, Span};
use serde::{Deserialize, Serialize};

/// Settings of the command line, the environment and the config file.
#[derive(clap::Args, Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// Where clients connect [default: 127.0.0.1:6300]
    #[arg(long, env = "GODWIT_LISTEN", value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// What others are told to connect to [default: the address of --listen]
    #[arg(long, env = "GODWIT_ANNOUNCE", value_name = "HOST:PORT")]
    pub announce: Option<String>,
    /// Front one node, or any Redis, without a registry
    #[arg(long, env = "GODWIT_BACKEND", value_name = "HOST:PORT")]
    pub backend: Option<String>,
    /// The registry that says who is primary, such as etcd://10.0.0.1:2379 or, for one machine,
    /// file:/var/lib/godwit/registry
    #[arg(long, env = "GODWIT_REGISTRY", value_name = "ADDRESS")]
    pub registry: Option<String>,
    /// The service to serve
    #[arg(long, env = "GODWIT_SERVICE", value_name = "NAME")]
    pub service: Option<String>,
    /// The cluster that this proxy stands in
    #[arg(long, env = "GODWIT_CLUSTER", value_name = "NAME")]
    pub cluster: Option<String>,
    /// This proxy's name in the registry [default: <cluster>-<port of --listen>]
    #[arg(long, env = "GODWIT_ID", value_name = "NAME")]
    pub id: Option<String>,
    /// The zone that this proxy stands in: `godwit-switchover route --zone` says where its reads go
    #[arg(long, env = "GODWIT_ZONE", value_name = "NAME")]
    pub zone: Option<String>,
    /// How long a command waits for a primary before it is given up; longer than any switch
    /// [default: 30s]
    #[arg(long, env = "GODWIT_HOLD_TIME", value_name = "SPAN")]
    pub hold_time: Option<Span>,
    /// How many bytes of waiting commands are kept, all clients together [default: 64MiB]
    #[arg(long, env = "GODWIT_HOLD_BYTES", value_name = "SIZE")]
    pub hold_bytes: Option<Size>,
    /// How long a node may take to answer a command before its connection is given up [default: 10s]
    #[arg(long, env = "GODWIT_REQUEST_TIMEOUT", value_name = "SPAN")]
    pub request_timeout: Option<Span>,
    /// How long connecting to a node may take [default: 2s]
    #[arg(long, env = "GODWIT_CONNECT_TIMEOUT", value_name = "SPAN")]
    pub connect_timeout: Option<Span>,
    /// How many threads carry commands [default: one for each core, at most 4]
    #[arg(long, env = "GODWIT_THREADS", value_name = "NUMBER")]
    pub threads: Option<usize>,
    /// How many clients may be connected [default: 10000]
    #[arg(long, env = "GODWIT_MAX_CLIENTS", value_name = "NUMBER")]
    pub max_clients: Option<usize>,
    /// The section `[probe]`.
    #[command(flatten)]
    pub probe: ProbeSettings,
}

/// Where commands go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// To one address.
    Backend(String),
    /// To the primaries of a service.
    Service {
        /// The registry's address.
        registry: String,
        /// The service's name.
        service: String,
        /// The cluster that this proxy stands in.
        cluster: String,
        /// This proxy's name.
        id: String,
        /// The zone that it stands in.
        zone: Option<String>,
    },
}

/// A config that has been checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients connect.
    pub listen: String,
    /// What others are told to connect to.
    pub announce: Option<String>,
    /// Where commands go.
    pub upstream: Upstream,
    /// How long a command waits for a primary.
    pub hold_time: Duration,
    /// How many bytes of waiting commands are kept.
    pub hold_bytes: usize,
    /// How long a node may take to answer.
    pub request_timeout: Duration,
    /// How long connecting to a node may take.
    pub connect_timeout: Duration,
    /// How many threads carry commands.
    pub threads: usize,
    /// How many clients may be connected.
    pub max_clients: usize,
    /// When primaries are asked whether they serve.
    pub probe: Times,
}

/// More threads than this only get in each other's way.
const THREADS_MAX: usize = 64;

impl Settings {
    /// Checks the settings and makes a config of them.
    pub fn validate(self) -> Result<Config, ConfigError> {
        let listen = self.listen.unwrap_or_else(|| "127.0.0.1:6300".to_owned());
        let port = port_of("--listen", &listen)?.to_owned();
        if let Some(announce) = &self.announce {
            port_of("--announce", announce)?;
        }
        let upstream = match (self.backend, self.registry) {
            (Some(backend), None) => {
                if [&self.service, &self.cluster, &self.id, &self.zone].iter().any(|s| s.is_some())
                {
                    return Err(ConfigError::invalid(
                        "--service, --cluster, --id and --zone belong to --registry; --backend has no use for them",
                    ));
                }
                port_of("--backend", &backend)?;
                Upstream::Backend(backend)
            }
            (None, Some(registry)) => {
                topology::check_address(&registry)
                    .map_err(|why| ConfigError::invalid(why.to_string()))?;
                let service = name_of("--service", self.service)?;
                let cluster = name_of("--cluster", self.cluster)?;
                let id = self.id.unwrap_or_else(|| format!("{cluster}-{port}"));
                let id = name_of("--id", Some(id))?;
                let zone = self.zone.map(|zone| name_of("--zone", Some(zone))).transpose()?;
                Upstream::Service { registry, service, cluster, id, zone }
            }
            (Some(_), Some(_)) => {
                return Err(ConfigError::invalid(
                    "give either --backend (one node) or --registry (a service), not both",
                ));
            }
            (None, None) => {
                return Err(ConfigError::invalid(
                    "nothing to send commands to: give --backend HOST:PORT for one node, or --registry, --service and --cluster",
                ));
            }
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = self.threads.unwrap_or_else(|| cores.min(4));
        if !(1..=THREADS_MAX).contains(&threads) {
            return Err(ConfigError::invalid(format!(
                "--threads {threads} is out of range: 1 to {THREADS_MAX}"
            )));
        }
        let config = Config {
            listen,
            announce: self.announce,
            upstream,
            hold_time: self.hold_time.unwrap_or(Span::secs(30)).duration(),
            hold_bytes: self.hold_bytes.unwrap_or(Size::mib(64)).len(),
            request_timeout: self.request_timeout.unwrap_or(Span::secs(10)).duration(),
            connect_timeout: self.connect_timeout.unwrap_or(Span::secs(2)).duration(),
            threads,
            max_clients: self.max_clients.unwrap_or(10_000),
            probe: self.probe.check()?,
        };
        for (flag, span) in [
            ("--request-timeout", config.request_timeout),
            ("--connect-timeout", config.connect_timeout),
        ] {
            if span.is_zero() {
                return Err(ConfigError::invalid(format!("{flag} must be longer than nothing")));
            }
        }
        Ok(config)
    }
}

impl Config {
    /// Whether the nodes are Godwit's and the registry says who is primary.
    pub const fn has_service(&self) -> bool {
        matches!(self.upstream, Upstream::Service { .. })
    }
}

fn port_of<'a>(flag: &str, address: &'a str) -> Result<&'a str, ConfigError> {
    let (host, port) = address.rsplit_once(':').unwrap_or_default();
    if host.is_empty() || port.parse::<u16>().is_err() {
        return Err(ConfigError::invalid(format!(
            "{flag} `{address}` is no address: write HOST:PORT, such as 127.0.0.1:6300"
        )));
    }
    Ok(port)
}

fn name_of(flag: &str, name: Option<String>) -> Result<String, ConfigError> {
    let Some(name) = name else {
        return Err(ConfigError::invalid(format!("--registry needs {flag} NAME")));
    };
    if topology::record::is_name(&name) {
        Ok(name)
    } else {
        Err(ConfigError::invalid(format!(
            "{flag} `{name}` is no name: up to 63 letters, digits, `-` and `_`"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl FnOnce(&mut Settings)) -> Result<Config, String> {
        let mut settings =
            Settings { backend: Some("127.0.0.1:6379".to_owned()), ..Settings::default() };
        change(&mut settings);
        settings.validate().map_err(|e| e.to_string())
    }

    #[test]
    fn settings_that_do_not_fit_say_what_to_write() {
        assert!(check(|_| {}).is_ok());
        for (change, says) in [
            ((|s| s.backend = None) as fn(&mut Settings), "--backend HOST:PORT"),
            (|s| s.listen = Some("6300".to_owned()), "write HOST:PORT"),
            (|s| s.registry = Some("file:/x".to_owned()), "not both"),
            (|s| s.service = Some("x".to_owned()), "belong to --registry"),
            (|s| s.zone = Some("west".to_owned()), "belong to --registry"),
            (|s| s.probe.timeout = Some(Span::secs(1)), "--probe-after is 2s"),
            (|s| s.threads = Some(0), "1 to 64"),
            (|s| s.request_timeout = Some(Span::ms(0)), "longer than nothing"),
            (
                |s| {
                    s.backend = None;
                    s.registry = Some("file:/x".to_owned());
                },
                "needs --service",
            ),
        ] {
            let error = check(change).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
