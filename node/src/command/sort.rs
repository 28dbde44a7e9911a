//! SORT and SORT_RO: the elements of a list, set or sorted set in an order of their own, or in that
//! of other keys, which a pattern makes of each element.

use std::cmp::Ordering;

use keyspace::meta::{Collection, Type};
use resp::reply::Writer;

use super::zspan::{self, Pick, Range};
use super::{Also, Answer, Args, Fail, Flags, Keys, Spec, float, list};
use crate::worker::{Class, Direction, Head, Key, View};

const G: &str = "generic";
const P: Flags = Flags::MOVABLE_KEYS.and(Flags::PATTERNS);
const W: Flags = Flags::WRITE.and(Flags::DENYOOM).and(P);
const KEYS: Keys = Keys { also: Also::After(&["store"]), ..Keys::ONE };

pub(super) const SPECS: &[Spec] = &[
    Spec::data(G, "sort", -2, W, KEYS, |v, a, o| sort(v, a, o, true)),
    Spec::data(G, "sort_ro", -2, Flags::READONLY.and(P), Keys::ONE, |v, a, o| sort(v, a, o, false)),
];

#[derive(Default)]
struct Options<'a> {
    descending: bool,
    by_bytes: bool,
    /// A pattern without `*` says: leave the order as it is.
    by: Option<&'a [u8]>,
    gets: Vec<&'a [u8]>,
    skip: i64,
    take: Option<i64>,
    store: Option<Key<'a>>,
}

fn options<'a>(view: &View<'_>, args: &Args<'a>, may_store: bool) -> Result<Options<'a>, Fail> {
    let denied = |option: &str| {
        Err(Fail::text(format!("ERR {option} option of SORT denied in Cluster mode.")))
    };
    let in_cluster = view.store().identity().service.is_some();
    let mut options = Options::default();
    let mut at = 2;
    while at < args.len() {
        let left = args.len() - at - 1;
        if args.is(at, "asc") {
            options.descending = false;
        } else if args.is(at, "desc") {
            options.descending = true;
        } else if args.is(at, "alpha") {
            options.by_bytes = true;
        } else if args.is(at, "limit") && left >= 2 {
            (options.skip, options.take) = (args.integer(at + 1)?, Some(args.integer(at + 2)?));
            at += 2;
        } else if may_store && args.is(at, "store") && left >= 1 {
            at += 1;
            options.store = Some(args.key(at));
        } else if args.is(at, "by") && left >= 1 {
            at += 1;
            options.by = Some(args.at(at));
            if in_cluster && args.at(at).contains(&b'*') {
                return denied("BY");
            }
        } else if args.is(at, "get") && left >= 1 {
            at += 1;
            options.gets.push(args.at(at));
            if in_cluster {
                return denied("GET");
            }
        } else {
            return Err(Fail::Syntax);
        }
        at += 1;
    }
    Ok(options)
}

/// What a pattern means for one element: the element itself, a string, or a hash's field.
fn look_up(view: &mut View<'_>, pattern: &[u8], element: &[u8]) -> Result<Option<Vec<u8>>, Fail> {
    if pattern == b"#" {
        return Ok(Some(element.to_vec()));
    }
    let Some(star) = pattern.iter().position(|&byte| byte == b'*') else { return Ok(None) };
    let (before, after) = (&pattern[..star], &pattern[star + 1..]);
    let arrow = after.windows(2).position(|two| two == b"->");
    let (after, field) = match arrow.filter(|at| at + 2 < after.len()) {
        Some(at) => (&after[..at], Some(&after[at + 2..])),
        None => (after, None),
    };
    let name = [before, element, after].concat();
    let key = Key::new(&name);
    let Some(field) = field else {
        return match view.string(key) {
            Ok(text) => Ok(text.map(|text| text.to_vec())),
            Err(Fail::WrongType) => Ok(None),
            Err(fail) => Err(fail),
        };
    };
    match view.head(key, Type::Hash) {
        Ok(Some(head)) => Ok(view.data(key, head.at.version, field)?.map(|value| value.to_vec())),
        Ok(None) | Err(Fail::WrongType) => Ok(None),
        Err(fail) => Err(fail),
    }
}

/// A collection's elements as they come, from one index to another, not included; down from the
/// last one if `descending` and the collection has an order.
fn elements(
    view: &mut View<'_>,
    key: Key<'_>,
    at: Collection,
    (from, to): (u64, u64),
    descending: bool,
) -> Result<Vec<Vec<u8>>, Fail> {
    let head = Head { at, expire_ms: 0 };
    let mut found = Vec::new();
    match at.kind {
        Type::List if descending => {
            let range = (at.tail - to, at.tail - from);
            list::each(view, key, &head, range, Direction::Down, |_, element| {
                found.push(element.to_vec());
                true
            })?;
        }
        Type::List => {
            let range = (at.head + from, at.head + to);
            list::each(view, key, &head, range, Direction::Up, |_, element| {
                found.push(element.to_vec());
                true
            })?;
        }
        Type::Zset if from < to => {
            let range = Range::Ranks(from as i64, to as i64 - 1);
            let pick = Pick::limited(descending, 0, -1);
            zspan::each(view, key, &head, &range, pick, |_, member| found.push(member.to_vec()))?;
        }
        Type::Zset => {}
        _ => {
            let mut members = view.entries(key, at.version)?;
            while let Some((member, _)) = members.step()? {
                found.push(member.to_vec());
            }
            found = found.drain(..).take(to as usize).skip(from as usize).collect();
        }
    }
    Ok(found)
}

