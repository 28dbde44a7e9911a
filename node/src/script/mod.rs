//! Scripts and functions: Lua 5.1 in a sandbox that is Redis's.
//!
//! Start with [`Scripting`], what all workers share: the known scripts, the libraries of functions
//! and what runs now. Each worker has an [`Engine`] of its own, Lua's state with what it compiled,
//! and runs a script's commands through a [`Runner`], which is the worker's side of it
//! (`worker/script.rs`). `prelude.lua` is what a script finds around it, `lib` the libraries that
//! Redis gives to scripts.
//!
//! A script's effects are logged, never the script: what it writes is one batch of its worker.
//!
//! Architecture Invariant: nothing here knows of workers, batches or connections.

mod answer;
mod engine;
mod flags;
mod function;
mod hook;
mod lib;
mod libraries;
mod metadata;
mod primitives;
mod register;
mod reply;
mod runner;
mod running;
mod scripts;
mod sha;
mod tail_calls;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

pub(crate) use engine::{Engine, Entry};
pub(crate) use flags::ScriptFlags;
pub(crate) use function::Library;
pub(crate) use libraries::{Libraries, Policy, Problem, Set};
pub(crate) use runner::{Ended, Halt, Ran, Runner};
pub(crate) use running::{Kind, Running, Slow};
pub(crate) use scripts::{Script, Scripts};
pub(crate) use sha::Sha;

/// Answers the commands of a script that belong to a connection, not to data.
pub(crate) trait Host: Send + Sync {
    /// Runs such a command for a script of this connection.
    fn answer(
        &self,
        spec: &'static crate::command::Spec,
        args: &crate::command::Args<'_>,
        version: resp::Version,
        connection: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), crate::command::Fail>;

    /// How many a message to this channel would reach.
    fn audience(&self, sharded: bool, channel: &[u8]) -> i64;

    /// Shows a command of a script to those who look on.
    fn show(&self, spec: &crate::command::Spec, args: &crate::command::Args<'_>);
}

/// What all workers share of scripts.
pub(crate) struct Scripting {
    /// Scripts by the hash of their text.
    pub(crate) scripts: Scripts,
    /// Libraries of functions.
    pub(crate) libraries: Libraries,
    /// What each worker runs.
    pub(crate) running: Running,
    /// Who answers commands of connections.
    pub(crate) host: OnceLock<Arc<dyn Host>>,
    /// Somebody looks on (MONITOR): the host is shown the commands of scripts.
    pub(crate) watched: AtomicBool,
    /// The node ends: a slow script is not waited for.
    pub(crate) stopping: AtomicBool,
}

impl Scripting {
    /// For so many workers.
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            scripts: Scripts::default(),
            libraries: Libraries::default(),
            running: Running::new(workers),
            host: OnceLock::new(),
            watched: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        }
    }
}
