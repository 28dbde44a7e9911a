//! Bad networks on loopback: a small server with Toxiproxy's HTTP API and toxics, and a client.
//!
//! No package registry that we build from has the real server, so the stories bring their own. It
//! answers the same requests with the same words, and one suite of conformance stories
//! (`tests/tests/toxi_conformance.rs`) holds both to the same behaviour: with `TOXIPROXY_URL` set,
//! or a `toxiproxy-server` on the PATH, they and the chaos stories run against that one.
//!
//! - [`toxic`]: the kinds of toxics and their attributes, as JSON has them.
//! - [`link`]: one direction of one connection, with its toxics.
//! - [`proxy`]: a listener and its connections.
//! - [`api`]: the HTTP side. [`server`]: all of it in a thread. [`client`]: what stories call.

pub mod api;
pub mod client;
pub mod link;
pub mod proxy;
pub mod server;
pub mod toxic;

pub use client::Toxiproxy;
pub use toxic::{Attributes, Stream, Toxic};
