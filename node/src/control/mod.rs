//! Who may write, what comes from elsewhere, and the admin listener.
//!
//! [`Authority`] is what workers ask for each command: atomics only. Everything else here changes
//! it.

mod authority;
mod refusal;

pub use authority::{Authority, Mode, Permit};
pub use refusal::Refusal;
