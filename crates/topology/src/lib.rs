//! Services, clusters, shards and epochs, and the registry that holds them.
//!
//! The registry holds [one record](record::Record) for a service; every change of who may write is
//! one compare-and-swap of it. Each process beside that has [a key of its own](members), and operators [leave theirs](operator). Nothing
//! here decides when to switch: programs do.
//!
//! Start with [`record`], then [`registry`] for what a registry is, [`open`] to reach one, and
//! [`service`] for the typed view of one service that every program watches.

#![forbid(unsafe_code)]

pub mod any;
pub mod drill;
pub mod etcd;
pub mod file;
pub mod limits;
pub mod members;
mod needs;
pub mod observed;
pub mod operator;
pub mod promises;
pub mod record;
pub mod registry;
pub mod service;
pub mod verdict;

pub use any::{AnyRegistry, check_address, open};
pub use record::{Epoch, FreezeId, Record, ShardName};
pub use registry::{Expect, Outcome, Registry, RegistryError, Revision, Versioned, View, Write};
pub use service::{Service, ServiceView};
