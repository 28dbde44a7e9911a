//! What a toxic is, as Toxiproxy's API spells it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Which way the data flows that a toxic acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// From the client to the server.
    Upstream,
    /// From the server to the client.
    Downstream,
}

/// What a toxic does; each with the attributes that Toxiproxy gives it.
#[derive(Clone, Debug, PartialEq)]
pub enum Attributes {
    /// Each chunk arrives this much later.
    Latency {
        /// Milliseconds.
        latency: u64,
        /// Milliseconds more or less, at random.
        jitter: u64,
    },
    /// No more than this goes through.
    Bandwidth {
        /// Kilobytes a second.
        rate: u64,
    },
    /// The connection stays open this long after its end was asked for.
    SlowClose {
        /// Milliseconds.
        delay: u64,
    },
    /// Nothing goes through; closed after a while, or with 0 never: dead but open.
    Timeout {
        /// Milliseconds.
        timeout: u64,
    },
    /// The connection is reset at the next data, after a while.
    ResetPeer {
        /// Milliseconds.
        timeout: u64,
    },
    /// Data arrives in small pieces.
    Slicer {
        /// Bytes.
        average_size: u64,
        /// Bytes more or less.
        size_variation: u64,
        /// Microseconds between pieces.
        delay: u64,
    },
    /// The connection closes after so much.
    LimitData {
        /// Bytes.
        bytes: u64,
    },
}

impl Attributes {
    /// From a type's name and its attributes; those not given are 0. `None`: no such type.
    pub fn parse(kind: &str, given: &Map<String, Value>) -> Option<Self> {
        let number = |key: &str| given.get(key).and_then(Value::as_u64).unwrap_or(0);
        Some(match kind {
            "latency" => Self::Latency { latency: number("latency"), jitter: number("jitter") },
            "bandwidth" => Self::Bandwidth { rate: number("rate") },
            "slow_close" => Self::SlowClose { delay: number("delay") },
            "timeout" => Self::Timeout { timeout: number("timeout") },
            "reset_peer" => Self::ResetPeer { timeout: number("timeout") },
            "slicer" => Self::Slicer {
                average_size: number("average_size"),
                size_variation: number("size_variation"),
                delay: number("delay"),
            },
            "limit_data" => Self::LimitData { bytes: number("bytes") },
            _ => return None,
        })
    }

    /// The type's name.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Latency { .. } => "latency",
            Self::Bandwidth { .. } => "bandwidth",
            Self::SlowClose { .. } => "slow_close",
            Self::Timeout { .. } => "timeout",
            Self::ResetPeer { .. } => "reset_peer",
            Self::Slicer { .. } => "slicer",
            Self::LimitData { .. } => "limit_data",
        }
    }

    /// The attributes as an object.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Latency { latency, jitter } => json!({"latency": latency, "jitter": jitter}),
            Self::Bandwidth { rate } => json!({"rate": rate}),
            Self::SlowClose { delay } => json!({"delay": delay}),
            Self::Timeout { timeout } | Self::ResetPeer { timeout } => json!({"timeout": timeout}),
            Self::Slicer { average_size, size_variation, delay } => {
                json!({"average_size": average_size, "size_variation": size_variation, "delay": delay})
            }
            Self::LimitData { bytes } => json!({"bytes": bytes}),
        }
    }

    /// These attributes with some changed.
    #[must_use]
    pub fn with(&self, changes: &Map<String, Value>) -> Self {
        let mut all = self.to_json().as_object().cloned().unwrap_or_default();
        all.extend(changes.clone());
        Self::parse(self.kind(), &all).unwrap_or_else(|| self.clone())
    }
}

/// A toxic of a proxy.
#[derive(Clone, Debug, PartialEq)]
pub struct Toxic {
    /// Its name, unique in its proxy.
    pub name: String,
    /// Which way it acts.
    pub stream: Stream,
    /// The share of connections that it acts on, 0 to 1.
    pub toxicity: f64,
    /// What it does.
    pub attributes: Attributes,
}

impl Toxic {
    /// As the API shows it.
    pub fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "type": self.attributes.kind(),
            "stream": self.stream,
            "toxicity": self.toxicity,
            "attributes": self.attributes.to_json(),
        })
    }
}
