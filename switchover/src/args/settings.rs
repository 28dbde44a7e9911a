//! What may stand in a config file, and what comes of it.

use std::path::PathBuf;
use std::time::Duration;

use ops::config::ConfigError;
use ops::units::{Size, Span};
use serde::{Deserialize, Serialize};

use super::EVERYWHERE;

/// Settings that may stand in a config file.
#[derive(clap::Args, Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// The registry, such as etcd://10.0.0.1:2379 or, for one machine,
    /// file:/var/lib/godwit/registry
    #[arg(long, global = true, env = "GODWIT_REGISTRY", value_name = "ADDRESS", help_heading = EVERYWHERE)]
    pub registry: Option<String>,
    /// The service
    #[arg(long, global = true, env = "GODWIT_SERVICE", value_name = "NAME", help_heading = EVERYWHERE)]
    pub service: Option<String>,
    /// Where operations are journaled on this machine [default: godwit/ under XDG_STATE_HOME]
    #[arg(long, global = true, env = "GODWIT_JOURNAL", value_name = "DIR", help_heading = EVERYWHERE)]
    pub journal: Option<PathBuf>,
    /// How long a service stays claimed by an operation whose tool died on another machine [default:
    /// 5s]
    #[arg(long, global = true, env = "GODWIT_CLAIM", value_name = "SPAN", help_heading = TIMES)]
    pub claim: Option<Span>,
    /// The freeze's deadline: if the followers are not level by then, it is rolled back [default: 10s;
    /// of a failover: lease + 2 drain waits + 10s]
    #[arg(long, global = true, env = "GODWIT_TIMEOUT", value_name = "SPAN", help_heading = TIMES)]
    pub timeout: Option<Span>,
    /// Of a failover: how long to wait for a dead node's sidecar to drain its log, and for the rest to
    /// be applied [default: 10s]
    #[arg(long, global = true, env = "GODWIT_DRAIN_WAIT", value_name = "SPAN", help_heading = TIMES)]
    pub drain_wait: Option<Span>,
    /// How long each step after the commit may take before the report says `incomplete` [default: 30s]
    #[arg(long, global = true, env = "GODWIT_SETTLE_TIMEOUT", value_name = "SPAN", help_heading = TIMES)]
    pub settle_timeout: Option<Span>,
    /// Of a failback: how long the old side may take to rejoin and become level [default: 10m]
    #[arg(long, global = true, env = "GODWIT_REJOIN_TIMEOUT", value_name = "SPAN", help_heading = TIMES)]
    pub rejoin_timeout: Option<Span>,
    /// Of a resize: how long the new cluster may take to be seeded and level [default: 1d]
    #[arg(long, global = true, env = "GODWIT_SEED_TIMEOUT", value_name = "SPAN", help_heading = TIMES)]
    pub seed_timeout: Option<Span>,
    /// Of verify: how long the digests may take [default: 5m]
    #[arg(long, global = true, env = "GODWIT_DIGEST_TIMEOUT", value_name = "SPAN", help_heading = TIMES)]
    pub digest_timeout: Option<Span>,
    /// The greatest lag of a follower at the start of a planned switch [default: 5s]
    #[arg(long, global = true, env = "GODWIT_MAX_LAG", value_name = "SPAN", help_heading = GUARDS)]
    pub max_lag: Option<Span>,
    /// The least time between two switches [default: 0s]
    #[arg(long, global = true, env = "GODWIT_MIN_INTERVAL", value_name = "SPAN", help_heading = GUARDS)]
    pub min_interval: Option<Span>,
    /// How far the clock of a member may be from this machine's [default: 5s]
    #[arg(long, global = true, env = "GODWIT_MAX_CLOCK_SKEW", value_name = "SPAN", help_heading = GUARDS)]
    pub max_clock_skew: Option<Span>,
    /// What must be free on the disks of the nodes that take over [default: 256MiB]
    #[arg(long, global = true, env = "GODWIT_MIN_DISK_FREE", value_name = "SIZE", help_heading = GUARDS)]
    pub min_disk_free: Option<Size>,
    /// Refuse if the last snapshot that was sealed is older, or none is known [default: do not ask]
    #[arg(long, global = true, env = "GODWIT_MAX_SNAPSHOT_AGE", value_name = "SPAN", help_heading = GUARDS)]
    pub max_snapshot_age: Option<Span>,
    /// Go on although the clusters' settings or users differ [default: false]
    #[arg(long, global = true, env = "GODWIT_ALLOW_DRIFT", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL", help_heading = GUARDS)]
    pub allow_drift: Option<bool>,
    /// A program that runs before each switch; if it fails, nothing is changed
    #[arg(long, global = true, env = "GODWIT_HOOK_BEFORE", value_name = "PROGRAM", help_heading = HOOKS)]
    pub hook_before: Option<PathBuf>,
    /// A program that runs after each switch, however it ended
    #[arg(long, global = true, env = "GODWIT_HOOK_AFTER", value_name = "PROGRAM", help_heading = HOOKS)]
    pub hook_after: Option<PathBuf>,
    /// A program that runs when a watcher has something to tell, unless maintenance is on
    #[arg(long, global = true, env = "GODWIT_HOOK_ALERT", value_name = "PROGRAM", help_heading = HOOKS)]
    pub hook_alert: Option<PathBuf>,
    /// How long a hook may take; then it is killed, and has failed [default: 30s]
    #[arg(long, global = true, env = "GODWIT_HOOK_TIMEOUT", value_name = "SPAN", help_heading = HOOKS)]
    pub hook_timeout: Option<Span>,
}

