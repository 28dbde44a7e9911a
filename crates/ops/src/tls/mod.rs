//! TLS of every listener and every connection between daemons: certificates from PEM files, read
//! again when they change, and refusals in sentences.
//!
//! - [`Tls`]: a listener for whoever comes, with client certificates asked for or not. A program
//!   takes its configuration and speaks TLS itself, or has it accept a [`Socket`].
//! - [`Mutual`]: both ends show a certificate of a shared authority and are known by the names in
//!   it. [`Socket`] is what comes of it: a connection, plain or under TLS. [`MutualSettings`] is
//!   what a program's settings say of it.
//! - [`Client`]: dials such listeners, and servers that are not ours.
//!
//! The first two are followed with `follow` in a task of the program. Connections that are there go on with
//! the certificate that they began with.

mod client;
mod files;
mod mutual;
mod reload;
mod sentence;
mod server;
mod settings;
mod socket;

pub use client::{Client, ClientFiles};
pub use files::{MutualFiles, TlsError, TlsFiles};
pub use mutual::{Mutual, PeerName};
pub use sentence::HandshakeError;
pub use server::Tls;
pub use settings::{MutualConfig, MutualSettings, Switch};
pub use socket::{Peer, Socket};
