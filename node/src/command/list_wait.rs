//! Lists, waited for.

use keyspace::meta::Type;
use resp::reply::Writer;

use super::args::{Many, seconds};
use super::list::{End, take};
use super::list_move::{end, move_one, pop_many};
use super::{Answer, Args, Flags, Keys, Spec};
use crate::worker::{Class, Key, Until, View};

const G: &str = "list";
const W: Flags = Flags::WRITE.and(Flags::BLOCKING);
const D: Flags = W.and(Flags::DENYOOM);
const ALL_BUT_LAST: Keys = Keys::range(1, -2, 1);

pub(super) const SPECS: &[Spec] = &[
    Spec::data(G, "blpop", -3, W, ALL_BUT_LAST, |v, a, o| pop(v, a, o, End::Left)),
    Spec::data(G, "brpop", -3, W, ALL_BUT_LAST, |v, a, o| pop(v, a, o, End::Right)),
    Spec::data(G, "blmove", 6, D, Keys::TWO, blmove),
    Spec::data(G, "brpoplpush", 4, D, Keys::TWO, |v, a, o| {
        shift(v, a, o, 3, (End::Right, End::Left))
    }),
    Spec::data(G, "blmpop", -5, W.and(Flags::MOVABLE_KEYS), Keys::range(3, 0, 1), blmpop),
];

fn pop(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>, from: End) -> Answer {
    let last = args.len() - 1;
    let timeout = seconds(args.at(last))?;
    for name in args.from(1).take(last - 1) {
        let key = Key::new(name);
        let Some(mut head) = view.head(key, Type::List)? else { continue };
        let taken = take(view, key, &mut head, from)?;
        view.put_head(key, &head);
        view.notify_shrunk(Class::LIST, from.popped(), key, head.at.size);
        out.array(2);
        out.bulk(name);
        out.bulk(&taken);
        return Ok(());
    }
    view.wait(Until::keys(1..last, Type::List, timeout), out)
}

fn blmove(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let ends = (end(args.at(3))?, end(args.at(4))?);
    shift(view, args, out, 5, ends)
}

fn shift(
    view: &mut View<'_>,
    args: &Args<'_>,
    out: &mut Writer<'_>,
    timeout_at: usize,
    (from, to): (End, End),
) -> Answer {
    let timeout = seconds(args.at(timeout_at))?;
    if view.head(args.key(1), Type::List)?.is_none() && view.may_wait() {
        return view.wait(Until::keys(1..2, Type::List, timeout), out);
    }
    move_one(view, args, out, from, to)
}

fn blmpop(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let timeout = seconds(args.at(1))?;
    let many = Many::read(&args.rest(1))?;
    if pop_many(view, &many, out)? {
        return Ok(());
    }
    view.wait(Until::keys(3..3 + many.keys.len(), Type::List, timeout), out)
}
