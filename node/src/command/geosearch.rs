//! Places within a circle or a box: GEOSEARCH, and GEORADIUS, its older form.

mod query;

use std::ops::Bound;

use keyspace::Cf;
use keyspace::meta::Type;
use keyspace::score::Score;
use resp::reply::Writer;

use super::geo::{read_place, write_distance, write_place};
use super::geohash::{self, Place, Shape};
use super::zput::store;
use super::zspan::split;
use super::{Also, Answer, Args, Fail, Flags, Keys, Spec};
use crate::worker::{Direction, Head, Key, View};
use query::{Form, Order, Query, Source, radius};

const G: &str = "geo";
const R: Flags = Flags::READONLY;
const W: Flags = Flags::WRITE.and(Flags::DENYOOM);
const M: Flags = W.and(Flags::MOVABLE_KEYS);
const STORING: Keys = Keys { also: Also::After(&["store", "storedist"]), ..Keys::ONE };

pub(super) const SPECS: &[Spec] = &[
    Spec::data(G, "georadius", -6, M, STORING, |v, a, o| search(v, a, o, Form::Radius, true)),
    Spec::data(G, "georadius_ro", -6, R, Keys::ONE, |v, a, o| search(v, a, o, Form::Radius, false)),
    Spec::data(G, "georadiusbymember", -5, M, STORING, |v, a, o| {
        search(v, a, o, Form::ByMember, true)
    }),
    Spec::data(G, "georadiusbymember_ro", -5, R, Keys::ONE, |v, a, o| {
        search(v, a, o, Form::ByMember, false)
    }),
    Spec::data(G, "geosearch", -7, R, Keys::ONE, |v, a, o| search(v, a, o, Form::Search, false)),
    Spec::data(G, "geosearchstore", -8, W, Keys::TWO, |v, a, o| {
        search(v, a, o, Form::SearchStore, true)
    }),
];

/// A member that was found.
struct Found {
    member: Vec<u8>,
    score: Score,
    place: Place,
    /// Metres from the centre.
    away: f64,
}

fn find(
    view: &mut View<'_>,
    key: Key<'_>,
    head: &Head,
    (centre, shape): (Place, Shape),
    enough: usize,
) -> Result<Vec<Found>, Fail> {
    let mut found = Vec::new();
    for cell in shape.cells(centre) {
        let (low, high) = cell.scores();
        let (Some(low), Some(high)) = (Score::new(low), Score::new(high)) else { continue };
        let (low, high) = (Bound::Included(&low.bytes()[..]), Bound::Excluded(&high.bytes()[..]));
        let mut members =
            view.iterate(Cf::Score, key, head.at.version, low, high, Direction::Up)?;
        while found.len() < enough
            && let Some((subkey, _)) = members.step()?
        {
            let (score, member) = split(subkey)?;
            let place = geohash::place(score.number());
            if let Some(away) = shape.holds(centre, place) {
                found.push(Found { member: member.to_vec(), score, place, away });
            }
        }
    }
    Ok(found)
}

fn search(
    view: &mut View<'_>,
    args: &Args<'_>,
    out: &mut Writer<'_>,
    form: Form,
    may_store: bool,
) -> Answer {
    let mut query = Query::new();
    let key = args.key(if form == Form::SearchStore { 2 } else { 1 });
    let source = Source { key, head: view.head(key, Type::Zset)? };
    let mut at = match form {
        Form::Radius => {
            query.centre = Some(read_place(args.at(2), args.at(3))?);
            query.within(radius(args.at(4), args.at(5))?);
            6
        }
        Form::ByMember => {
            query.at_member(view, &source, args.at(2))?;
            if source.head.is_some() {
                query.within(radius(args.at(3), args.at(4))?);
            }
            5
        }
        Form::Search => 2,
        Form::SearchStore => {
            query.store = Some(args.key(1));
            3
        }
    };
    while at < args.len() {
        at += 1 + query.option(view, &source, (args, at), form, may_store)?;
    }
    query.check(args, form)?;
    if query.count.is_some() && query.order == Order::None && !query.any {
        query.order = Order::Nearest;
    }
    let mut found = match (&source.head, query.centre.zip(query.shape)) {
        (Some(head), Some(round)) => {
            let enough = query.count.filter(|_| query.any).unwrap_or(usize::MAX);
            find(view, key, head, round, enough)?
        }
        _ => Vec::new(),
    };
    match query.order {
        Order::None => {}
        Order::Nearest => found.sort_by(|a, b| a.away.total_cmp(&b.away)),
        Order::Farthest => found.sort_by(|a, b| b.away.total_cmp(&a.away)),
    }
    found.truncate(query.count.unwrap_or(usize::MAX));
    match query.store {
        Some(target) => {
            let searched = form == Form::SearchStore;
            let event = if searched { "geosearchstore" } else { "georadiusstore" };
            keep(view, (target, event), &query, &found, out)?;
        }
        None => show(&query, &found, out),
    }
    Ok(())
}

fn keep(
    view: &mut View<'_>,
    (target, event): (Key<'_>, &'static str),
    query: &Query<'_>,
    found: &[Found],
    out: &mut Writer<'_>,
) -> Answer {
    let score = |found: &Found| match query.store_distance {
        true => Score::new(found.away / query.unit),
        false => Some(found.score),
    };
    let members: Vec<_> = found
        .iter()
        .filter_map(|found| score(found).map(|score| (score, found.member.clone())))
        .collect();
    store(view, target, &members, event)?;
    out.integer(members.len() as i64);
    Ok(())
}

fn show(query: &Query<'_>, found: &[Found], out: &mut Writer<'_>) {
    let shown = [query.with_distance, query.with_score, query.with_place];
    let width = 1 + shown.into_iter().filter(|&shown| shown).count();
    out.array(found.len());
    for found in found {
        if width > 1 {
            out.array(width);
        }
        out.bulk(&found.member);
        if query.with_distance {
            write_distance(out, found.away / query.unit);
        }
        if query.with_score {
            out.integer(found.score.number() as i64);
        }
        if query.with_place {
            write_place(out, found.place);
        }
    }
}
