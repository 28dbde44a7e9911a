//! What is decided about a stream, kept on disk.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use wal::{Position, Sequence};

/// The breaker tripped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Tripped {
    /// Before this frame.
    pub at: Position,
    /// Its end.
    pub until: Sequence,
    /// Its stamp, in Unix milliseconds.
    pub stamp_ms: u64,
    /// What it would do.
    pub why: String,
}

impl fmt::Display for Tripped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the breaker stopped before {}: {}; staging goes on, nothing is lost: say `godwit-replicator apply-anyway` or `discard`",
            self.at, self.why
        )
    }
}

/// What was staged was thrown away, by order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Discarded {
    /// Behind this position.
    pub at: Position,
    /// The end of the frame that tripped the breaker.
    pub until: Sequence,
}

impl fmt::Display for Discarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "what it sent behind {} was discarded by an operator: fail over to this side, or say `godwit-replicator apply-anyway` to take it after all",
            self.at
        )
    }
}

/// All that is decided about one source's stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HoldState {
    /// The delay that was set while it ran; none: that of the settings.
    #[serde(default)]
    pub delay_ms: Option<u64>,
    /// What ends here or before is not delayed.
    #[serde(default)]
    pub caught_up_to: Option<Sequence>,
    /// What ends here or before is not counted by the breaker.
    #[serde(default)]
    pub allowed_to: Option<Sequence>,
    /// The breaker has tripped.
    #[serde(default)]
    pub tripped: Option<Tripped>,
    /// The source's stream was discarded.
    #[serde(default)]
    pub discarded: Option<Discarded>,
}

impl HoldState {
    /// What was written; nothing decided where nothing was.
    pub fn read(path: &Path) -> io::Result<Self> {
        match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|why| {
                io::Error::other(format!("{} cannot be read: {why}", path.display()))
            }),
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(why) => Err(why),
        }
    }

    /// Writes it: under another name, synced, renamed, the directory synced.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        write_whole(path, &serde_json::to_vec_pretty(self)?)
    }
}

/// Replaces a file, on disk when this returns.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir)?;
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(dir)?.sync_all()
}