/// What an element is put in order by.
enum Weight {
    Number(f64),
    Bytes(Option<Vec<u8>>),
    Itself,
}

/// As C's `strtod` reads it, where nothing at all is zero.
fn weight(text: &[u8]) -> Result<f64, Fail> {
    let bad = || Fail::text("ERR One or more scores can't be converted into double");
    match text {
        b"" => Ok(0.0),
        text => float(text.trim_ascii_start()).ok_or_else(bad),
    }
}

fn put_in_order(
    view: &mut View<'_>,
    elements: Vec<Vec<u8>>,
    options: &Options<'_>,
) -> Result<Vec<Vec<u8>>, Fail> {
    let mut weighed = Vec::with_capacity(elements.len());
    for element in elements {
        let weight = match (options.by, options.by_bytes) {
            (None, true) => Weight::Itself,
            (None, false) => Weight::Number(weight(&element)?),
            (Some(by), true) => Weight::Bytes(look_up(view, by, &element)?),
            (Some(by), false) => {
                Weight::Number(look_up(view, by, &element)?.map_or(Ok(0.0), |text| weight(&text))?)
            }
        };
        weighed.push((weight, element));
    }
    weighed.sort_by(|(a, a_element), (b, b_element)| {
        let order = match (a, b) {
            (Weight::Number(a), Weight::Number(b)) => {
                a.partial_cmp(b).unwrap_or(Ordering::Equal).then_with(|| a_element.cmp(b_element))
            }
            (Weight::Bytes(a), Weight::Bytes(b)) => a.cmp(b),
            _ => a_element.cmp(b_element),
        };
        if options.descending { order.reverse() } else { order }
    });
    Ok(weighed.into_iter().map(|(_, element)| element).collect())
}

/// The indices that LIMIT leaves of so many elements.
fn limits(options: &Options<'_>, size: u64) -> (u64, u64) {
    let from = u64::try_from(options.skip).unwrap_or(0).min(size);
    let take = options.take.and_then(|take| u64::try_from(take).ok()).unwrap_or(size);
    (from, from.saturating_add(take).min(size))
}

fn sort(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>, may_store: bool) -> Answer {
    let mut options = options(view, args, may_store)?;
    let key = args.key(1);
    let at = match view.entry(key)? {
        None => None,
        Some(entry) => match entry.at {
            Some(at) if matches!(at.kind, Type::List | Type::Set | Type::Zset) => Some(at),
            _ => return Err(Fail::WrongType),
        },
    };
    let mut ordered = options.by.is_some_and(|by| !by.contains(&b'*'));
    if ordered && options.store.is_some() && at.is_some_and(|at| at.kind == Type::Set) {
        // What is stored has to be the same wherever it is computed.
        (ordered, options.by_bytes, options.by) = (false, true, None);
    }
    let (from, to) = limits(&options, at.map_or(0, |at| at.size));
    let found = match at {
        None => Vec::new(),
        Some(at) if ordered => elements(view, key, at, (from, to), options.descending)?,
        Some(at) => {
            let all = elements(view, key, at, (0, at.size), false)?;
            let mut all = put_in_order(view, all, &options)?;
            all.truncate(to as usize);
            all.drain(..(from as usize).min(all.len()));
            all
        }
    };
    let mut values = Vec::new();
    if options.gets.is_empty() {
        values.extend(found.into_iter().map(Some));
    } else {
        for element in &found {
            for pattern in &options.gets {
                values.push(look_up(view, pattern, element)?);
            }
        }
    }
    match options.store {
        Some(target) => {
            let replaced = view.is_replaced(target)?;
            store(view, target, &values);
            view.notify_replaced(Class::LIST, "sortstore", target, (values.len(), replaced));
            out.integer(values.len() as i64);
        }
        None => {
            out.array(values.len());
            values.iter().for_each(|value| match value {
                Some(value) => out.bulk(value),
                None => out.null(),
            });
        }
    }
    Ok(())
}

/// Makes a key the list of these values, in place of what it was; none: no key.
fn store(view: &mut View<'_>, key: Key<'_>, values: &[Option<Vec<u8>>]) {
    let mut head = view.create(Type::List);
    for value in values {
        let value = value.as_deref().unwrap_or_default();
        view.put_data(key, head.at.version, &head.at.tail.to_be_bytes(), value);
        head.at.tail += 1;
        head.at.size += 1;
    }
    view.put_head(key, &head);
}
