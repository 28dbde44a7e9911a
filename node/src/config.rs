//! What can be set, and what comes of it.

mod remote;

use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::time::Duration;

use admin::Address;
use ops::config::ConfigError;
use ops::tls::TlsFiles;
use ops::units::{Size, Span};
use serde::{Deserialize, Serialize};
use topology::ShardName;

use crate::server::IO_THREADS_MAX;
use crate::store::{Compression, Durability, StoreOptions};
use crate::worker::Workers;

pub use remote::{AdminConfig, AdminSettings};

/// Less than this RocksDB cannot work with.
const MEMORY_MIN: Size = Size::mib(32);
const MEMORY_DEFAULT: Size = Size::mib(256);
const RECLAIM_EVERY_DEFAULT: Span = Span(Duration::from_secs(30));
const WAL_ARCHIVE_DEFAULT: Size = Size::mib(1024);

/// The settings, from flags, environment and file.
#[derive(Clone, Debug, Default, clap::Args, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Settings {
    /// Where the node keeps its data; made if it is not there
    #[arg(long, env = "GODWIT_DIR", value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Where clients connect
    #[arg(long, env = "GODWIT_LISTEN", value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Where control commands go: `unix:/path` or a loopback HOST:PORT [default:
    /// unix:DIR/admin.sock]
    #[arg(long, env = "GODWIT_ADMIN", value_name = "ADDRESS")]
    pub admin: Option<String>,
    /// The admin listener for other machines.
    #[command(flatten)]
    #[serde(flatten)]
    pub admin_listener: AdminSettings,
    /// The registry of the node's service, such as `etcd://10.0.0.1:2379` or, for one machine,
    /// `file:/var/lib/godwit/registry`; without it the node stands alone
    #[arg(long, env = "GODWIT_REGISTRY", value_name = "REGISTRY")]
    pub registry: Option<String>,
    /// The service that the node belongs to
    #[arg(long, env = "GODWIT_SERVICE", value_name = "NAME")]
    pub service: Option<String>,
    /// The cluster that the node is in
    #[arg(long, env = "GODWIT_CLUSTER", value_name = "NAME")]
    pub cluster: Option<String>,
    /// The number of the node's shard in its cluster
    #[arg(long, env = "GODWIT_SHARD", value_name = "NUMBER")]
    pub shard: Option<u32>,
    /// Whether, while the registry is silent, the nodes that could take over from a primary may together let
    /// it write on; `false` on any one of them: its lease ends, and it refuses writes [default: true]
    #[arg(long, env = "GODWIT_PEER_PROMISES", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub peer_promises: Option<bool>,
    /// The address that others should use for this node's clients [default: where it listens]
    #[arg(long, env = "GODWIT_ANNOUNCE", value_name = "HOST:PORT")]
    pub announce: Option<String>,
    /// When a write is on disk: before its answer, within a second, or when the system likes. A
    /// process that dies loses nothing in any case [default: everysec]
    #[arg(long, env = "GODWIT_DURABILITY", value_enum)]
    pub durability: Option<Durability>,
    /// Where clients connect by TLS, beside `listen`; without it, but with a certificate, `listen`
    /// itself speaks TLS
    #[arg(long, env = "GODWIT_TLS_LISTEN", value_name = "HOST:PORT")]
    pub tls_listen: Option<String>,
    /// The certificate for TLS with its chain, in PEM; read again when it changes and at SIGHUP
    #[arg(long, env = "GODWIT_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key, in PEM
    #[arg(long, env = "GODWIT_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// The authorities of clients' certificates, in PEM; without it clients need none
    #[arg(long, env = "GODWIT_TLS_CLIENT_CA", value_name = "FILE")]
    pub tls_client_ca: Option<PathBuf>,
    /// Let clients in that have no certificate; one that they have must still be good
    #[arg(long, env = "GODWIT_TLS_CLIENTS_OPTIONAL", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub tls_clients_optional: Option<bool>,
    /// The password that clients need; kept, hashed, with the users. Once those are in the log of a
    /// service it is not used, and a line in the log says so if it is another one
    #[arg(long, env = "GODWIT_REQUIREPASS", value_name = "PASSWORD", hide_env_values = true)]
    pub requirepass: Option<String>,
    /// Where users are: in the log, so that they follow the service (a node without one: in the file,
    /// unless its database has some), or in DIR/users.acl of this node alone [default: log]
    #[arg(long, env = "GODWIT_USERS", value_enum)]
    pub users: Option<UsersIn>,
    /// Threads that read and answer [default: half of the cores]
    #[arg(long, env = "GODWIT_IO_THREADS", value_name = "N")]
    pub io_threads: Option<usize>,
    /// Threads that run commands, each for its slots [default: half of the cores]
    #[arg(long, env = "GODWIT_WORKERS", value_name = "N")]
    pub workers: Option<usize>,
    /// Memory for all caches and buffers: a little less than half of it for records in front of the
    /// database, a quarter for its blocks, a fifth for what is not in a file yet [default: 256MiB]
    #[arg(long, env = "GODWIT_MEMORY", value_name = "SIZE")]
    pub memory: Option<Size>,
    /// Log files kept for a sidecar that is down [default: 1GiB]
    #[arg(long, env = "GODWIT_WAL_ARCHIVE", value_name = "SIZE")]
    pub wal_archive: Option<Size>,
    /// How often a primary that writes looks for space that compactions can reclaim [default: 30s]
    #[arg(long, env = "GODWIT_RECLAIM_EVERY", value_name = "DURATION")]
    pub reclaim_every: Option<Span>,
    /// Bytes a second that flushes and compactions may write [default: as many as they can]
    #[arg(long, env = "GODWIT_BACKGROUND_RATE", value_name = "SIZE")]
    pub background_rate: Option<Size>,
    /// How table files are compressed: `lz4`, or `zstd` for the last level, which is smaller and slower
    /// to read [default: lz4]
    #[arg(long, env = "GODWIT_COMPRESSION", value_enum)]
    pub compression: Option<Compression>,
}

