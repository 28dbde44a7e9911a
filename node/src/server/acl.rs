//! ACL: users and what they may do.

use std::sync::Arc;

use resp::reply::Writer;

use super::client::Client;
use super::session::{Session, Shared};
use crate::acl::{Categories, Changed, Selector, SetError};
use crate::command::{Args, Fail, table};

type Answer = Result<(), Fail>;

fn failed(why: impl Into<SetError>) -> Fail {
    match why.into() {
        SetError::Log(answer) => Fail::text(answer),
        why => Fail::text(format!("ERR {why}")),
    }
}

pub(super) fn acl(session: &mut Session, args: &Args<'_>, out: &mut Vec<u8>) -> Answer {
    let shared = session.shared.clone();
    let users = &shared.users;
    let mut out = Writer::new(out, session.version);
    match &args.at(1).to_ascii_lowercase()[..] {
        b"whoami" => out.bulk(session.account.name().as_bytes()),
        b"users" => {
            let all = users.all();
            out.array(all.len());
            all.iter().for_each(|user| out.bulk(&user.name));
        }
        b"list" => {
            let all = users.all();
            out.array(all.len());
            all.iter().for_each(|user| out.bulk(user.line().as_bytes()));
        }
        b"cat" => cat(args, &mut out)?,
        b"genpass" => gen_pass(args, &mut out)?,
        b"getuser" => get_user(&shared, args.at(2), &mut out),
        b"setuser" => {
            let changed = users.set(args.at(2), args.from(3)).map_err(failed)?;
            if may_answer(session, &changed) {
                out.simple("OK");
            }
        }
        b"deluser" => {
            if args.from(2).any(|name| name == b"default") {
                return Err(Fail::text("ERR The 'default' user cannot be removed"));
            }
            let (count, changed) = users.delete(args.from(2)).map_err(failed)?;
            if may_answer(session, &changed) {
                out.integer(count as i64);
            }
        }
        b"save" => {
            users.save().map_err(failed)?;
            out.simple("OK");
        }
        b"load" => {
            let changed = users.load().map_err(failed)?;
            if may_answer(session, &changed) {
                out.simple("OK");
            }
        }
        b"log" => log(&shared, args, &mut out)?,
        b"dryrun" => dry_run(&shared, args, &mut out)?,
        _ => return Err(Fail::Syntax),
    }
    Ok(())
}

fn cat(args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let names: Vec<&str> = match args.len() {
        2 => Categories::names().collect(),
        3 => {
            let unknown = || {
                let name =
                    String::from_utf8_lossy(args.at(2)).chars().take(128).collect::<String>();
                Fail::text(format!("ERR Unknown category '{name}'"))
            };
            let category = Categories::named(args.at(2)).ok_or_else(unknown)?;
            category.commands().map(|spec| spec.name).collect()
        }
        _ => return Err(super::unknown_subcommand_syntax(args)),
    };
    out.array(names.len());
    names.iter().for_each(|name| out.bulk(name.as_bytes()));
    Ok(())
}

fn gen_pass(args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    const BITS_MAX: i64 = 4096;
    let bits = match args.len() {
        2 => 256,
        3 => args.integer(2)?,
        _ => return Err(super::unknown_subcommand_syntax(args)),
    };
    if !(1..=BITS_MAX).contains(&bits) {
        return Err(Fail::text(
            "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096",
        ));
    }
    let digit = || char::from_digit(rand::random_range(0..16), 16).unwrap_or('0');
    let password: String = (0..(bits + 3) / 4).map(|_| digit()).collect();
    out.bulk(password.as_bytes());
    Ok(())
}

fn get_user(shared: &Shared, name: &[u8], out: &mut Writer<'_>) {
    let Some(account) = shared.users.named(name) else {
        out.null();
        return;
    };
    let user = account.user();
    out.map(6);
    out.bulk(b"flags");
    out.set(user.flags().count());
    user.flags().for_each(|flag| out.bulk(flag.as_bytes()));
    out.bulk(b"passwords");
    let passwords = user.passwords();
    out.array(passwords.len());
    passwords.for_each(|hash| out.bulk(hash.as_bytes()));
    user.selectors().take(1).for_each(|root| describe(root, out));
    out.bulk(b"selectors");
    out.array(user.bracketed().len());
    for selector in user.bracketed() {
        out.map(3);
        describe(selector, out);
    }
}

