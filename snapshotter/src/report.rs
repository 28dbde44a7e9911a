//! What the verbs answer. The names of these fields are scripted against: keep them.

use serde::Serialize;

/// The last line of a push.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pushed {
    /// The snapshot's id.
    pub snapshot: String,
    /// The service.
    pub service: String,
    /// The cluster.
    pub cluster: String,
    /// Compressed bytes that came over the network.
    pub bytes_sent: u64,
    /// Bytes of all files of the snapshot.
    pub bytes_total: u64,
    /// From the first connection to the seal.
    pub seconds: f64,
    /// Each shard.
    pub shards: Vec<PushedShard>,
}

/// Which way was taken for a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// The store had nothing of it: every file was sent.
    Full,
    /// Some of its files, or all, were in the store and were read back instead.
    ObjectsReused,
}

/// A shard of a push.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PushedShard {
    /// The shard, written `a/0`.
    pub shard: String,
    /// Which way was taken.
    pub way: Way,
    /// Files of its checkpoint.
    pub files: usize,
    /// Of those, how many the store had.
    pub reused: usize,
    /// Compressed bytes that came over the network.
    pub bytes_sent: u64,
    /// Bytes of its files.
    pub bytes_total: u64,
    /// The end of what its checkpoint holds.
    pub position: String,
}

/// Prints an answer: as it is for people, as one line of JSON for scripts.
pub(crate) fn print(output: crate::cli::Output, text: &str, json: &impl Serialize) {
    match output {
        crate::cli::Output::Text => ops::cli::say(text),
        crate::cli::Output::Json => {
            ops::cli::say(&serde_json::to_string(json).expect("answers are plain JSON"));
        }
    }
}

/// A number of bytes for people: three digits and a unit.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = if unit == 0 || value >= 99.5 { 0 } else { 1 };
    format!("{value:.digits$} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 KiB"),
            (1 << 20, "1.0 MiB"),
            (1_320_559, "1.3 MiB"),
            (150 << 30, "150 GiB"),
            (u64::MAX, "16777216 TiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
