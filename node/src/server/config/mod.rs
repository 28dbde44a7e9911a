//! CONFIG: parameters under Redis's names.
//!
//! A parameter that has an effect here can be changed while the node runs. One that Redis has and
//! that is always the same here is shown ([`fixed`]); setting it to what it is succeeds, to
//! something else is refused. One that means nothing here is not there.

mod fixed;
mod kept;
mod limits;
mod parameter;
mod percentiles;
mod texts;

use resp::reply::Writer;

pub(crate) use kept::Kept;
pub(super) use parameter::Parameters;

use super::session::{Session, Shared};
use crate::command::{Args, Fail, glob_matches};
use crate::stats;
use parameter::{Change, Parameter};

pub(super) fn config(
    session: &mut Session,
    args: &Args<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Fail> {
    let shared = session.shared.clone();
    let mut out = Writer::new(out, session.version);
    match &args.at(1).to_ascii_lowercase()[..] {
        b"get" => {
            let wanted = |name: &str| {
                args.from(2).any(|p| glob_matches(&p.to_ascii_lowercase(), name.as_bytes()))
            };
            let all = parameter::all();
            let names = all.flat_map(|one| one.names().map(move |name| (name, one)));
            let found: Vec<_> = names.filter(|(name, _)| wanted(name)).collect();
            out.map(found.len());
            for (name, parameter) in found {
                out.bulk(name.as_bytes());
                out.bulk(&parameter.get(&shared));
            }
        }
        b"set" => set(session, args, &mut out)?,
        b"resetstat" => {
            stats::commands::reset();
            stats::errors::reset();
            stats::keys::reset();
            shared.stats.reset();
            shared.users.log.reset_counts();
            out.simple("OK");
        }
        b"rewrite" => {
            let kept = Kept::now(&shared);
            kept.write(&shared.facts.dir).map_err(|why| Fail::text(format!("ERR {why}")))?;
            out.simple("OK");
        }
        _ => return Err(super::unknown_subcommand_syntax(args)),
    }
    Ok(())
}

/// Makes this the password of the user `default`, at the start.
pub(super) fn require_password(shared: &Shared, password: &[u8]) -> Result<(), String> {
    match shared.users.start_with_password(password).map_err(|why| why.to_string())? {
        true => shared.parameters.show_password(password),
        false => tracing::warn!(
            "the users are those of the service, and requirepass is not the password of `default` there: it was not used; change it with CONFIG SET requirepass at the primary"
        ),
    }
    Ok(())
}

/// All changes or none: each is checked before the first is made.
fn set(session: &mut Session, args: &Args<'_>, out: &mut Writer<'_>) -> Result<(), Fail> {
    if args.len() % 2 == 1 {
        return Err(super::unknown_subcommand_syntax(args));
    }
    let shared = session.shared.clone();
    let failed = |name: &[u8], why: &str| {
        let name = String::from_utf8_lossy(name);
        Fail::text(format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}"))
    };
    let mut named: Vec<(&[u8], Parameter, &[u8])> = Vec::new();
    for (name, value) in args.pairs(2) {
        let Some(parameter) = parameter::named(name) else {
            let name = String::from_utf8_lossy(name);
            return Err(Fail::text(format!(
                "ERR Unknown option or number of arguments for CONFIG SET - '{name}'"
            )));
        };
        if named.iter().any(|(_, other, _)| other.is(&parameter)) {
            return Err(failed(name, "duplicate parameter"));
        }
        named.push((name, parameter, value));
    }
    let read = |(name, parameter, value): (_, Parameter, _)| {
        let change = parameter.read(&shared, value).map_err(|why| failed(name, &why))?;
        Ok((name, change))
    };
    let changes: Vec<(&[u8], Change)> = named.into_iter().map(read).collect::<Result<_, Fail>>()?;
    let mut answer = true;
    for (name, change) in changes {
        let changed = change(&shared).map_err(|why| failed(name, &why))?;
        answer &= super::acl::may_answer(session, &changed);
    }
    if answer {
        out.simple("OK");
    }
    Ok(())
}
