//! Commands about the connection itself.

use resp::Version;
use resp::reply::Writer;

use super::auth;
use super::session::{ReplyMode, Session};
use super::{pause, tracking};
use crate::command::{Args, Fail};
use crate::control::Mode;

/// The version of Redis whose commands and replies these are.
pub(crate) const REDIS_VERSION: &str = "7.2.0";

type Answer = Result<(), Fail>;

fn ok(session: &Session, out: &mut Vec<u8>) -> Answer {
    Writer::new(out, session.version).simple("OK");
    Ok(())
}

pub(super) fn ping(session: &mut Session, args: &Args<'_>, out: &mut Vec<u8>) -> Answer {
    let mut out = Writer::new(out, session.version);
    let subscribed = session.subscriptions.len() > 0 && session.version == Version::V2;
    match args.len() {
        1 | 2 if subscribed => {
            out.array(2);
            out.bulk(b"pong");
            out.bulk(args.get(1).unwrap_or_default());
        }
        1 => out.simple("PONG"),
        2 => out.bulk(args.at(1)),
        _ => return Err(Fail::text("ERR wrong number of arguments for 'ping' command")),
    }
    Ok(())
}

pub(super) fn echo(session: &mut Session, args: &Args<'_>, out: &mut Vec<u8>) -> Answer {
    Writer::new(out, session.version).bulk(args.at(1));
    Ok(())
}

pub(super) fn quit(session: &mut Session, _: &Args<'_>, out: &mut Vec<u8>) -> Answer {
    session.closing = true;
    ok(session, out)
}

pub(super) fn reset(session: &mut Session, _: &Args<'_>, out: &mut Vec<u8>) -> Answer {
    session.reset();
    Writer::new(out, session.version).simple("RESET");
    Ok(())
}

pub(super) fn select(session: &mut Session, args: &Args<'_>, out: &mut Vec<u8>) -> Answer {
    match args.integer(1).map_err(|_| Fail::text("ERR value is not an integer or out of range"))? {
        0 => ok(session, out),
        _ => Err(Fail::text("ERR DB index is out of range")),
    }
}

/// READONLY and READWRITE are for nodes of a cluster.
fn check_cluster(session: &Session) -> Answer {
    if session.shared.authority.mode() == Mode::Standalone {
        return Err(Fail::text("ERR This instance has cluster support disabled"));
    }
    Ok(())
}

pub(super) fn readonly(session: &mut Session, _: &Args<'_>, out: &mut Vec<u8>) -> Answer {
    check_cluster(session)?;
    session.readonly = true;
    ok(session, out)
}

pub(super) fn readwrite(session: &mut Session, _: &Args<'_>, out: &mut Vec<u8>) -> Answer {
    check_cluster(session)?;
    session.readonly = false;
    ok(session, out)
}

pub(super) fn hold(session: &mut Session, _: &Args<'_>, out: &mut Vec<u8>) -> Answer {
    session.begin_hold();
    ok(session, out)
}

/// From here on its commands, WATCH and EXEC may be about any slots of this node's shard.
pub(super) fn cross_slots(session: &mut Session, _: &Args<'_>, out: &mut Vec<u8>) -> Answer {
    session.crosses = true;
    ok(session, out)
}

pub(super) fn resume(session: &mut Session, _: &Args<'_>, out: &mut Vec<u8>) -> Answer {
    session.resume();
    ok(session, out)
}

fn check_name(name: &[u8], what: &str) -> Answer {
    if name.iter().all(|b| (b'!'..=b'~').contains(b)) {
        return Ok(());
    }
    Err(Fail::text(format!("ERR {what} cannot contain spaces, newlines or special characters.")))
}

pub(super) fn hello(session: &mut Session, args: &Args<'_>, out: &mut Vec<u8>) -> Answer {
    let mut version = session.version;
    let (mut name, mut login) = (None, None);
    if args.len() > 1 {
        let bad = |_| Fail::text("ERR Protocol version is not an integer or out of range");
        version = match args.integer(1).map_err(bad)? {
            2 => Version::V2,
            3 => Version::V3,
            _ => return Err(Fail::text("NOPROTO unsupported protocol version")),
        };
    }
    let mut at = 2;
    while at < args.len() {
        if args.is(at, "auth") && at + 2 < args.len() {
            login = Some((args.at(at + 1), args.at(at + 2)));
            at += 3;
        } else if args.is(at, "setname") && at + 1 < args.len() {
            check_name(args.at(at + 1), "Client names")?;
            name = Some(args.at(at + 1));
            at += 2;
        } else {
            let option = String::from_utf8_lossy(args.at(at));
            return Err(Fail::text(format!("ERR Syntax error in HELLO option '{option}'")));
        }
    }
    if let Some((user, password)) = login {
        auth::authenticate(session, args, user, password)?;
    }
    if !session.is_authenticated() {
        return Err(Fail::text(NOT_KNOWN));
    }
    if let Some(name) = name {
        session.client.rename(name);
    }
    session.version = version;
    session.client.mail().speak(version);
    session.client.said().version = version.number() as u8;
    let mode = session.shared.authority.mode();
    let mut out = Writer::new(out, version);
    out.map(7);
    out.bulk(b"server");
    out.bulk(b"redis");
    out.bulk(b"version");
    out.bulk(REDIS_VERSION.as_bytes());
    out.bulk(b"proto");
    out.integer(version.number());
    out.bulk(b"id");
    out.integer(session.client.id as i64);
    out.bulk(b"mode");
    out.bulk(if mode == Mode::Standalone { b"standalone" } else { b"cluster" });
    out.bulk(b"role");
    out.bulk(if is_replica(mode) { b"replica" } else { b"master" });
    out.bulk(b"modules");
    out.array(0);
    Ok(())
}