/// Where users are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum UsersIn {
    /// In the log, and so with all who follow it.
    #[default]
    Log,
    /// In this node's file, whatever the log has.
    File,
}

/// Settings that were checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node's directory.
    pub dir: PathBuf,
    /// Where clients connect.
    pub listen: String,
    /// Where control commands go.
    pub admin: Address,
    /// Where they go from other machines.
    pub admin_listener: Option<AdminConfig>,
    /// The service, for a node that has one.
    pub member: Option<Member>,
    /// Whether it asks for promises while the registry is silent, and gives any.
    pub peer_promises: bool,
    /// The address that others should use; where it listens, if not set.
    pub announce: Option<String>,
    /// The files of TLS, and where it is spoken; `None`: in place of plain connections.
    pub tls: Option<(TlsFiles, Option<String>)>,
    /// The password that clients need, where it is to be changed.
    pub requirepass: Option<String>,
    /// Where users are.
    pub users: UsersIn,
    /// Threads that read and answer.
    pub io_threads: usize,
    /// Threads that run commands.
    pub workers: usize,
    /// How the database is opened.
    pub store: StoreOptions,
}

/// Which shard of which service.
#[derive(Clone, Debug)]
pub struct Member {
    /// The registry's address.
    pub registry: String,
    /// The service.
    pub service: String,
    /// The shard.
    pub shard: ShardName,
}

impl Settings {
    /// Checks them; says in a sentence what is missing or wrong.
    pub fn validate(self) -> Result<Config, ConfigError> {
        let member = self.member()?;
        let tls = self.tls()?;
        let dir = need("dir", self.dir)?;
        let dir = std::path::absolute(&dir)
            .map_err(|why| ConfigError::invalid(format!("dir {}: {why}", dir.display())))?;
        let admin = match self.admin {
            Some(text) => text
                .parse()
                .map_err(|why: admin::AddressError| ConfigError::invalid(why.to_string()))?,
            None => Address::Unix(dir.join("admin.sock")),
        };
        if !admin.is_local() {
            return Err(ConfigError::invalid(
                "`admin` is for this machine: what is for others goes into `admin-listen`",
            ));
        }
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let memory = self.memory.unwrap_or(MEMORY_DEFAULT);
        if memory < MEMORY_MIN {
            return Err(ConfigError::invalid(format!(
                "`memory` is {memory}, and the database needs at least {MEMORY_MIN}"
            )));
        }
        Ok(Config {
            listen: address("listen", need("listen", self.listen)?)?,
            announce: self.announce.map(|a| address("announce", a)).transpose()?,
            io_threads: threads("io-threads", self.io_threads, cores / 2, IO_THREADS_MAX)?,
            workers: threads("workers", self.workers, cores / 2, Workers::MAX)?,
            store: StoreOptions {
                durability: self.durability.unwrap_or_default(),
                memory: memory.bytes(),
                wal_archive: self.wal_archive.unwrap_or(WAL_ARCHIVE_DEFAULT).bytes(),
                background_rate: self.background_rate.unwrap_or_default().bytes(),
                compression: self.compression.unwrap_or_default(),
                reclaim_every: self.reclaim_every.unwrap_or(RECLAIM_EVERY_DEFAULT).0,
            },
            requirepass: self.requirepass,
            users: self.users.unwrap_or_default(),
            peer_promises: self.peer_promises.unwrap_or(true),
            tls,
            dir,
            admin,
            admin_listener: self.admin_listener.validate()?,
            member,
        })
    }

