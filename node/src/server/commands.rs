//! COMMAND: what the table says.

use resp::reply::Writer;

use super::session::Session;
use crate::acl::Categories;
use crate::command::subcommand::SUBCOMMANDS;
use crate::command::{
    Also, Args, Fail, Flags, Keys, Place, Spec, glob_matches, key_flags, summaries, table,
};

pub(super) fn command(
    session: &mut Session,
    args: &Args<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Fail> {
    let mut out = Writer::new(out, session.version);
    let sub = args.get(1).map(<[u8]>::to_ascii_lowercase);
    match (sub.as_deref(), args.len()) {
        (None, _) | (Some(b"info"), 2) => {
            out.array(table::all().count());
            table::all().for_each(|spec| info(spec, &mut out));
        }
        (Some(b"count"), _) => out.integer(table::all().count() as i64),
        (Some(b"info"), _) => {
            out.array(args.len() - 2);
            for name in args.from(2) {
                match table::find_full(name) {
                    Some(spec) => info(spec, &mut out),
                    None => out.null_array(),
                }
            }
        }
        (Some(b"docs"), 2) => docs(&table::all().collect::<Vec<_>>(), &mut out),
        (Some(b"docs"), _) => {
            docs(&args.from(2).filter_map(table::find_full).collect::<Vec<_>>(), &mut out);
        }
        (Some(b"list"), _) => list(args, &mut out)?,
        (Some(b"getkeys"), _) => get_keys(args, false, &mut out)?,
        (Some(b"getkeysandflags"), _) => get_keys(args, true, &mut out)?,
        _ => return Err(super::unknown_subcommand_syntax(args)),
    }
    Ok(())
}

/// Whether its keys are to be looked for, argument by argument.
fn has_movable_keys(spec: &Spec) -> bool {
    spec.keys.are_counted()
        || matches!(spec.keys.also, Also::After(_) | Also::HalfAfter(_))
        || spec.flags.has(Flags::MOVABLE_KEYS)
}

fn info(spec: &Spec, out: &mut Writer<'_>) {
    out.array(10);
    out.bulk(spec.name.as_bytes());
    out.integer(spec.arity.into());
    let movable = has_movable_keys(spec) && !spec.flags.has(Flags::MOVABLE_KEYS);
    let flags = spec.flags.names().chain(movable.then_some("movablekeys"));
    out.set(flags.clone().count());
    flags.for_each(|name| out.simple(name));
    // A count among the arguments is found by COMMAND GETKEYS, as in Redis.
    let keys = match spec.keys {
        keys if !keys.are_counted() => keys,
        keys if keys.also == Also::First => Keys::ONE,
        _ => Keys::NONE,
    };
    for number in [keys.first, keys.last, keys.step] {
        out.integer(number.into());
    }
    let categories = Categories::of(spec).iter();
    out.set(categories.clone().count());
    categories.for_each(|name| out.simple(&format!("@{name}")));
    // Hints: none are given.
    out.array(0);
    key_specs(spec, out);
    let subs = table::subcommands(spec);
    out.array(subs.clone().count());
    subs.for_each(|sub| info(sub, out));
}

/// Where keys begin, how they go on, and what is done with them.
fn key_specs(spec: &Spec, out: &mut Writer<'_>) {
    let Keys { first, last, step, also } = spec.keys;
    let also_specs = match also {
        Also::Nothing => 0,
        Also::First | Also::HalfAfter(_) => 1,
        Also::After(words) => words.len(),
    };
    let ranges = ranges(spec);
    out.set(also_specs + ranges.len());
    let flags = key_flags::of(spec, Place::Also);
    match also {
        Also::Nothing => {}
        Also::First => key_spec((Begin::Index(1), Find::Range(0, 1)), flags, out),
        // The keys are half of what follows: the limit says so.
        Also::HalfAfter(word) => key_spec((Begin::Keyword(word), Find::Half), flags, out),
        Also::After(words) => {
            for word in words {
                key_spec((Begin::Keyword(word), Find::Range(0, 1)), flags, out);
            }
        }
    }
    for (from, place, only_one) in ranges {
        let find = match () {
            () if spec.keys.are_counted() => Find::Counted,
            () if only_one => Find::Range(0, 1),
            () if last < 0 => Find::Range(last, step),
            () => Find::Range(last - from, step),
        };
        let begin = if spec.keys.are_counted() { first - 1 } else { from };
        key_spec((Begin::Index(begin), find), key_flags::of(spec, place), out);
    }
}

/// The ranges of a command's keys: two where the first is used in another way than the others.
/// Where each begins, which place it is, and whether it is one key alone.
fn ranges(spec: &Spec) -> Vec<(i32, Place, bool)> {
    let Keys { first, last, step, .. } = spec.keys;
    if first == 0 {
        return Vec::new();
    }
    let differ = key_flags::of(spec, Place::First) != key_flags::of(spec, Place::Later);
    match differ && last != first && !spec.keys.are_counted() {
        true => vec![(first, Place::First, true), (first + step, Place::Later, false)],
        false => vec![(first, Place::First, false)],
    }
}

enum Begin {
    Index(i32),
    Keyword(&'static str),
}

enum Find {
    /// The last key, from the first or from the end, and the step.
    Range(i32, i32),
    Half,
    Counted,
}

fn key_spec((begin, find): (Begin, Find), flags: key_flags::KeyFlags, out: &mut Writer<'_>) {
    let number = |out: &mut Writer<'_>, name: &str, value: i32| {
        out.bulk(name.as_bytes());
        out.integer(value.into());
    };
    let kind = |out: &mut Writer<'_>, name: &str, fields: usize| {
        out.map(2);
        out.bulk(b"type");
        out.bulk(name.as_bytes());
        out.bulk(b"spec");
        out.map(fields);
    };
    out.map(3);
    out.bulk(b"flags");
    out.set(flags.names().count());
    flags.names().for_each(|name| out.simple(name));
    out.bulk(b"begin_search");
    match begin {
        Begin::Index(index) => {
            kind(out, "index", 1);
            number(out, "index", index);
        }
        Begin::Keyword(word) => {
            kind(out, "keyword", 2);
            out.bulk(b"keyword");
            out.bulk(word.to_uppercase().as_bytes());
            number(out, "startfrom", 1);
        }
    }
    out.bulk(b"find_keys");
    match find {
        Find::Counted => {
            kind(out, "keynum", 3);
            number(out, "keynumidx", 0);
            number(out, "firstkey", 1);
            number(out, "keystep", 1);
        }
        Find::Range(last, step) => {
            kind(out, "range", 3);
            number(out, "lastkey", last);
            number(out, "keystep", step);
            number(out, "limit", 0);
        }
        Find::Half => {
            kind(out, "range", 3);
            number(out, "lastkey", -1);
            number(out, "keystep", 1);
            number(out, "limit", 2);
        }
    }
}

