//! Probes of nodes: what a proxy or a sidecar sees of the primaries of its service, and how far the
//! standbys are behind that its reads go to.
//!
//! An [`Observer`] asks each primary on a connection that it keeps, by the way that commands go: a read
//! of a key, which a worker of the node runs, and `GODWIT.PROBE`, which says whether writes are taken and
//! whether the log moves. It decides nothing: its program says what it [sees](Observer::sights) in its
//! registry key, and `topology::verdict` is what all of them say together.
//!
//! [`Times`] are the settings, `damped` is what makes of answers and silence that a primary is up or
//! down, `ask` is the conversation.

#![forbid(unsafe_code)]

mod ask;
mod damped;
mod observer;
mod times;

pub use observer::{Observer, Readers};
pub use times::{ProbeSettings, Times};
