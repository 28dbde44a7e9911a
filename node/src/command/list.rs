//! Lists: a data record for each element, by an index that grows both ways from the middle.

use std::ops::Bound;

use keyspace::Cf;
use keyspace::meta::{LIST_ORIGIN, Type};
use resp::reply::Writer;

use super::args::window;
use super::{Answer, Args, Fail, Flags, Keys, Spec};
use crate::worker::{Class, Direction, Head, Key, View};

const G: &str = "list";
const W: Flags = Flags::WRITE;
const D: Flags = Flags::WRITE.and(Flags::DENYOOM);
const R: Flags = Flags::READONLY;
const F: Flags = Flags::FAST;

pub(super) const SPECS: &[Spec] = &[
    Spec::data(G, "lpush", -3, D.and(F), Keys::ONE, |v, a, o| push(v, a, o, End::Left, false)),
    Spec::data(G, "rpush", -3, D.and(F), Keys::ONE, |v, a, o| push(v, a, o, End::Right, false)),
    Spec::data(G, "lpushx", -3, D.and(F), Keys::ONE, |v, a, o| push(v, a, o, End::Left, true)),
    Spec::data(G, "rpushx", -3, D.and(F), Keys::ONE, |v, a, o| push(v, a, o, End::Right, true)),
    Spec::data(G, "lpop", -2, W.and(F), Keys::ONE, |v, a, o| pop(v, a, o, End::Left, "lpop")),
    Spec::data(G, "rpop", -2, W.and(F), Keys::ONE, |v, a, o| pop(v, a, o, End::Right, "rpop")),
    Spec::data(G, "lrange", 4, R, Keys::ONE, lrange),
    Spec::data(G, "lindex", 3, R, Keys::ONE, lindex),
    Spec::data(G, "llen", 2, R.and(F), Keys::ONE, llen),
    Spec::data(G, "lset", 4, D, Keys::ONE, lset),
    Spec::data(G, "ltrim", 4, W, Keys::ONE, ltrim),
];

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Left,
    Right,
}

impl End {
    /// What notifications call a push to it.
    pub(super) const fn pushed(self) -> &'static str {
        match self {
            Self::Left => "lpush",
            Self::Right => "rpush",
        }
    }

    /// What notifications call a pop off it.
    pub(super) const fn popped(self) -> &'static str {
        match self {
            Self::Left => "lpop",
            Self::Right => "rpop",
        }
    }
}

pub(super) fn add(view: &mut View<'_>, key: Key<'_>, head: &mut Head, element: &[u8], end: End) {
    let index = match end {
        End::Left => {
            head.at.head -= 1;
            head.at.head
        }
        End::Right => {
            head.at.tail += 1;
            head.at.tail - 1
        }
    };
    head.at.size += 1;
    view.put_data(key, head.at.version, &index.to_be_bytes(), element);
}

/// The element at an index of the records, which has to be there.
fn element(view: &mut View<'_>, key: Key<'_>, head: &Head, index: u64) -> Result<Vec<u8>, Fail> {
    match view.data(key, head.at.version, &index.to_be_bytes())? {
        Some(element) => Ok(element.to_vec()),
        None => Err(Fail::text("ERR this list is damaged: an element is missing")),
    }
}

/// Takes one element off an end of a list that has one.
pub(super) fn take(
    view: &mut View<'_>,
    key: Key<'_>,
    head: &mut Head,
    end: End,
) -> Result<Vec<u8>, Fail> {
    let index = match end {
        End::Left => head.at.head,
        End::Right => head.at.tail - 1,
    };
    let taken = element(view, key, head, index)?;
    match end {
        End::Left => head.at.head += 1,
        End::Right => head.at.tail -= 1,
    }
    head.at.size -= 1;
    view.delete_data(key, head.at.version, &index.to_be_bytes());
    Ok(taken)
}

fn push(
    view: &mut View<'_>,
    args: &Args<'_>,
    out: &mut Writer<'_>,
    end: End,
    if_present: bool,
) -> Answer {
    let key = args.key(1);
    let mut head = match view.head(key, Type::List)? {
        Some(head) => head,
        None if if_present => {
            out.integer(0);
            return Ok(());
        }
        None => view.create(Type::List),
    };
    for value in args.from(2) {
        add(view, key, &mut head, value, end);
    }
    view.put_head(key, &head);
    view.notify(Class::LIST, end.pushed(), key);
    out.integer(head.at.size as i64);
    Ok(())
}

