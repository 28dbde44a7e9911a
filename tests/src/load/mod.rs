//! What goes in: real data that nobody here wrote, then writers and readers that remember every
//! answer.
//!
//! - [`packages`]: Debian's package lists, read. [`fill`]: those, loaded.
//! - [`operation`]: the checked writes. [`writer`] and [`reader`]: connections that make them.
//! - [`ledger`]: what they remember. [`traffic`]: many of them at once, bounded in rate.

pub mod fill;
pub mod ledger;
pub mod operation;
pub mod packages;
pub mod reader;
pub mod traffic;
pub mod writer;

pub use ledger::{Entry, Ledger, Outcome};
pub use operation::Operation;
pub use traffic::{Traffic, TrafficPlan};
