//! Parameters that CONFIG changes while the node runs, under Redis's names. Whoever obeys one reads
//! it here; each costs an atomic load.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

/// A number.
#[derive(Debug)]
pub(crate) struct Number {
    /// Redis's name for it.
    pub(crate) name: &'static str,
    /// Another name that Redis has for it.
    pub(crate) old_name: Option<&'static str>,
    /// Whether it is said with units, as `16mb`.
    pub(crate) in_bytes: bool,
    value: AtomicI64,
    default: i64,
    min: i64,
    max: i64,
}

impl Number {
    const fn new(name: &'static str, default: i64, min: i64, max: i64) -> Self {
        let value = AtomicI64::new(default);
        Self { name, old_name: None, in_bytes: false, value, default, min, max }
    }

    const fn bytes(name: &'static str, default: i64, min: i64, max: i64) -> Self {
        Self { in_bytes: true, ..Self::new(name, default, min, max) }
    }

    /// What it is.
    pub(crate) fn get(&self) -> i64 {
        self.value.load(Ordering::Relaxed)
    }

    /// Changes it.
    pub(crate) fn set(&self, value: i64) {
        self.value.store(value, Ordering::Relaxed);
    }

    /// What it is when nobody has said anything.
    pub(crate) const fn default(&self) -> i64 {
        self.default
    }

    /// The least and the greatest that it may be.
    pub(crate) const fn bounds(&self) -> (i64, i64) {
        (self.min, self.max)
    }
}

/// Yes or no.
#[derive(Debug)]
pub(crate) struct Switch {
    /// Redis's name for it.
    pub(crate) name: &'static str,
    value: AtomicBool,
    default: bool,
    /// Redis's words for no and yes.
    pub(crate) words: [&'static str; 2],
}

impl Switch {
    const fn new(name: &'static str, default: bool) -> Self {
        Self { name, value: AtomicBool::new(default), default, words: ["no", "yes"] }
    }

    /// What it is.
    pub(crate) fn get(&self) -> bool {
        self.value.load(Ordering::Relaxed)
    }

    /// Changes it.
    pub(crate) fn set(&self, value: bool) {
        self.value.store(value, Ordering::Relaxed);
    }

    /// What it is when nobody has said anything.
    pub(crate) const fn default(&self) -> bool {
        self.default
    }
}

/// How much may wait for a client to read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutputLimit {
    /// Beyond so many bytes it is closed at once; 0: never.
    pub(crate) hard: u64,
    /// Beyond so many bytes for `seconds` it is closed; 0: never.
    pub(crate) soft: u64,
    /// See `soft`.
    pub(crate) seconds: u64,
}

/// Which clients a limit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutputClass {
    /// Those that ask and get answers.
    Normal,
    /// Replicas: there are none, followers have the log of a sidecar.
    Replica,
    /// Those that are subscribed.
    Pubsub,
}

/// `client-output-buffer-limit`.
#[derive(Debug)]
pub(crate) struct OutputLimits(Mutex<[OutputLimit; 3]>);

impl OutputLimits {
    /// The limits of a class.
    pub(crate) fn of(&self, class: OutputClass) -> OutputLimit {
        self.all()[class as usize]
    }

    /// Those of all classes.
    pub(crate) fn all(&self) -> [OutputLimit; 3] {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes them.
    pub(crate) fn set(&self, limits: [OutputLimit; 3]) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = limits;
    }

    /// What they are when nobody has said anything.
    pub(crate) const DEFAULT: [OutputLimit; 3] = [
        OutputLimit { hard: 0, soft: 0, seconds: 0 },
        OutputLimit { hard: 256 << 20, soft: 64 << 20, seconds: 60 },
        OutputLimit { hard: 32 << 20, soft: 8 << 20, seconds: 60 },
    ];
}

const MANY: i64 = u32::MAX as i64;

/// The most clients at once.
pub(crate) static CLIENTS_MAX: Number = Number::new("maxclients", 10_000, 1, MANY);
/// Clients that said nothing for so many seconds are closed; 0: never.
pub(crate) static TIMEOUT_S: Number = Number::new("timeout", 0, 0, i32::MAX as i64);
/// How often the kernel asks whether a silent client is still there; 0: never.
pub(crate) static KEEPALIVE_S: Number = Number::new("tcp-keepalive", 300, 0, i32::MAX as i64);
/// The longest argument in bytes.
pub(crate) static BULK_BYTES_MAX: Number =
    Number::bytes("proto-max-bulk-len", 512 << 20, 1 << 20, 512 << 20);
/// The most bytes of one command.
pub(crate) static QUERY_BYTES_MAX: Number =
    Number::bytes("client-query-buffer-limit", 1 << 30, 1 << 20, 1 << 30);
/// Commands that take longer than so many microseconds are remembered; negative: none.
pub(crate) static SLOWER_THAN_US: Number =
    Number::new("slowlog-log-slower-than", 10_000, -1, i64::MAX);
/// How many slow commands are remembered.
pub(crate) static SLOW_LOG_MAX: Number = Number::new("slowlog-max-len", 128, 0, 1 << 20);
/// Events that take so many milliseconds are remembered; 0: none.
pub(crate) static LATENCY_MS: Number = Number::new("latency-monitor-threshold", 0, 0, i64::MAX);
/// Scripts that take longer than so many milliseconds are slow; 0 or less: none.
pub(crate) static BUSY_REPLY_MS: Number = Number {
    old_name: Some("lua-time-limit"),
    ..Number::new("busy-reply-threshold", 5000, i64::MIN, i64::MAX)
};
/// How many denials are remembered.
pub(crate) static ACL_LOG_MAX: Number = Number::new("acllog-max-len", 128, 0, 1 << 20);
/// Whether it is measured how long commands take, for percentiles.
pub(crate) static LATENCY_TRACKING: Switch = Switch::new("latency-tracking", true);
/// Whether clients from elsewhere are refused while nobody needs a password.
pub(crate) static PROTECTED: Switch = Switch::new("protected-mode", false);
/// Whether new users may use all channels.
pub(crate) static ALL_CHANNELS_BY_DEFAULT: Switch =
    Switch { words: ["resetchannels", "allchannels"], ..Switch::new("acl-pubsub-default", false) };
/// Whether expired keys are looked for in the background (DEBUG SET-ACTIVE-EXPIRE).
pub(crate) static ACTIVE_EXPIRE: Switch = Switch::new("set-active-expire", true);
/// How much may wait for clients to read it.
pub(crate) static OUTPUT_LIMITS: OutputLimits = OutputLimits(Mutex::new(OutputLimits::DEFAULT));

/// All numbers.
pub(crate) static NUMBERS: [&Number; 10] = [
    &BUSY_REPLY_MS,
    &CLIENTS_MAX,
    &TIMEOUT_S,
    &KEEPALIVE_S,
    &BULK_BYTES_MAX,
    &QUERY_BYTES_MAX,
    &SLOWER_THAN_US,
    &SLOW_LOG_MAX,
    &LATENCY_MS,
    &ACL_LOG_MAX,
];

/// All of yes and no.
pub(crate) static SWITCHES: [&Switch; 3] =
    [&LATENCY_TRACKING, &PROTECTED, &ALL_CHANNELS_BY_DEFAULT];
