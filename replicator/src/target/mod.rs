//! The receiving side: what primaries of other clusters send, or have archived while no connection
//! comes, is staged on this disk, synced, and applied to this sidecar's node in the order of their logs.

mod applier;
mod beside;
mod bucket;
pub mod hold;
mod inbound;
mod ledger;
mod listener;
mod load;
mod rewind;
mod seed;
mod session;
mod slice;
mod stage;
mod standings;
mod strand;

pub use bucket::{FollowConfig, keep_following};
pub use inbound::{Inbound, Inbounds};
pub use ledger::{Stranded, StrandedLoad, stranded_keys, write_ledger};
pub use listener::listen;
pub use stage::{Place, Stage, StageError};
