//! The storage node: Redis protocol over RocksDB, whose write-ahead log is the replication log.
//!
//! [`server`] reads commands from clients and hands them to [`worker`]s, which run them
//! ([`command`]) against the [`store`] and commit what they wrote. [`control`] decides whether this
//! node may write (lease, freeze, role), applies what the sidecar brings, and answers the admin
//! listener. [`config`] is what can be set, [`run`] puts all of it together.
//!
//! [`bulk`] is beside all that: it builds what a node takes in whole.
//!
//! A node never reads the registry to decide *who* is primary: the record tells it. And it has no
//! hook for replication: the sidecar reads the log's files.

pub mod acl;
pub mod bulk;
pub mod command;
pub mod config;
pub mod control;
pub mod server;
pub mod store;
pub mod worker;

mod meter;
mod run;
mod script;
mod settings;
mod stats;

pub use run::run;
