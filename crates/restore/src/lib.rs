//! Makes a node's directory of what a repository holds: files of a checkpoint, and the log after it.
//!
//! ```text
//! restore.json    what was asked for, and how far it is
//! db.partial/     the files, then with the log applied to them
//! db/             the same, once it is whole
//! ```
//!
//! The files are fetched into `db.partial`, the segments are applied to it, and it becomes `db` with an
//! `ADOPT`, so that the node which opens it takes a new identity and timeline. What was interrupted goes
//! on where it was when the same is asked for again. Everything that is read is untrusted: names cannot
//! leave the directory, links in it are not followed, and each piece is compared with its hash.
//!
//! The directory is opened here, by the options that the checkpoint brings: no node runs on it, and one
//! that applied frames would need a service, a role and a source for it. Batches are applied as they are,
//! without a log of their own; how far that is stands beside the data ([`keyspace::system::RESTORED`]).
//!
//! Start with [`Work::run`]; [`files`] fetches, [`replay`] applies the log, [`journal`] remembers. Which
//! files and segments lead to what was asked for, the caller decides.

#![forbid(unsafe_code)]

pub mod adopt;
pub mod files;
pub mod journal;
pub mod place;
pub mod replay;
mod work;

pub use journal::{Asked, Journal, Phase};
pub use replay::{Copy, Segments};
pub use work::{Done, Work};

/// What is being restored, in a node's directory; `db` once it is whole.
pub const PARTIAL: &str = "db.partial";

fn died(_: tokio::task::JoinError) -> anyhow::Error {
    anyhow::anyhow!("a thread died: look at the log")
}
