//! CONFIG, TIME, ACL and SLOWLOG, as far as clients ask for them when they connect.

use std::time::{SystemTime, UNIX_EPOCH};

use resp::reply::Writer;

use super::unknown_subcommand;
use crate::command::Request;
use crate::thread::Thread;

/// CONFIG GET of what tools ask for. Nothing can be set.
pub(super) fn config(out: &mut Writer<'_>, thread: &Thread, request: &Request<'_>) {
    if request.is(1, "RESETSTAT") && request.len() == 2 {
        return out.error("ERR CONFIG RESETSTAT is not carried: the proxy's counters only rise");
    }
    if !request.is(1, "GET") || request.len() < 3 {
        return unknown_subcommand(out, request);
    }
    let max_clients = thread.shared.config.max_clients.to_string();
    let known = [
        ("save", ""),
        ("appendonly", "no"),
        ("databases", "1"),
        ("maxclients", &*max_clients),
        ("maxmemory", "0"),
        ("timeout", "0"),
        ("proto-max-bulk-len", "536870912"),
    ];
    let asked = |name: &str| {
        request.args_from(2).any(|arg| arg == b"*" || arg.eq_ignore_ascii_case(name.as_bytes()))
    };
    let found: Vec<_> = known.iter().filter(|(name, _)| asked(name)).collect();
    out.map(found.len());
    for (name, value) in found {
        out.bulk(name.as_bytes());
        out.bulk(value.as_bytes());
    }
}

/// TIME.
pub(super) fn time(out: &mut Writer<'_>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    out.array(2);
    out.bulk(now.as_secs().to_string().as_bytes());
    out.bulk(now.subsec_micros().to_string().as_bytes());
}

/// ACL WHOAMI.
pub(super) fn acl(out: &mut Writer<'_>, request: &Request<'_>) {
    if request.is(1, "WHOAMI") && request.len() == 2 {
        out.bulk(b"default");
    } else {
        unknown_subcommand(out, request);
    }
}

/// SLOWLOG: the proxy keeps none.
pub(super) fn slowlog(out: &mut Writer<'_>, request: &Request<'_>) {
    if request.is(1, "GET") {
        out.array(0);
    } else if request.is(1, "LEN") {
        out.integer(0);
    } else {
        unknown_subcommand(out, request);
    }
}
