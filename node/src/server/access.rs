//! Whether a connection may run a command: has it said who it is, and may that user.

use super::session::Session;
use crate::acl::{Context, Denied, Reason};
use crate::command::{Args, Fail, Flags, Spec};

const NO_AUTH: &str = "NOAUTH Authentication required.";

/// Whether the client may run this command now.
pub(super) fn admit(session: &Session, spec: &Spec, args: &Args<'_>) -> Result<(), Fail> {
    if !session.is_authenticated() && !spec.flags.has(Flags::NO_AUTH) {
        return Err(Fail::text(NO_AUTH));
    }
    let context = if session.queued.is_some() { Context::Multi } else { Context::Toplevel };
    check(session, spec, args, context)
        .map_err(|denied| Fail::text(format!("NOPERM {}", denied_line(session, spec, denied))))?;
    session.account.check_patterns(spec, args)
}

/// A command of a transaction at its EXEC: what its user may has changed since. The text of the
/// error that is its answer, in place of its running.
pub(super) fn check_queued(session: &Session, spec: &Spec, args: &Args<'_>) -> Option<String> {
    let denied = check(session, spec, args, Context::Multi).err()?;
    let why = match denied.reason {
        Reason::Command | Reason::Auth => "no permission to execute the command or subcommand",
        Reason::Key => "no permission to touch the specified keys",
        Reason::Channel => {
            "no permission to access one of the channels used as arguments to the command"
        }
    };
    Some(format!(
        "NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. This command is no longer allowed for the following reason: {why}"
    ))
}

fn check(session: &Session, spec: &Spec, args: &Args<'_>, context: Context) -> Result<(), Denied> {
    session.account.check(spec, args).inspect_err(|denied| {
        let (user, client) = (session.account.name(), session.client_line());
        let object = denied.object(spec, args);
        session.shared.users.log.add((denied.reason, context), &object, &user, client);
    })
}

fn denied_line(session: &Session, spec: &Spec, denied: Denied) -> String {
    denied.message(&session.account.name(), spec)
}
