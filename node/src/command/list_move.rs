//! Elements from one list to another, or off the first of several.

use keyspace::meta::Type;
use resp::reply::Writer;

use super::args::Many;
use super::list::{End, add, take};
use super::{Answer, Args, Fail, Flags, Keys, Spec};
use crate::worker::{Class, Key, View};

const G: &str = "list";
const W: Flags = Flags::WRITE;
const D: Flags = Flags::WRITE.and(Flags::DENYOOM);

pub(super) const SPECS: &[Spec] = &[
    Spec::data(G, "lmove", 5, D, Keys::TWO, lmove),
    Spec::data(G, "rpoplpush", 3, D, Keys::TWO, |v, a, o| move_one(v, a, o, End::Right, End::Left)),
    Spec::data(G, "lmpop", -4, W.and(Flags::MOVABLE_KEYS), Keys::COUNTED, lmpop),
];

pub(super) fn end(word: &[u8]) -> Result<End, Fail> {
    match () {
        () if word.eq_ignore_ascii_case(b"left") => Ok(End::Left),
        () if word.eq_ignore_ascii_case(b"right") => Ok(End::Right),
        () => Err(Fail::Syntax),
    }
}

fn lmpop(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    if !pop_many(view, &Many::read(args)?, out)? {
        out.null_array();
    }
    Ok(())
}

/// Pops from the first list that is there. False: none is, and nothing was answered.
pub(super) fn pop_many(
    view: &mut View<'_>,
    many: &Many<'_>,
    out: &mut Writer<'_>,
) -> Result<bool, Fail> {
    let from = end(many.end)?;
    for &name in &many.keys {
        let key = Key::new(name);
        let Some(mut head) = view.head(key, Type::List)? else { continue };
        let wanted = many.count.min(head.at.size);
        out.array(2);
        out.bulk(name);
        out.array(wanted as usize);
        for _ in 0..wanted {
            let taken = take(view, key, &mut head, from)?;
            out.bulk(&taken);
        }
        view.put_head(key, &head);
        view.notify_shrunk(Class::LIST, from.popped(), key, head.at.size);
        return Ok(true);
    }
    Ok(false)
}

fn lmove(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let (from, to) = (end(args.at(3))?, end(args.at(4))?);
    move_one(view, args, out, from, to)
}

pub(super) fn move_one(
    view: &mut View<'_>,
    args: &Args<'_>,
    out: &mut Writer<'_>,
    from: End,
    to: End,
) -> Answer {
    let (source, target) = (args.key(1), args.key(2));
    let Some(mut head) = view.head(source, Type::List)? else {
        out.null();
        return Ok(());
    };
    if source == target {
        let moved = take(view, source, &mut head, from)?;
        add(view, source, &mut head, &moved, to);
        view.put_head(source, &head);
        view.notify(Class::LIST, to.pushed(), source);
        view.notify(Class::LIST, from.popped(), source);
        out.bulk(&moved);
        return Ok(());
    }
    let mut other = view.head_or_create(target, Type::List)?;
    let moved = take(view, source, &mut head, from)?;
    view.put_head(source, &head);
    add(view, target, &mut other, &moved, to);
    view.put_head(target, &other);
    view.notify(Class::LIST, to.pushed(), target);
    view.notify_shrunk(Class::LIST, from.popped(), source, head.at.size);
    out.bulk(&moved);
    Ok(())
}
