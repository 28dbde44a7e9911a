//! AUTH: who a connection is.

use resp::reply::Writer;

use super::session::Session;
use crate::acl::{Context, Reason};
use crate::command::{Args, Fail};

pub(super) fn auth(session: &mut Session, args: &Args<'_>, out: &mut Vec<u8>) -> Result<(), Fail> {
    match args.len() {
        2 if session.shared.users.default_one().user().any_password => {
            return Err(Fail::text(
                "ERR AUTH <password> called without any password configured for the default user. \
                 Are you sure your configuration is correct?",
            ));
        }
        2 => authenticate(session, args, b"default", args.at(1))?,
        3 => authenticate(session, args, args.at(1), args.at(2))?,
        _ => return Err(Fail::Syntax),
    }
    Writer::new(out, session.version).simple("OK");
    Ok(())
}

/// Makes the connection that of a user, if the password is the user's.
pub(super) fn authenticate(
    session: &mut Session,
    args: &Args<'_>,
    name: &[u8],
    password: &[u8],
) -> Result<(), Fail> {
    let users = session.shared.users.clone();
    if let Some(account) = users.authenticate(name, password) {
        session.become_user(account, true);
        return Ok(());
    }
    let context = if session.queued.is_some() { Context::Multi } else { Context::Toplevel };
    let name = String::from_utf8_lossy(name);
    users.log.add((Reason::Auth, context), args.at(0), &name, session.client_line());
    Err(Fail::text("WRONGPASS invalid username-password pair or user is disabled."))
}