const TIMES: &str = "Times";
const GUARDS: &str = "Guards";
const HOOKS: &str = "Hooks";

/// Shorter claims end while a busy machine thinks about it.
const CLAIM_MIN: Span = Span::secs(1);
/// Longer ones keep everybody out for too long after a tool has died.
const CLAIM_MAX: Span = Span::secs(300);

/// Settings that were checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The registry's address.
    pub registry: String,
    /// The service.
    pub service: String,
    /// Where operations are journaled on this machine.
    pub journal: PathBuf,
    /// How long a claim lasts after its last renewal.
    pub claim: Duration,
    /// A freeze's deadline, where one was asked for.
    pub timeout: Option<Span>,
    /// How long a failover waits for a dead node's sidecar, and then for the rest.
    pub drain_wait: Duration,
    /// How long each step after the commit may take.
    pub settle_timeout: Duration,
    /// How long an old side may take to be level.
    pub rejoin_timeout: Span,
    /// How long a new cluster may take to be level.
    pub seed_timeout: Span,
    /// How long digests may take.
    pub digest_timeout: Duration,
    /// Limits of the guards.
    pub guards: Guards,
    /// What runs before and after.
    pub hooks: Hooks,
}

/// Limits of the guards.
#[derive(Clone, Debug)]
pub struct Guards {
    /// The greatest lag of a follower at the start of a planned switch.
    pub max_lag: Span,
    /// The least time between two switches.
    pub min_interval: Span,
    /// How far the clock of a member may be from this machine's.
    pub max_clock_skew: Span,
    /// What must be free on the disks of those that take over.
    pub min_disk_free: Size,
    /// How old the last sealed snapshot may be, if that matters.
    pub max_snapshot_age: Option<Span>,
    /// Whether clusters may differ in settings and users.
    pub allow_drift: bool,
}

/// Programs that run before and after a switch.
#[derive(Clone, Debug)]
pub struct Hooks {
    /// May veto.
    pub before: Option<PathBuf>,
    /// Is told how it ended.
    pub after: Option<PathBuf>,
    /// Is told what a watcher sees and does.
    pub alert: Option<PathBuf>,
    /// How long each may take.
    pub timeout: Duration,
}

/// `godwit/` in the user's state directory (XDG Base Directory specification).
fn state_dir() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    Some(state?.join("godwit"))
}

impl Settings {
    /// Checks them; says in a sentence what is missing or wrong.
    pub fn validate(self) -> Result<Config, ConfigError> {
        let need = |value: Option<String>, name: &str| {
            value.ok_or_else(|| {
                ConfigError::invalid(format!(
                    "--{name} is missing (or GODWIT_{}, or `{name}` in the config file)",
                    name.to_uppercase()
                ))
            })
        };
        let or = |value: Option<Span>, default: Span| value.unwrap_or(default);
        let claim = or(self.claim, Span::secs(5));
        if claim < CLAIM_MIN || claim > CLAIM_MAX {
            return Err(ConfigError::invalid(format!(
                "`claim` is {claim}; it must be between {CLAIM_MIN} and {CLAIM_MAX}"
            )));
        }
        for hook in [&self.hook_before, &self.hook_after, &self.hook_alert].into_iter().flatten() {
            if !hook.is_file() {
                let why = format!("the hook {} is no file: name a program", hook.display());
                return Err(ConfigError::invalid(why));
            }
        }
        let journal = self.journal.or_else(state_dir).ok_or_else(|| {
            ConfigError::invalid(
                "there is no place for the journal: set --journal DIR, XDG_STATE_HOME or HOME",
            )
        })?;
        let registry = need(self.registry, "registry")?;
        topology::check_address(&registry).map_err(|why| ConfigError::invalid(why.to_string()))?;
        Ok(Config {
            registry,
            service: need(self.service, "service")?,
            journal,
            claim: claim.duration(),
            timeout: self.timeout,
            drain_wait: or(self.drain_wait, Span::secs(10)).duration(),
            settle_timeout: or(self.settle_timeout, Span::secs(30)).duration(),
            rejoin_timeout: or(self.rejoin_timeout, Span::secs(600)),
            seed_timeout: or(self.seed_timeout, Span::secs(86_400)),
            digest_timeout: or(self.digest_timeout, Span::secs(300)).duration(),
            guards: Guards {
                max_lag: or(self.max_lag, Span::secs(5)),
                min_interval: or(self.min_interval, Span::secs(0)),
                max_clock_skew: or(self.max_clock_skew, Span::secs(5)),
                min_disk_free: self.min_disk_free.unwrap_or(Size::mib(256)),
                max_snapshot_age: self.max_snapshot_age,
                allow_drift: self.allow_drift.unwrap_or(false),
            },
            hooks: Hooks {
                before: self.hook_before,
                after: self.hook_after,
                alert: self.hook_alert,
                timeout: or(self.hook_timeout, Span::secs(30)).duration(),
            },
        })
    }
}