fn docs(specs: &[&Spec], out: &mut Writer<'_>) {
    out.map(specs.len());
    for spec in specs {
        out.bulk(spec.name.as_bytes());
        let sub = SUBCOMMANDS.iter().find(|sub| sub.name == spec.name).map(|sub| sub.summary);
        let said = summaries::of(spec.name);
        let summary = sub.or(said.map(|said| said.text));
        let since = said.and_then(|said| said.since);
        let subs: Vec<&Spec> = table::subcommands(spec).collect();
        let texts = [("summary", summary), ("since", since)];
        let texts = texts.into_iter().filter_map(|(name, text)| Some((name, text?)));
        out.map(1 + texts.clone().count() + usize::from(!subs.is_empty()));
        for (name, text) in texts {
            out.bulk(name.as_bytes());
            out.bulk(text.as_bytes());
        }
        out.bulk(b"group");
        out.bulk(spec.group.as_bytes());
        if !subs.is_empty() {
            out.bulk(b"subcommands");
            docs(&subs, out);
        }
    }
}

fn list(args: &Args<'_>, out: &mut Writer<'_>) -> Result<(), Fail> {
    let all = table::everything();
    let names: Vec<&str> = match args.len() {
        2 => all.map(|spec| spec.name).collect(),
        5 if args.is(2, "filterby") && args.is(3, "pattern") => {
            let pattern = args.at(4).to_ascii_lowercase();
            let names = all.map(|spec| spec.name);
            names.filter(|name| glob_matches(&pattern, name.as_bytes())).collect()
        }
        5 if args.is(2, "filterby") && args.is(3, "aclcat") => {
            let category = Categories::named(args.at(4));
            category.into_iter().flat_map(Categories::commands).map(|spec| spec.name).collect()
        }
        5 if args.is(2, "filterby") && args.is(3, "module") => Vec::new(),
        _ => return Err(Fail::Syntax),
    };
    out.array(names.len());
    names.iter().for_each(|name| out.bulk(name.as_bytes()));
    Ok(())
}

fn get_keys(args: &Args<'_>, with_flags: bool, out: &mut Writer<'_>) -> Result<(), Fail> {
    let command = args.rest(2);
    let spec = table::resolve(&command).map_err(|_| Fail::text("ERR Invalid command specified"))?;
    if spec.keys.is_none() {
        return Err(Fail::text("ERR The command has no key arguments"));
    }
    if !spec.accepts(command.len()) {
        return Err(Fail::text("ERR Invalid number of arguments specified for command"));
    }
    let keys: Vec<_> = key_flags::each(spec, &command).collect();
    // Scripts may have none.
    if keys.is_empty() && spec.group != "scripting" {
        return Err(Fail::text("ERR Invalid arguments specified for command"));
    }
    out.array(keys.len());
    for (index, flags) in keys {
        if with_flags {
            out.array(2);
        }
        out.bulk(command.at(index));
        if with_flags {
            out.set(flags.names().count());
            flags.names().for_each(|name| out.simple(name));
        }
    }
    Ok(())
}
