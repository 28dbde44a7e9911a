//! Exit codes, the same for every program; scripts branch on them.

use std::fmt;
use std::process::ExitCode;

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Failed; nothing was changed.
    Failed = 1,
    /// The command line or the config cannot be used.
    Usage = 2,
    /// A guard refused; nothing was changed.
    Refused = 3,
    /// Tried, and everything was put back.
    RolledBack = 4,
    /// Begun and not complete (of a switch: committed): run `resume`.
    Incomplete = 5,
    /// It is not known whether it was committed.
    Unknown = 6,
}

impl Exit {
    /// The number that the shell sees.
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// An error that decides the exit code. Anywhere in a chain of errors, it is found by
/// [`cli::run`](crate::cli::run); an error without one exits with [`Exit::Failed`].
#[derive(Debug)]
pub struct Stop {
    /// The exit code.
    pub exit: Exit,
    message: String,
}

impl Stop {
    /// Stops with this exit code for the reason given, a sentence.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Stop {}

/// The exit code of an error chain.
pub fn of(error: &anyhow::Error) -> Exit {
    let by_stop = error.chain().find_map(|e| e.downcast_ref::<Stop>()).map(|stop| stop.exit);
    let by_config = || error.chain().any(|e| e.is::<crate::config::ConfigError>());
    by_stop.unwrap_or_else(|| if by_config() { Exit::Usage } else { Exit::Failed })
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn the_code_is_found_under_context() {
        let stopped: Result<(), _> = Err(Stop::new(Exit::Refused, "no"));
        assert_eq!(of(&stopped.context("while trying").unwrap_err()), Exit::Refused);
        assert_eq!(of(&anyhow::anyhow!("else")), Exit::Failed);
    }
}