const NOT_KNOWN: &str = "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time";

/// Whether clients should take the node for a replica.
pub(super) fn is_replica(mode: Mode) -> bool {
    matches!(mode, Mode::Standby | Mode::Unknown | Mode::Loading | Mode::Fenced)
}

pub(super) fn client(session: &mut Session, args: &Args<'_>, out: &mut Vec<u8>) -> Answer {
    let sub = args.at(1).to_ascii_lowercase();
    let mut writer = Writer::new(out, session.version);
    match (&sub[..], args.len()) {
        (b"id", 2) => writer.integer(session.client.id as i64),
        (b"getname", 2) => {
            let name = session.client.said().name.clone();
            if name.is_empty() { writer.null() } else { writer.bulk(name.as_bytes()) }
        }
        (b"setname", 3) => {
            check_name(args.at(2), "Client names")?;
            session.client.rename(args.at(2));
            writer.simple("OK");
        }
        (b"setinfo", 4) => set_info(session, args, out)?,
        (b"info", 2) => {
            writer.verbatim(*b"txt", session.client.line(false, wire_len(args)).as_bytes())
        }
        (b"list", _) => {
            let blocked = session.shared.workers.blocked();
            let own = session.client.id;
            let line = |c: &std::sync::Arc<super::client::Client>| {
                c.line(blocked.has(c.id), if c.id == own { wire_len(args) } else { 0 })
            };
            let lines: String = list(session, args)?.iter().map(line).collect();
            writer.verbatim(*b"txt", lines.as_bytes());
        }
        // Neither eviction nor access times exist here, so both are true already.
        (b"no-evict" | b"no-touch", 3) if args.is(2, "on") || args.is(2, "off") => {
            writer.simple("OK");
        }
        (b"reply", 3) => {
            session.reply = match () {
                () if args.is(2, "on") => ReplyMode::On,
                () if args.is(2, "off") => ReplyMode::Off,
                () if args.is(2, "skip") && session.reply != ReplyMode::Off => ReplyMode::SkipNext,
                () if args.is(2, "skip") => ReplyMode::Off,
                () => return Err(Fail::Syntax),
            };
            writer.simple("OK");
        }
        (b"kill", 3..) => kill(session, args, out)?,
        (b"unblock", 3 | 4) => unblock(session, args, out)?,
        (b"tracking", 3..) => tracking::set(session, args, out)?,
        (b"caching", 3) => tracking::caching(session, args, out)?,
        (b"getredir", 2) => writer.integer(tracking::redirection(&session.client)),
        (b"trackinginfo", 2) => tracking::info(session, out),
        (b"pause", 3 | 4) => pause::pause(session, args, out)?,
        (b"unpause", 2) => pause::unpause(session, out),
        (b"no-evict" | b"no-touch", 3) => return Err(Fail::Syntax),
        (
            b"id" | b"getname" | b"setname" | b"setinfo" | b"info" | b"no-evict" | b"no-touch"
            | b"reply" | b"kill" | b"unblock" | b"tracking" | b"caching" | b"getredir"
            | b"trackinginfo" | b"pause" | b"unpause",
            _,
        ) => {
            let sub = String::from_utf8_lossy(&sub);
            return Err(Fail::text(format!(
                "ERR wrong number of arguments for 'client|{sub}' command"
            )));
        }
        _ => return Err(unknown_subcommand(args)),
    }
    Ok(())
}

/// What Redis says to a subcommand that it does not know.
pub(super) fn unknown_subcommand(args: &Args<'_>) -> Fail {
    let name = String::from_utf8_lossy(args.at(0)).to_uppercase();
    let sub = String::from_utf8_lossy(args.get(1).unwrap_or_default()).into_owned();
    Fail::text(format!("ERR unknown subcommand '{sub}'. Try {name} HELP."))
}

