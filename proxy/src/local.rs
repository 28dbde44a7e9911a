//! What the proxy answers itself.

mod client;
mod cluster;
mod commands;
mod info;
mod server;

use resp::Version;
use resp::reply::Writer;

use crate::client::State;
use crate::command::{Local, Request};
use crate::routes::Routes;
use crate::thread::Thread;

/// What INFO and HELLO say: clients choose their commands by it.
const REDIS_VERSION: &str = "7.0.15";

/// Whether it changes how later replies are written, or ends the connection's state.
pub(crate) const fn changes_connection(kind: Local) -> bool {
    matches!(kind, Local::Hello | Local::Reset)
}

/// Answers a command.
pub(crate) fn answer(
    kind: Local,
    state: &mut State,
    thread: &Thread,
    routes: &Routes,
    request: &Request<'_>,
    reply: &mut Vec<u8>,
) {
    let out = &mut Writer::new(reply, state.version);
    match kind {
        Local::Ping => match request.len() {
            1 => out.simple("PONG"),
            2 => out.bulk(request.arg(1)),
            _ => wrong_arity(out, "ping"),
        },
        Local::Echo => out.bulk(request.arg(1)),
        Local::Quit => {
            state.ending = true;
            out.simple("OK");
        }
        Local::Reset => {
            state.version = Version::V2;
            client::rename(state, thread, "");
            out.simple("RESET");
        }
        Local::Select => match resp::integer(request.arg(1)) {
            Some(0) => out.simple("OK"),
            Some(_) => out.error("ERR DB index is out of range: there is one database, 0"),
            None => out.error("ERR invalid DB index"),
        },
        Local::Hello => client::hello(state, thread, request, reply),
        Local::Auth => client::auth(out, request),
        Local::Client => client::client(state, thread, request, out),
        Local::Command => commands::command(out, request),
        Local::Info => info::info(out, thread, routes),
        Local::Config => server::config(out, thread, request),
        Local::Time => server::time(out),
        Local::Cluster => cluster::cluster(out, thread, request),
        Local::Proxy => info::proxy(out, thread, routes, request),
        Local::Ok => out.simple("OK"),
        Local::Lolwut => out.verbatim(*b"txt", b"godwit: 11,000 km without a stop\n"),
        Local::Role => {
            out.array(3);
            out.bulk(b"master");
            out.integer(0);
            out.array(0);
        }
        Local::Acl => server::acl(out, request),
        Local::Slowlog => server::slowlog(out, request),
    }
}

/// The error for a command that is not in the table, as redis-server words it.
pub(crate) fn unknown(out: &mut Writer<'_>, request: &Request<'_>) {
    /// As much of a stranger's words as Redis repeats.
    const WORDS_BYTES_MAX: usize = 128;
    let short = |bytes: &[u8]| {
        String::from_utf8_lossy(&bytes[..bytes.len().min(WORDS_BYTES_MAX)]).into_owned()
    };
    let mut words = String::new();
    for arg in request.args_from(1) {
        if words.len() >= WORDS_BYTES_MAX {
            break;
        }
        words.push_str(&format!("'{}' ", short(arg)));
    }
    let name = short(request.arg(0));
    out.error(&format!("ERR unknown command '{name}', with args beginning with: {words}"));
}

/// The error for too few or too many arguments.
pub(crate) fn wrong_arity(out: &mut Writer<'_>, name: &str) {
    out.error(&format!("ERR wrong number of arguments for '{name}' command"));
}

/// The error for a subcommand that is not known or not carried.
fn unknown_subcommand(out: &mut Writer<'_>, request: &Request<'_>) {
    let name = String::from_utf8_lossy(request.arg(0)).to_ascii_uppercase();
    let sub: String = String::from_utf8_lossy(request.arg(1)).chars().take(64).collect();
    out.error(&format!(
        "ERR unknown subcommand or wrong number of arguments for '{sub}': this proxy does not carry that part of {name}"
    ));
}
