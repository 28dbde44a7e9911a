//! The threads that run commands. A slot belongs to one worker, so no key needs a lock; a worker
//! takes what is waiting, runs it against the database and its own pending writes, and commits it
//! as one batch before any answer leaves.
//!
//! Start with [`Workers`], the handle; [`run`](self::run) is a worker's loop, [`View`] what a
//! command sees, [`Request`] what a connection hands over.

mod admission;
mod ahead;
mod alarm;
mod answers;
mod aside;
mod blocked;
mod cache;
mod call;
mod commit;
mod cursor;
mod effects;
mod exec;
mod expiry;
mod fields;
mod gate;
mod listeners;
mod notice;
mod ordered;
mod overlay;
mod pending;
mod pool;
mod positions;
mod queue;
mod request;
mod run;
mod script;
mod script_call;
mod script_functions;
mod serve;
mod stalled;
mod tracked;
mod turns;
mod view;
mod waiter;
mod watch;

pub use aside::Glance;
pub use blocked::Blocked;
pub use cache::Caches;
pub use cursor::{Cursor, Direction, Record};
pub use gate::WorkerSet;
pub use listeners::{Event, Herald, Listeners};
pub use notice::Class;
pub use ordered::Over;
pub use pool::{Paused, Waiting, Workers};
pub use positions::Positions;
pub use request::{Call, Hole, Outbox, Part, Request, RunBy, Sticky, Transaction};
pub(crate) use script_functions::engines;
pub use view::{Entries, Entry, Head, Key, Text, View};
pub use waiter::Until;
pub use watch::{Watch, Watches};
