//! What sidecars say to each other, and how it is put on a wire.
//!
//! A connection carries [packets](wire): a small header with a version, a kind, a bounded length and
//! a checksum, then a body. Control [messages](message) are bodies in the encoding of [`codec`], the
//! one place that knows it; frames and chunks of files are raw bytes. [`conn`] reads and writes
//! packets over anything that is `AsyncRead + AsyncWrite`, each read and write under a deadline, so
//! that TLS can be put underneath.
//!
//! The first message on a connection is a [`message::Hello`]; its purpose says what the rest is: a
//! stream from a primary's sidecar, or an [export] of checkpoints to a snapshotter.
//!
//! All connections of a sidecar go out through one [link], which bounds them and says who goes first.
//!
//! This crate reads no log and applies nothing: the replicator does.

pub mod codec;
pub mod conn;
pub mod export;
pub mod link;
pub mod message;
pub mod names;
pub mod wire;

pub use conn::{Connection, Reader, Writer, split};
pub use link::{Class, Link};
pub use message::{Hello, Message, Purpose, Versions, Welcome};
pub use wire::{Packet, WireError};
