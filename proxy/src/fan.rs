//! Commands for several nodes: split on the way out, merged on the way back.

mod gather;

use std::borrow::Cow;

use keyspace::Slot;
use resp::Version;

use crate::command::{Fan, Request};
use crate::routes::{RouteId, Routes};

pub(crate) use gather::{Gather, Gathered, Part};

/// One node's part of a command.
pub(crate) struct SplitPart<'a> {
    pub(crate) route: RouteId,
    /// Its arguments, the name first.
    pub(crate) args: Vec<Cow<'a, [u8]>>,
}

/// A command in parts.
pub(crate) struct Split<'a> {
    /// Never empty.
    pub(crate) parts: Vec<SplitPart<'a>>,
    /// For each key, which part it went to.
    pub(crate) owners: Vec<u16>,
    /// The route that a SCAN is at, and how many there are.
    pub(crate) at: (u16, u16),
}

const NO_SHARD: &str = "TRYAGAIN no shard has this slot; the command was not run";

/// A node's own cursor of SCAN has these bits; the number of the shard is above them.
const CURSOR_BITS: u32 = 54;

/// The parts of a command; an error to answer where its arguments make no sense. There is at least
/// one route.
pub(crate) fn split<'a>(
    kind: Fan,
    request: &Request<'a>,
    routes: &Routes,
) -> Result<Split<'a>, &'static str> {
    let count = u16::try_from(routes.routes.len()).unwrap_or(u16::MAX);
    if kind.to_all() {
        let part =
            |route| SplitPart { route, args: request.args_from(0).map(Cow::Borrowed).collect() };
        return Ok(Split {
            parts: routes.ids().map(part).collect(),
            owners: vec![],
            at: (0, count),
        });
    }
    if kind == Fan::Scan {
        return scan(request, count);
    }
    let step = if kind == Fan::Mset { 2 } else { 1 };
    if kind == Fan::Mset && request.len().is_multiple_of(2) {
        return Err("ERR wrong number of arguments for 'mset' command");
    }
    // By shard: a node takes keys of several of its slots from a connection that holds, as ours do.
    let mut numbers = vec![None; routes.routes.len()];
    let mut split = Split { parts: Vec::new(), owners: Vec::new(), at: (0, count) };
    for at in (1..request.len()).step_by(step) {
        let route = routes.of(Slot::of_key(request.arg(at))).ok_or(NO_SHARD)?;
        let held = numbers.get_mut(usize::from(route.0)).ok_or(NO_SHARD)?;
        let number = match *held {
            Some(number) => number,
            None => {
                let number = u16::try_from(split.parts.len()).unwrap_or(u16::MAX);
                *held = Some(number);
                let args = vec![Cow::Borrowed(request.arg(0))];
                split.parts.push(SplitPart { route, args });
                number
            }
        };
        let args = request.args_from(at).take(step).map(Cow::Borrowed);
        split.parts[usize::from(number)].args.extend(args);
        split.owners.push(number);
    }
    Ok(split)
}

fn scan<'a>(request: &Request<'a>, count: u16) -> Result<Split<'a>, &'static str> {
    const INVALID: &str = "ERR invalid cursor";
    let text = std::str::from_utf8(request.arg(1)).map_err(|_| INVALID)?;
    let cursor: u64 = text.parse().map_err(|_| INVALID)?;
    let at = u16::try_from(cursor >> CURSOR_BITS).map_err(|_| INVALID)?;
    if at >= count {
        // The shards have changed since this cursor was given out: begin again.
        return Err("ERR invalid cursor: the shards have changed since, begin again with 0");
    }
    let own = cursor & ((1 << CURSOR_BITS) - 1);
    let mut args: Vec<Cow<'a, [u8]>> = request.args_from(0).map(Cow::Borrowed).collect();
    args[1] = Cow::Owned(own.to_string().into_bytes());
    Ok(Split {
        parts: vec![SplitPart { route: RouteId(at), args }],
        owners: vec![],
        at: (at, count),
    })
}

/// The text of an integer reply.
pub(crate) fn integer_reply(value: i64) -> Vec<u8> {
    let mut out = Vec::new();
    resp::reply::Writer::new(&mut out, Version::V2).integer(value);
    out
}
