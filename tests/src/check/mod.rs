//! The checker: what survived against what was acknowledged, and whether both clouds are equal.
//!
//! It trusts nobody: it reads the nodes of the surviving cloud directly, with the other cloud
//! stopped, and resolves every unknown outcome by what is there.
//!
//! - [`survivors`]: the nodes, read directly. [`verdict`]: what it comes to.
//! - [`writes`]: checks each kind of write. [`digest`]: compares clouds at one position.
//! - [`tamper`]: changes a stopped node's database, for the stories that show that a comparison
//!   notices.

pub mod digest;
pub mod survivors;
pub mod tamper;
pub mod verdict;
pub mod writes;

pub use survivors::Survivors;
pub use verdict::Verdict;
pub use writes::check;
