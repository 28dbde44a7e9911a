//! The node's control protocol: what may be asked on its admin listener, what it answers, and a
//! client.
//!
//! The commands are RESP, named `GODWIT.*`, on listeners of their own: a Unix socket that only its
//! owner may open, or a loopback address; and, where it is asked for, TCP with TLS for tools on other
//! machines, which show a certificate or say who they are ([`Access`]). This crate knows their shapes and nothing of a node's
//! insides; the node parses with [`Request::parse`], everyone else asks through [`Client`].
//!
//! Start with [`Request`], then [`Status`] and [`Adopt`].

#![forbid(unsafe_code)]

mod access;
mod address;
mod adopt;
mod answer;
mod client;
mod digest;
mod error;
mod load;
mod promise;
mod replay;
mod request;
mod slice;
mod status;

pub use access::{Access, NodeArgs};
pub use address::{Address, AddressError, Endpoint};
pub use adopt::{Adopt, Follow};
pub use answer::{Barrier, CheckpointInfo, Exported, ExportedSlots, Measured, StampedKeys, Synced};
pub use client::{Applying, Client};
pub use digest::{Digest, KeyDigests, Repaired, SlotDigest};
pub use error::{Code, Error};
pub use load::{Ingested, Intent, IntentFile, Loaded, Part, SlotsDeleted, SlotsExported, Taken};
pub use promise::{PromiseStatus, PromiseWish};
pub use replay::{Outcome, Replay, ReplayEntry, ReplayMode, Replayed};
pub use request::{Request, RequestError};
pub use slice::Slice;
pub use status::{Applied, FreezeStatus, ReclaimStatus, Reclaimed, Status};

/// The longest argument of a request in bytes: the greatest frame with its header, an exported
/// batch, a rewind's keys.
pub const ARGUMENT_BYTES_MAX: usize = wal::frame::MAX_FRAME + (1 << 20);
