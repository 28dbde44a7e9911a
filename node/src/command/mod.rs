//! The commands: one file a family, one table ([`table`]) that says of each its name, arity, keys
//! and handler. A command that is not in the table answers Redis's own unknown-command error.
//!
//! Replies and error texts are those of Redis 7.2.

mod args;
mod bitfield;
mod bits;
mod counter;
mod dump;
pub(crate) mod encoding;
mod expire;
mod fail;
mod geo;
mod geohash;
mod geosearch;
mod glob;
mod hash;
mod hash_expire;
mod hll;
mod hyperloglog;
mod key;
pub(crate) mod key_flags;
mod lcs;
mod list;
mod list_edit;
mod list_move;
mod list_wait;
mod memory;
mod page;
mod pick;
pub(crate) mod rdb;
mod scan;
mod scripting;
mod set;
mod set_combine;
mod sort;
mod spec;
mod stream;
mod string;
mod string_part;
pub(crate) mod subcommand;
pub(crate) mod summaries;
pub mod table;
mod unpack;
mod wait;
pub(crate) mod whole;
mod zadd;
mod zcombine;
mod zpop;
mod zpop_wait;
mod zput;
mod zrange;
mod zset;
mod zspan;

pub use args::{Args, float};
pub use fail::Fail;
pub use glob::matches as glob_matches;
pub(crate) use scripting::CHANGE_FUNCTIONS;
pub(crate) use spec::Place;
pub use spec::{Also, Flags, Handler, Keys, Scripted, Spec};

use crate::worker::{Glance, View};
use resp::reply::Writer;

/// What a handler of a family gets and gives.
pub(crate) type Answer = Result<(), Fail>;

/// A handler that a worker runs.
pub type DataHandler = fn(&mut View<'_>, &Args<'_>, &mut Writer<'_>) -> Answer;

/// A handler that looks at every key of a snapshot, beside the workers.
pub type AsideHandler = fn(&Glance<'_>, &mut Writer<'_>) -> Answer;