    fn tls(&self) -> Result<Option<(TlsFiles, Option<String>)>, ConfigError> {
        let (Some(cert), Some(key)) = (&self.tls_cert, &self.tls_key) else {
            let none = self.tls_cert.is_none() && self.tls_key.is_none();
            if none && self.tls_listen.is_none() && self.tls_client_ca.is_none() {
                return Ok(None);
            }
            return Err(ConfigError::invalid("TLS needs both of `tls-cert` and `tls-key`"));
        };
        let clients_may_lack = self.tls_clients_optional.unwrap_or(false);
        if clients_may_lack && self.tls_client_ca.is_none() {
            return Err(ConfigError::invalid(
                "`tls-clients-optional` means something only with `tls-client-ca`",
            ));
        }
        let listen = self.tls_listen.clone();
        let listen = listen.map(|listen| address("tls-listen", listen)).transpose()?;
        let files = TlsFiles {
            cert: cert.clone(),
            key: key.clone(),
            client_ca: self.tls_client_ca.clone(),
            clients_may_lack,
        };
        Ok(Some((files, listen)))
    }

    fn member(&self) -> Result<Option<Member>, ConfigError> {
        let parts = (&self.registry, &self.service, &self.cluster, self.shard);
        let (Some(registry), Some(service), Some(cluster), Some(shard)) = parts else {
            if matches!(parts, (None, None, None, None)) {
                return Ok(None);
            }
            return Err(ConfigError::invalid(
                "a node of a service needs all of `registry`, `service`, `cluster` and `shard`; a \
                 node that stands alone has none of them",
            ));
        };
        topology::check_address(registry).map_err(|why| ConfigError::invalid(why.to_string()))?;
        for name in [service, cluster] {
            if !topology::record::is_name(name) {
                return Err(ConfigError::invalid(format!(
                    "`{name}` is no name: up to 63 letters, digits, `-` and `_`"
                )));
            }
        }
        Ok(Some(Member {
            registry: registry.clone(),
            service: service.clone(),
            shard: ShardName { cluster: cluster.clone(), shard },
        }))
    }
}

fn need<T>(key: &str, value: Option<T>) -> Result<T, ConfigError> {
    value.ok_or_else(|| {
        let variable = key.to_uppercase().replace('-', "_");
        ConfigError::invalid(format!(
            "`{key}` is not set: give --{key}, GODWIT_{variable} or the key in a config file"
        ))
    })
}

fn address(key: &str, text: String) -> Result<String, ConfigError> {
    let resolved = text.to_socket_addrs().map(|mut all| all.next());
    if matches!(resolved, Ok(Some(_))) {
        return Ok(text);
    }
    Err(ConfigError::invalid(format!(
        "`{key}` is `{text}`, which is no address: write HOST:PORT, such as `127.0.0.1:6400`"
    )))
}

fn threads(
    key: &str,
    value: Option<usize>,
    default: usize,
    max: usize,
) -> Result<usize, ConfigError> {
    let count = value.unwrap_or(default.clamp(1, max));
    if (1..=max).contains(&count) {
        return Ok(count);
    }
    Err(ConfigError::invalid(format!("`{key}` is {count}; write a number of 1 to {max}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alone() -> Settings {
        Settings {
            dir: Some("/tmp/x".into()),
            listen: Some("127.0.0.1:0".to_owned()),
            ..Settings::default()
        }
    }

    #[test]
    fn a_node_needs_a_directory_and_an_address_and_nothing_else() {
        let config = alone().validate().unwrap();
        assert_eq!(config.admin.to_string(), "unix:/tmp/x/admin.sock");
        assert!(config.member.is_none() && config.workers >= 1);
        let check = |settings: Settings, words: &str| {
            let error = settings.validate().unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        check(Settings::default(), "`dir` is not set");
        check(Settings { listen: Some("6400".into()), ..alone() }, "is no address");
        check(Settings { service: Some("demo".into()), ..alone() }, "needs all of");
        check(Settings { admin: Some("0.0.0.0:7000".into()), ..alone() }, "reachable from other");
        check(Settings { workers: Some(0), ..alone() }, "`workers` is 0");
        check(Settings { tls_cert: Some("c".into()), ..alone() }, "both of `tls-cert`");
        check(Settings { memory: Some(Size::mib(1)), ..alone() }, "at least");
    }
}