fn pop(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>, end: End, name: &str) -> Answer {
    let count = match args.len() {
        2 => None,
        3 => Some(args.positive(2)?),
        _ => {
            let text = format!("ERR wrong number of arguments for '{name}' command");
            return Err(Fail::text(text));
        }
    };
    let key = args.key(1);
    let Some(mut head) = view.head(key, Type::List)? else {
        if count.is_some() {
            out.null_array()
        } else {
            out.null()
        }
        return Ok(());
    };
    let wanted = count.unwrap_or(1).min(head.at.size);
    if count.is_some() {
        out.array(wanted as usize);
    }
    for _ in 0..wanted {
        let taken = take(view, key, &mut head, end)?;
        out.bulk(&taken);
    }
    if wanted > 0 {
        view.put_head(key, &head);
        view.notify_shrunk(Class::LIST, end.popped(), key, head.at.size);
    }
    Ok(())
}

/// Looks at the elements from one index of the records, included, to another, not included, until
/// told to stop.
pub(super) fn each(
    view: &mut View<'_>,
    key: Key<'_>,
    head: &Head,
    (from, to): (u64, u64),
    direction: Direction,
    mut look: impl FnMut(u64, &[u8]) -> bool,
) -> Answer {
    let (from, to) = (from.to_be_bytes(), to.to_be_bytes());
    let (from, to) = (Bound::Included(&from[..]), Bound::Excluded(&to[..]));
    let mut elements = view.iterate(Cf::Data, key, head.at.version, from, to, direction)?;
    while let Some((index, element)) = elements.step()? {
        let damaged = || Fail::text("ERR this list is damaged: an index has not eight bytes");
        let index = index.try_into().map(u64::from_be_bytes).map_err(|_| damaged())?;
        if !look(index, element) {
            break;
        }
    }
    Ok(())
}

fn lrange(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let (start, stop, key) = (args.integer(2)?, args.integer(3)?, args.key(1));
    let Some(head) = view.head(key, Type::List)? else {
        out.array(0);
        return Ok(());
    };
    let (skip, count) = window(start, stop, head.at.size);
    out.array(count as usize);
    let from = head.at.head + skip;
    let mut seen = 0;
    each(view, key, &head, (from, from + count), Direction::Up, |_, element| {
        seen += 1;
        out.bulk(element);
        true
    })?;
    super::page::check_size(count as usize, seen)
}

/// Where a client's index is in the records.
fn place(head: &Head, index: i64) -> Option<u64> {
    let size = i64::try_from(head.at.size).ok()?;
    let index = if index < 0 { index.checked_add(size)? } else { index };
    (0..size).contains(&index).then(|| head.at.head + index.unsigned_abs())
}

fn lindex(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let key = args.key(1);
    let Some(head) = view.head(key, Type::List)? else {
        out.null();
        return Ok(());
    };
    let index = args.integer(2)?;
    match place(&head, index).map(|index| (head, index)) {
        Some((head, index)) => out.bulk(&element(view, key, &head, index)?),
        None => out.null(),
    }
    Ok(())
}

fn llen(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    out.integer(view.head(args.key(1), Type::List)?.map_or(0, |head| head.at.size as i64));
    Ok(())
}

fn lset(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let key = args.key(1);
    let head = view.head(key, Type::List)?.ok_or(Fail::NoKey)?;
    let index = place(&head, args.integer(2)?).ok_or(Fail::Index)?;
    view.put_data(key, head.at.version, &index.to_be_bytes(), args.at(3));
    // The key changed, though its record says the same.
    view.put_head(key, &head);
    view.notify(Class::LIST, "lset", key);
    out.simple("OK");
    Ok(())
}

fn ltrim(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let (start, stop, key) = (args.integer(2)?, args.integer(3)?, args.key(1));
    out.simple("OK");
    let Some(mut head) = view.head(key, Type::List)? else { return Ok(()) };
    let (skip, count) = window(start, stop, head.at.size);
    view.notify_shrunk(Class::LIST, "ltrim", key, count);
    if count == head.at.size {
        return Ok(());
    }
    if count == 0 {
        // One write: the elements belong to no key any more.
        view.delete(key);
        return Ok(());
    }
    let (from, to) = (head.at.head + skip, head.at.head + skip + count);
    for index in (head.at.head..from).chain(to..head.at.tail) {
        view.delete_data(key, head.at.version, &index.to_be_bytes());
    }
    (head.at.head, head.at.tail, head.at.size) = (from, to, count);
    view.put_head(key, &head);
    Ok(())
}

// An index would wrap only after 2^63 pushes to one end.
const _: () = assert!(LIST_ORIGIN == 1 << 63);
