//! What an operator says about a stream: a file beside its state, which goes when it is obeyed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use topology::ShardName;

use super::path_of;
use super::state::write_whole;

/// An order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, tag = "order")]
pub enum Order {
    /// What is staged now is applied at once, whatever the delay.
    CatchUp,
    /// The delay is this from now on; none: that of the settings.
    Delay {
        /// Milliseconds.
        #[serde(rename = "delay-ms")]
        delay_ms: Option<u64>,
    },
    /// What tripped the breaker, and what is staged behind it, is applied.
    ApplyAnyway,
    /// What is staged behind the last position applied is set aside, and not taken again.
    Discard,
}

fn beside(state: &Path) -> PathBuf {
    state.with_extension("order")
}

/// Gives an order about a source.
///
/// # Errors
/// The disk.
pub fn give(spool: &Path, source: &ShardName, order: &Order) -> io::Result<()> {
    write_whole(&beside(&path_of(spool, source)), &serde_json::to_vec(order)?)
}

/// Whether an order about a source has not been obeyed yet.
pub fn waiting(spool: &Path, source: &ShardName) -> bool {
    beside(&path_of(spool, source)).exists()
}

pub(super) fn read(state: &Path) -> Option<Order> {
    let path = beside(state);
    let bytes = fs::read(&path).ok()?;
    match serde_json::from_slice(&bytes) {
        Ok(order) => Some(order),
        Err(why) => {
            tracing::warn!("{} is no order, and is removed: {why}", path.display());
            // It is looked at again otherwise, which does no harm.
            let _ = fs::remove_file(&path);
            None
        }
    }
}

pub(super) fn remove(state: &Path) -> io::Result<()> {
    match fs::remove_file(beside(state)) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => Err(why),
        _ => Ok(()),
    }
}
