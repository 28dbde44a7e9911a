//! COMMAND: the table, as clients that route by it read it.

use resp::reply::Writer;

use super::unknown_subcommand;
use crate::command::{Class, Command, KeyError, Keys, Request, TABLE, find};

/// COMMAND and its subcommands.
pub(super) fn command(out: &mut Writer<'_>, request: &Request<'_>) {
    let carried = || TABLE.iter().filter(|c| !matches!(c.class, Class::Refused(_)));
    let sub = request.arg(1).to_ascii_uppercase();
    match (&*sub, request.len()) {
        (b"", 1) => {
            out.array(carried().count());
            carried().for_each(|command| entry(out, command));
        }
        (b"COUNT", 2) => out.integer(i64::try_from(carried().count()).unwrap_or(i64::MAX)),
        (b"LIST", 2) => {
            out.array(carried().count());
            carried().for_each(|command| out.bulk(command.name.to_ascii_lowercase().as_bytes()));
        }
        (b"DOCS", _) => out.map(0),
        (b"INFO", _) => {
            out.array(request.len() - 2);
            for name in request.args_from(2) {
                match find(name) {
                    Some(command) => entry(out, command),
                    None => out.null_array(),
                }
            }
        }
        (b"GETKEYS", 3..) => keys(out, &Request { args: &request.args[2..], ..*request }),
        _ => unknown_subcommand(out, request),
    }
}

fn keys(out: &mut Writer<'_>, request: &Request<'_>) {
    let Some(command) = find(request.arg(0)) else {
        return out.error("ERR Invalid command specified");
    };
    if !command.accepts(request.len()) {
        return out.error("ERR Invalid number of arguments specified for command");
    }
    let mut found: Vec<&[u8]> = Vec::new();
    let listed = command.keys.each(request, |key| {
        found.push(key);
        Ok(())
    });
    match listed {
        Err(KeyError::Syntax(text)) => out.error(text),
        _ if found.is_empty() => out.error("ERR The command has no key arguments"),
        _ => {
            out.array(found.len());
            found.iter().for_each(|key| out.bulk(key));
        }
    }
}

fn entry(out: &mut Writer<'_>, command: &Command) {
    let (first, last, step) = match command.keys {
        Keys::Range { first, last, step } => (first.cast_signed(), last, step.cast_signed()),
        Keys::Counted { also: Some(at), .. } => (at.cast_signed(), at.cast_signed(), 1),
        Keys::Store => (1, 1, 1),
        Keys::None | Keys::Counted { .. } | Keys::Streams => (0, 0, 0),
    };
    let moves = matches!(command.keys, Keys::Counted { .. } | Keys::Streams | Keys::Store);
    out.array(6);
    out.bulk(command.name.to_ascii_lowercase().as_bytes());
    out.integer(i64::from(command.arity));
    out.set(1 + usize::from(moves));
    out.simple(if command.writes() { "write" } else { "readonly" });
    if moves {
        out.simple("movablekeys");
    }
    for number in [first, last, step] {
        out.integer(i64::try_from(number).unwrap_or(i64::MAX));
    }
}
