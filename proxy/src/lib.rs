//! godwit-proxy: clients talk to it, and it sends each command to the primary of its slot.
//!
//! It routes by the registry's record, holds writes while their shard has no primary, answers
//! `-UNKNOWN` for what was sent and not answered, and registers itself. It keeps no state that is
//! not in the registry or a connection, and it never sends a write again that may have run.
//!
//! Start with [`run`], then:
//!
//! - `config`: what can be set; `server`: what is started; `registry`: what is watched and told.
//! - `routes`: which node serves which slot; `reads`: whether a zone's reads go to standbys. `shared`: what threads share. `thread`: what one has.
//! - `client`: the order of a client's commands and replies. `backend`: a shared connection to a node.
//! - `command`: what is known of each command. `fan`: commands for several nodes. `local`: the
//!   proxy's own answers.
//!
//! A thread is one runtime with its own clients and its own connections; threads share counters and
//! the routes, nothing that a command touches. One acceptor deals clients out in turn: with a
//! listener for each thread, connections pile up on one of them, and those that a closing listener
//! had queued are lost.

#![forbid(unsafe_code)]

mod backend;
mod client;
mod command;
pub mod config;
mod fan;
mod local;
mod reads;
mod registry;
mod routes;
mod server;
mod shared;
mod stats;
mod thread;

pub use server::run;
