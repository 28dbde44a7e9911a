//! HELLO, AUTH and CLIENT: what a connection says of itself.

use resp::Version;
use resp::reply::Writer;

use super::{REDIS_VERSION, unknown_subcommand};
use crate::client::State;
use crate::command::Request;
use crate::thread::Thread;

/// Gives a connection a name.
pub(super) fn rename(state: &mut State, thread: &Thread, name: &str) {
    name.clone_into(&mut state.name);
    let id = state.id;
    thread.shared.clients(|clients| {
        if let Some(info) = clients.get_mut(&id) {
            name.clone_into(&mut info.name);
        }
    });
}

fn valid_name(name: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(name).ok()?;
    name.bytes().all(|b| (b'!'..=b'~').contains(&b)).then_some(name)
}

const NAME: &str = "ERR Client names cannot contain spaces, newlines or special characters.";
const AUTH: &str = "WRONGPASS invalid username-password pair or user is disabled.";

/// HELLO [version [AUTH user password] [SETNAME name]].
pub(super) fn hello(
    state: &mut State,
    thread: &Thread,
    request: &Request<'_>,
    reply: &mut Vec<u8>,
) {
    let version = match request.arg(1) {
        b"" => state.version,
        b"2" => Version::V2,
        b"3" => Version::V3,
        other => {
            let text = match resp::integer(other) {
                Some(_) => "NOPROTO unsupported protocol version",
                None => "ERR Protocol version is not an integer or out of range",
            };
            return Writer::new(reply, state.version).error(text);
        }
    };
    let mut at = 2;
    let mut name = None;
    while at < request.len() {
        let left = request.len() - at - 1;
        if request.is(at, "AUTH") && left >= 2 {
            if !request.is(at + 1, "default") {
                return Writer::new(reply, state.version).error(AUTH);
            }
            at += 3;
        } else if request.is(at, "SETNAME") && left >= 1 {
            let Some(valid) = valid_name(request.arg(at + 1)) else {
                return Writer::new(reply, state.version).error(NAME);
            };
            name = Some(valid);
            at += 2;
        } else {
            return Writer::new(reply, state.version).error("ERR Syntax error in HELLO option");
        }
    }
    if let Some(name) = name {
        rename(state, thread, name);
    }
    state.version = version;
    let out = &mut Writer::new(reply, version);
    out.map(7);
    out.bulk(b"server");
    out.bulk(b"redis");
    out.bulk(b"version");
    out.bulk(REDIS_VERSION.as_bytes());
    out.bulk(b"proto");
    out.integer(version.number());
    out.bulk(b"id");
    out.integer(state.id.cast_signed());
    out.bulk(b"mode");
    out.bulk(b"standalone");
    out.bulk(b"role");
    out.bulk(b"master");
    out.bulk(b"modules");
    out.array(0);
}

/// AUTH, as a Redis without a password answers it.
pub(super) fn auth(out: &mut Writer<'_>, request: &Request<'_>) {
    match request.len() {
        2 => out.error("ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?"),
        3 if request.is(1, "default") => out.simple("OK"),
        3 => out.error(AUTH),
        _ => super::wrong_arity(out, "auth"),
    }
}

/// CLIENT, the part that concerns one connection, and LIST.
pub(super) fn client(
    state: &mut State,
    thread: &Thread,
    request: &Request<'_>,
    out: &mut Writer<'_>,
) {
    let sub = request.arg(1).to_ascii_uppercase();
    match (&*sub, request.len()) {
        (b"ID", 2) => out.integer(state.id.cast_signed()),
        (b"GETNAME", 2) => match &*state.name {
            "" => out.null(),
            name => out.bulk(name.as_bytes()),
        },
        (b"SETNAME", 3) => match valid_name(request.arg(2)) {
            Some(name) => {
                rename(state, thread, name);
                out.simple("OK");
            }
            None => out.error(NAME),
        },
        (b"SETINFO", 4) | (b"NO-EVICT" | b"NO-TOUCH", 3) => out.simple("OK"),
        (b"REPLY", 3) if request.is(2, "ON") => out.simple("OK"),
        (b"INFO", 2) => {
            let id = state.id;
            let line = thread.shared.clients(|all| all.get(&id).map(|info| line(id, info)));
            out.verbatim(*b"txt", line.unwrap_or_default().as_bytes());
        }
        (b"LIST", _) => {
            let lines: String =
                thread.shared.clients(|all| all.iter().map(|(id, info)| line(*id, info)).collect());
            out.verbatim(*b"txt", lines.as_bytes());
        }
        _ => unknown_subcommand(out, request),
    }
}

fn line(id: u64, info: &crate::shared::ClientInfo) -> String {
    let age = info.since.elapsed().as_secs();
    format!("id={id} addr={} name={} age={age} db=0\n", info.address, info.name)
}
