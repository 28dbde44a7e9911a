//! How a script's commands are run: by whoever has the data.

use resp::Version;

use crate::command::Args;

/// Why a script is stopped, whatever it would do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Halt {
    /// It is not known whether its writes are in the log.
    Lost,
    /// It wrote more than a batch may hold.
    TooGreat,
    /// It touched a key of a worker that does not wait for it: it is run again while all wait.
    NeedsAll,
    /// SCRIPT KILL, or FUNCTION KILL.
    Killed,
    /// The node ends.
    Stopping,
}

/// How a script ended.
pub(crate) enum Ended {
    /// It returned; its answer is there.
    Answered,
    /// With this error, which is its answer.
    Failed {
        /// The error, without `-`.
        line: String,
        /// A command of the script failed with it, and was counted.
        counted: bool,
    },
    /// It was stopped, and there is no answer.
    Halted(Halt),
}

/// What became of a command.
pub(crate) enum Ran {
    /// Its answer, an error it may be, is there.
    Answered,
    /// It may not run in this script, or not now; nothing was done.
    Refused(std::borrow::Cow<'static, str>),
    /// The script has to stop.
    Halted(Halt),
}

/// Runs the commands of one script.
pub(crate) trait Runner {
    /// Runs a command; its answer, in this version, is appended.
    fn run(&mut self, args: &Args<'_>, version: Version, out: &mut Vec<u8>) -> Ran;

    /// Whether the user who called the script may run this command; an error if there is no such.
    fn may_run(&mut self, args: &Args<'_>) -> Result<bool, &'static str>;
}
