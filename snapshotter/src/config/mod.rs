//! What a push needs to know. The other verbs take flags alone.
//!
//! ```text
//! settings   as flags, environment and file say
//! store      where a store is
//! ```

mod settings;
mod store;

use ::store::StoreError;
use ::store::bucket::S3Options;
use ::store::repository::Manifest;
use ops::config::ConfigError;
use ops::tls::{MutualConfig, MutualSettings};
use ops::units::Span;

pub use self::settings::{Digests, Settings, WaySetting};
pub use self::store::{StoreConfig, StoreUrl};
use crate::cli::Output;
use crate::cron::load::Limit;
use crate::cron::{Cron, CronSettings};
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
    use ops::units::Size;

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
    fn the_sample_is_what_it_says_and_has_every_setting() {
        let text = include_str!("../../godwit-snapshotter.toml");
        toml_of(text).validate().unwrap();
        let all = serde_json::to_value(Settings::default()).unwrap();
        for key in all.as_object().unwrap().keys() {
            let has = text.lines().any(|line| {
                line.trim_start_matches('#').trim_start().starts_with(&format!("{key} ="))
            });
            assert!(has, "the sample lacks {key}");
        }
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
