//! What to bring up.

use std::path::PathBuf;
use std::time::Duration;

/// A plan of two clouds (or more, or one).
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where everything lies: registry, data, logs, `clouds.json`.
    pub dir: PathBuf,
    /// The registry's address, where it is not a directory beside the rest.
    pub registry: Option<String>,
    /// The service's name.
    pub service: String,
    /// The clouds by name, each with the slots of its shards; the first is active.
    pub clouds: Vec<(String, Vec<String>)>,
    /// Of these, the ones that are not in the service at first, and are not started with the others.
    pub later: Vec<String>,
    /// Whether streams and clients of nodes go through toxic proxies.
    pub toxics: bool,
    /// Whether sidecars speak TLS, with certificates in `DIR/tls`.
    pub tls: bool,
    /// Whether the processes go on when this one ends.
    pub detached: bool,
    /// How long a primary may write without the registry.
    pub lease: Duration,
    /// Environment of single processes, by name: `("b-0-node", "GODWIT_FAILPOINTS", "...")`.
    pub env: Vec<(String, String, String)>,
    /// Arguments of all processes of a program beside the usual.
    pub args: Vec<(String, Vec<String>)>,
}

impl Plan {
    /// Clouds `a` (active) and `b`, two shards each, under this directory.
    pub fn two_clouds(dir: impl Into<PathBuf>) -> Self {
        let halves = || vec!["0-8191".to_owned(), "8192-16383".to_owned()];
        Self {
            dir: dir.into(),
            registry: None,
            service: "demo".to_owned(),
            clouds: vec![("a".to_owned(), halves()), ("b".to_owned(), halves())],
            later: Vec::new(),
            toxics: false,
            tls: false,
            detached: false,
            lease: Duration::from_secs(3),
            env: Vec::new(),
            args: Vec::new(),
        }
    }

    /// With a registry that is there already.
    #[must_use]
    pub fn on(mut self, registry: impl Into<String>) -> Self {
        self.registry = Some(registry.into());
        self
    }

    /// With so many shards of equal size in each cloud.
    #[must_use]
    pub fn with_shards(mut self, a: u16, b: u16) -> Self {
        for ((_, shards), count) in self.clouds.iter_mut().zip([a, b]) {
            let bound = |n: u16| u32::from(n) * u32::from(keyspace::SLOTS) / u32::from(count);
            *shards = (0..count).map(|n| format!("{}-{}", bound(n), bound(n + 1) - 1)).collect();
        }
        self
    }

    /// With toxic proxies before each node's client port and each sidecar's stream port.
    #[must_use]
    pub fn with_toxics(mut self) -> Self {
        self.toxics = true;
        self
    }

    /// With sidecars that speak TLS.
    #[must_use]
    pub fn with_tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// With a variable in the environment of one process.
    #[must_use]
    pub fn with_env(mut self, process: &str, key: &str, value: &str) -> Self {
        self.env.push((process.to_owned(), key.to_owned(), value.to_owned()));
        self
    }
}
