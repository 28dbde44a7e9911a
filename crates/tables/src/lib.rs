//! What a database holds of some slots, as of one snapshot: read record by record, and written into
//! table files that a node takes in.
//!
//! The snapshot may be of a running node, which goes on writing and exports a load, or of a
//! checkpoint that was opened to be read: a shard of another shape is seeded from that. Memory does
//! not grow with what is copied: each family is read once, from its first record to its last.
//!
//! It never opens a database and never writes to one.

mod copier;
mod cut;

pub use copier::{Copied, Copier, Form, Sink};
pub use cut::{Cut, Piece, table};
