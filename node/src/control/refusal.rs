//! Why a command is not run.

use crate::store::Hindrance;

/// A refusal proves that the command did not run. Its text is the RESP error, without the `-`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another node has the slot.
    #[error("MOVED {slot} {address}")]
    Moved {
        /// The slot's number.
        slot: u16,
        /// Where clients of its primary connect.
        address: String,
    },
    /// Another node has the slot, and where is not known.
    #[error("READONLY slot {0} belongs to another shard, whose address is not known here yet")]
    Elsewhere(u16),
    /// A standby.
    #[error("READONLY this node is a standby: write to the primary; reads need READONLY first")]
    Standby,
    /// The record has not told the node its role.
    #[error("READONLY this node has not learned its role from its service yet")]
    Unknown,
    /// A switch is under way.
    #[error("READONLY writes stand still for a switch")]
    Frozen,
    /// The registry has not renewed the right to write.
    #[error("READONLY this node's lease has ended: it cannot reach the registry")]
    Lease,
    /// The log was read to its end for a switch that has not come.
    #[error("READONLY this node is fenced until its service reaches a later epoch")]
    Fenced,
    /// The log failed and is being opened again.
    #[error("READONLY the log of this node failed, and is being opened again")]
    Latched,
    /// There is no room on the disk.
    #[error(
        "MISCONF the disk of this node is almost full: writes are refused until there is room; reads go on"
    )]
    Full,
    /// No data can be read.
    #[error("LOADING this node is being filled from another, or is swapping its database")]
    Loading,
}

impl From<Hindrance> for Refusal {
    fn from(hindrance: Hindrance) -> Self {
        match hindrance {
            Hindrance::Latched => Self::Latched,
            Hindrance::Full => Self::Full,
        }
    }
}
