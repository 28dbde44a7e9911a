//! Members off an end of a sorted set, waited for.

use keyspace::meta::Type;
use resp::reply::Writer;

use super::args::{Many, seconds};
use super::zpop::{pop_many, take};
use super::{Answer, Args, Flags, Keys, Spec};
use crate::worker::{Direction, Key, Until, View};

const G: &str = "sorted-set";
const W: Flags = Flags::WRITE.and(Flags::BLOCKING);
const F: Flags = W.and(Flags::FAST);
const ALL_BUT_LAST: Keys = Keys::range(1, -2, 1);

pub(super) const SPECS: &[Spec] = &[
    Spec::data(G, "bzpopmin", -3, F, ALL_BUT_LAST, |v, a, o| pop(v, a, o, Direction::Up)),
    Spec::data(G, "bzpopmax", -3, F, ALL_BUT_LAST, |v, a, o| pop(v, a, o, Direction::Down)),
    Spec::data(G, "bzmpop", -5, W.and(Flags::MOVABLE_KEYS), Keys::range(3, 0, 1), bzmpop),
];

fn pop(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>, from: Direction) -> Answer {
    let last = args.len() - 1;
    let timeout = seconds(args.at(last))?;
    for name in args.from(1).take(last - 1) {
        let key = Key::new(name);
        let Some(mut head) = view.head(key, Type::Zset)? else { continue };
        let popped = take(view, key, &mut head, 1, from)?;
        out.array(3);
        out.bulk(name);
        for (score, member) in &popped {
            out.bulk(member);
            out.double(score.number());
        }
        return Ok(());
    }
    view.wait(Until::keys(1..last, Type::Zset, timeout), out)
}

fn bzmpop(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let timeout = seconds(args.at(1))?;
    let many = Many::read(&args.rest(1))?;
    if pop_many(view, &many, out)? {
        return Ok(());
    }
    view.wait(Until::keys(3..3 + many.keys.len(), Type::Zset, timeout), out)
}
