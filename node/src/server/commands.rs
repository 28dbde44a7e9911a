//! COMMAND: what the table says.

use resp::reply::Writer;

use super::hello::unknown_subcommand;
use super::session::Session;
use crate::command::{Also, Args, Fail, Flags, Keys, Spec, glob_matches, table};

pub(super) fn command(
    session: &mut Session,
    args: &Args<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Fail> {
    let mut out = Writer::new(out, session.version);
    let sub = args.get(1).map(<[u8]>::to_ascii_lowercase);
    match (sub.as_deref(), args.len()) {
        (None, _) => {
            out.array(table::all().count());
            table::all().for_each(|spec| info(spec, &mut out));
        }
        (Some(b"count"), 2) => out.integer(table::all().count() as i64),
        (Some(b"info"), 2) => {
            out.array(table::all().count());
            table::all().for_each(|spec| info(spec, &mut out));
        }
        (Some(b"info"), _) => {
            out.array(args.len() - 2);
            for name in args.from(2) {
                match table::find(name) {
                    Some(spec) => info(spec, &mut out),
                    None => out.null_array(),
                }
            }
        }
        (Some(b"docs"), 2) => docs(&table::all().collect::<Vec<_>>(), &mut out),
        (Some(b"docs"), _) => {
            docs(&args.from(2).filter_map(table::find).collect::<Vec<_>>(), &mut out)
        }
        (Some(b"list"), _) => list(args, &mut out)?,
        (Some(b"getkeys"), 4..) => get_keys(args, &mut out)?,
        (Some(sub @ (b"count" | b"getkeys")), _) => {
            let sub = String::from_utf8_lossy(sub);
            return Err(Fail::text(format!(
                "ERR wrong number of arguments for 'command|{sub}' command"
            )));
        }
        _ => return Err(unknown_subcommand(args)),
    }
    Ok(())
}

fn categories(spec: &Spec) -> impl Iterator<Item = String> + Clone {
    let write = spec.flags.has(Flags::WRITE).then(|| "@write".to_owned());
    let read = spec.flags.has(Flags::READONLY).then(|| "@read".to_owned());
    let admin = spec.flags.has(Flags::ADMIN).then(|| "@admin".to_owned());
    let speed = if spec.flags.has(Flags::FAST) { "@fast" } else { "@slow" };
    let group = match spec.group {
        "generic" => "@keyspace".to_owned(),
        "sorted-set" => "@sortedset".to_owned(),
        "transactions" => "@transaction".to_owned(),
        group => format!("@{group}"),
    };
    write.into_iter().chain(read).chain(admin).chain([speed.to_owned(), group])
}

fn info(spec: &Spec, out: &mut Writer<'_>) {
    out.array(10);
    out.bulk(spec.name.as_bytes());
    out.integer(spec.arity.into());
    out.set(spec.flags.names().count());
    spec.flags.names().for_each(|name| out.simple(name));
    // A count among the arguments is found by COMMAND GETKEYS, as in Redis.
    let keys = match spec.keys {
        keys if !keys.are_counted() => keys,
        keys if keys.also == Also::First => Keys::ONE,
        _ => Keys::NONE,
    };
    for number in [keys.first, keys.last, keys.step] {
        out.integer(number.into());
    }
    let categories = categories(spec);
    out.set(categories.clone().count());
    categories.for_each(|name| out.simple(&name));
    // Hints, key specifications and subcommands: none are given.
    out.array(0);
    out.array(0);
    out.array(0);
}

fn docs(specs: &[&Spec], out: &mut Writer<'_>) {
    out.map(specs.len());
    for spec in specs {
        out.bulk(spec.name.as_bytes());
        out.map(1);
        out.bulk(b"group");
        out.bulk(spec.group.as_bytes());
    }
}

fn list(args: &Args<'_>, out: &mut Writer<'_>) -> Result<(), Fail> {
    let names: Vec<&str> = match args.len() {
        2 => table::all().map(|spec| spec.name).collect(),
        5 if args.is(2, "filterby") && args.is(3, "pattern") => {
            let names = table::all().map(|spec| spec.name);
            names.filter(|name| glob_matches(args.at(4), name.as_bytes())).collect()
        }
        5 if args.is(2, "filterby") && args.is(3, "aclcat") => {
            let wanted = format!("@{}", String::from_utf8_lossy(args.at(4)).to_lowercase());
            let of = |spec: &&Spec| categories(spec).any(|name| name == wanted);
            table::all().filter(of).map(|spec| spec.name).collect()
        }
        5 if args.is(2, "filterby") && args.is(3, "module") => Vec::new(),
        _ => return Err(Fail::Syntax),
    };
    out.array(names.len());
    names.iter().for_each(|name| out.bulk(name.as_bytes()));
    Ok(())
}

fn get_keys(args: &Args<'_>, out: &mut Writer<'_>) -> Result<(), Fail> {
    let spec = table::find(args.at(2)).ok_or(Fail::text("ERR Invalid command specified"))?;
    let rest = args.rest(2);
    if !spec.accepts(rest.len()) {
        return Err(Fail::text("ERR Invalid number of arguments specified for command"));
    }
    if spec.keys.is_none() {
        return Err(Fail::text("ERR The command has no key arguments"));
    }
    let indices = spec.keys.indices(&rest);
    let count = indices.clone().count();
    if count == 0 {
        return Err(Fail::text("ERR Invalid arguments specified for command"));
    }
    out.array(count);
    indices.for_each(|index| out.bulk(rest.at(index)));
    Ok(())
}