fn set_info(session: &Session, args: &Args<'_>, out: &mut Vec<u8>) -> Answer {
    let value = String::from_utf8_lossy(args.at(3)).into_owned();
    let attribute = String::from_utf8_lossy(args.at(2)).into_owned();
    let library = match &attribute.to_ascii_lowercase()[..] {
        "lib-name" => true,
        "lib-ver" => false,
        _ => return Err(Fail::text(format!("ERR Unrecognized option '{attribute}'"))),
    };
    check_name(args.at(3), &attribute)?;
    let mut said = session.client.said();
    if library {
        said.library = value;
    } else {
        said.library_version = value;
    }
    drop(said);
    ok(session, out)
}

/// What a command was on the wire, in bytes: what its client's buffer holds while it runs.
fn wire_len(args: &Args<'_>) -> usize {
    let number = |number: usize| itoa::Buffer::new().format(number).len() + 3;
    number(args.len()) + args.from(0).map(|arg| number(arg.len()) + arg.len() + 2).sum::<usize>()
}

/// The clients that CLIENT LIST's options ask for.
fn list(
    session: &Session,
    args: &Args<'_>,
) -> Result<Vec<std::sync::Arc<super::client::Client>>, Fail> {
    let all = session.shared.clients.all();
    match args.len() {
        2 => Ok(all),
        4 if args.is(2, "type") => {
            let is_of = of_type(args.at(3))?;
            Ok(all.into_iter().filter(|client| is_of(client)).collect())
        }
        4.. if args.is(2, "id") => {
            let ids = args.from(3).map(resp::integer).collect::<Option<Vec<_>>>();
            let ids = ids.ok_or(Fail::text("ERR Invalid client ID"))?;
            Ok(all.into_iter().filter(|c| ids.contains(&(c.id as i64))).collect())
        }
        _ => Err(Fail::Syntax),
    }
}

/// Which clients are of a type: those who are subscribed, and the others.
fn of_type(kind: &[u8]) -> Result<fn(&super::client::Client) -> bool, Fail> {
    match &kind.to_ascii_lowercase()[..] {
        b"normal" => Ok(|client| !client.is_subscribed()),
        b"pubsub" => Ok(|client| client.is_subscribed()),
        b"master" | b"replica" | b"slave" => Ok(|_| false),
        _ => {
            let kind = String::from_utf8_lossy(kind);
            Err(Fail::text(format!("ERR Unknown client type '{kind}'")))
        }
    }
}

fn kill(session: &mut Session, args: &Args<'_>, out: &mut Vec<u8>) -> Answer {
    let all = session.shared.clients.all();
    if args.len() == 3 {
        let address = String::from_utf8_lossy(args.at(2));
        let Some(found) = all.iter().find(|c| c.peer.to_string() == address) else {
            return Err(Fail::text("ERR No such client"));
        };
        end(session, found);
        return ok(session, out);
    }
    if args.len() % 2 == 1 {
        return Err(Fail::Syntax);
    }
    let mut skip_me = true;
    let mut chosen = all;
    for (option, value) in args.pairs(2) {
        let text = String::from_utf8_lossy(value);
        match &option.to_ascii_lowercase()[..] {
            b"id" => {
                let id = resp::integer(value).filter(|&id| id > 0);
                let id = id.ok_or(Fail::text("ERR client-id should be greater than 0"))?;
                chosen.retain(|c| c.id == id as u64);
            }
            b"addr" => chosen.retain(|c| c.peer.to_string() == text),
            b"user" => {
                let none = || Fail::text(format!("ERR No such user '{text}'"));
                let account = session.shared.users.named(value).ok_or_else(none)?;
                chosen.retain(|c| {
                    c.said().account.as_ref().is_some_and(|a| std::sync::Arc::ptr_eq(a, &account))
                });
            }
            b"type" => {
                let is_of = of_type(value)?;
                chosen.retain(|client| is_of(client));
            }
            b"laddr" => chosen.retain(|c| c.local() == text),
            b"skipme" if text.eq_ignore_ascii_case("yes") => skip_me = true,
            b"skipme" if text.eq_ignore_ascii_case("no") => skip_me = false,
            _ => return Err(Fail::Syntax),
        }
    }
    chosen.retain(|c| !(skip_me && c.id == session.client.id));
    chosen.iter().for_each(|client| end(session, client));
    Writer::new(out, session.version).integer(chosen.len() as i64);
    Ok(())
}

fn unblock(session: &mut Session, args: &Args<'_>, out: &mut Vec<u8>) -> Answer {
    let error = match args.get(3) {
        None => None,
        Some(_) if args.is(3, "timeout") => None,
        Some(_) if args.is(3, "error") => Some("UNBLOCKED client unblocked via CLIENT UNBLOCK"),
        Some(_) => {
            return Err(Fail::text("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"));
        }
    };
    let id = u64::try_from(args.integer(2)?).unwrap_or(0);
    let ended = session.shared.workers.blocked().unblock(id, error);
    Writer::new(out, session.version).integer(ended.into());
    Ok(())
}

/// Ends a client at once, or this one after its answer.
fn end(session: &mut Session, client: &super::client::Client) {
    if client.id == session.client.id {
        session.closing = true;
    } else {
        client.kill();
    }
}