fn describe(selector: &Selector, out: &mut Writer<'_>) {
    for (name, line) in [
        ("commands", selector.commands_line()),
        ("keys", selector.keys_line()),
        ("channels", selector.channels_line()),
    ] {
        out.bulk(name.as_bytes());
        out.bulk(line.as_bytes());
    }
}

fn log(shared: &Shared, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    const SHOWN: usize = 10;
    let log = &shared.users.log;
    let count = match args.len() {
        2 => SHOWN,
        3 if args.is(2, "reset") => {
            log.clear();
            out.simple("OK");
            return Ok(());
        }
        3 => usize::try_from(args.integer(2)?).unwrap_or(0),
        _ => return Err(super::unknown_subcommand_syntax(args)),
    };
    let now_ms = ops::clock::unix_ms();
    let entries = log.newest(count);
    out.array(entries.len());
    for entry in entries {
        out.map(10);
        out.bulk(b"count");
        out.integer(entry.count as i64);
        for (name, value) in [
            ("reason", entry.reason.name().as_bytes()),
            ("context", entry.context.name().as_bytes()),
            ("object", &entry.object),
            ("username", entry.user.as_bytes()),
        ] {
            out.bulk(name.as_bytes());
            out.bulk(value);
        }
        out.bulk(b"age-seconds");
        out.double(now_ms.saturating_sub(entry.updated_ms) as f64 / 1000.0);
        out.bulk(b"client-info");
        out.bulk(entry.client.as_bytes());
        for (name, number) in [
            ("entry-id", entry.id),
            ("timestamp-created", entry.created_ms),
            ("timestamp-last-updated", entry.updated_ms),
        ] {
            out.bulk(name.as_bytes());
            out.integer(number as i64);
        }
    }
    Ok(())
}

fn dry_run(shared: &Shared, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let shown = |at: usize| String::from_utf8_lossy(args.at(at)).into_owned();
    let account = shared.users.named(args.at(2));
    let account =
        account.ok_or_else(|| Fail::text(format!("ERR User '{}' not found", shown(2))))?;
    let command = args.rest(3);
    let spec = table::resolve(&command)
        .map_err(|_| Fail::text(format!("ERR Command '{}' not found", shown(3))))?;
    if !spec.accepts(command.len()) {
        return Err(super::wrong_number(spec));
    }
    match account.check(spec, &command) {
        Ok(()) => out.simple("OK"),
        Err(denied) => out.bulk(denied.detail(&account.name(), spec, &command).as_bytes()),
    }
    Ok(())
}

/// Ends the connections that a change ends, this one after its answer. False: it gets none.
pub(super) fn may_answer(session: &mut Session, changed: &Changed) -> bool {
    let own = session.client.id;
    for client in concerned(&session.shared, changed) {
        match client.id == own {
            true => session.closing = true,
            false => client.kill(),
        }
    }
    session.closing |= changed.lost;
    !changed.lost
}

/// Ends the connections that a change from elsewhere ends.
pub(super) fn disconnect(shared: &Shared, changed: &Changed) {
    concerned(shared, changed).iter().for_each(|client| client.kill());
}

/// The connections of users that are no more, and of subscribers that may not hear any longer what they
/// hear.
fn concerned(shared: &Shared, changed: &Changed) -> Vec<Arc<Client>> {
    let mut ended = Vec::new();
    if !changed.gone.is_empty() {
        for client in shared.clients.all() {
            let Some(account) = client.said().account.clone() else { continue };
            if changed.gone.iter().any(|gone| Arc::ptr_eq(gone, &account)) {
                ended.push(client);
            }
        }
    }
    for account in &changed.fewer_channels {
        ended.extend(shared.broker.not_allowed(account));
    }
    ended
}
