//! Places within a circle or a box: GEOSEARCH, and GEORADIUS, its older form.

use std::ops::Bound;

use keyspace::Cf;
use keyspace::meta::Type;
use keyspace::score::Score;
use resp::reply::Writer;

use super::geo::{place_of, read_place, read_unit, write_distance, write_place};
use super::geohash::{self, Place, Shape};
use super::zput::store;
use super::zspan::split;
use super::{Also, Answer, Args, Fail, Flags, Keys, Spec, float};
use crate::worker::{Direction, Head, Key, View};

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

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A longitude, a latitude and a radius stand before the options.
    Radius,
    /// A member and a radius do.
    ByMember,
    /// Options say all.
    Search,
    /// The same, behind the key that is to be made.
    SearchStore,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    None,
    Nearest,
    Farthest,
}

/// What is asked for.
struct Query<'a> {
    centre: Option<Place>,
    /// A member was named in its stead, of a key that is not there.
    nowhere: bool,
    shape: Option<Shape>,
    /// Metres of the unit that distances are in.
    unit: f64,
    with_distance: bool,
    with_score: bool,
    with_place: bool,
    order: Order,
    count: Option<usize>,
    /// Any so many, not the nearest.
    any: bool,
    store: Option<Key<'a>>,
    store_distance: bool,
}

fn length(text: &[u8], what: &str) -> Result<f64, Fail> {
    float(text).ok_or_else(|| Fail::text(format!("ERR need numeric {what}")))
}

/// A radius and its unit.
fn radius(number: &[u8], unit: &[u8]) -> Result<(Shape, f64), Fail> {
    let radius = length(number, "radius")?;
    if radius < 0.0 {
        return Err(Fail::text("ERR radius cannot be negative"));
    }
    let unit = read_unit(unit)?;
    Ok((Shape::Circle { radius: radius * unit }, unit))
}

fn rectangle(width: &[u8], height: &[u8], unit: &[u8]) -> Result<(Shape, f64), Fail> {
    let (width, height) = (length(width, "width")?, length(height, "height")?);
    if width < 0.0 || height < 0.0 {
        return Err(Fail::text("ERR height or width cannot be negative"));
    }
    let unit = read_unit(unit)?;
    Ok((Shape::Box { width: width * unit, height: height * unit }, unit))
}

/// Where the centre is, in the set that is searched.
struct Source<'a> {
    key: Key<'a>,
    head: Option<Head>,
}

impl<'a> Query<'a> {
    fn new() -> Self {
        Self {
            centre: None,
            nowhere: false,
            shape: None,
            unit: 1.0,
            with_distance: false,
            with_score: false,
            with_place: false,
            order: Order::None,
            count: None,
            any: false,
            store: None,
            store_distance: false,
        }
    }

    fn at_member(
        &mut self,
        view: &mut View<'_>,
        source: &Source<'_>,
        member: &[u8],
    ) -> Result<(), Fail> {
        let Some(head) = &source.head else {
            self.nowhere = true;
            return Ok(());
        };
        let place = place_of(view, source.key, head, member)?;
        let missing = || Fail::text("ERR could not decode requested zset member");
        self.centre = Some(place.ok_or_else(missing)?);
        Ok(())
    }

    fn within(&mut self, (shape, unit): (Shape, f64)) {
        (self.shape, self.unit) = (Some(shape), unit);
    }

    /// Reads one option; how many arguments it has.
    fn option(
        &mut self,
        view: &mut View<'_>,
        source: &Source<'_>,
        (args, at): (&Args<'a>, usize),
        form: Form,
        may_store: bool,
    ) -> Result<usize, Fail> {
        let left = args.len() - at - 1;
        let searches = matches!(form, Form::Search | Form::SearchStore);
        let placed = self.centre.is_some() || self.nowhere;
        match &args.at(at).to_ascii_lowercase()[..] {
            b"withdist" => self.with_distance = true,
            b"withhash" => self.with_score = true,
            b"withcoord" => self.with_place = true,
            b"any" => self.any = true,
            b"asc" => self.order = Order::Nearest,
            b"desc" => self.order = Order::Farthest,
            b"count" if left >= 1 => {
                let count = usize::try_from(args.integer(at + 1)?).ok().filter(|&n| n > 0);
                self.count = Some(count.ok_or(Fail::text("ERR COUNT must be > 0"))?);
                return Ok(1);
            }
            word @ (b"store" | b"storedist") if left >= 1 && may_store && !searches => {
                self.store = Some(args.key(at + 1));
                self.store_distance = word == b"storedist";
                return Ok(1);
            }
            b"storedist" if form == Form::SearchStore => self.store_distance = true,
            b"frommember" if left >= 1 && searches && !placed => {
                self.at_member(view, source, args.at(at + 1))?;
                return Ok(1);
            }
            b"fromlonlat" if left >= 2 && searches && !placed => {
                self.centre = Some(read_place(args.at(at + 1), args.at(at + 2))?);
                return Ok(2);
            }
            b"byradius" if left >= 2 && searches && self.shape.is_none() => {
                self.within(radius(args.at(at + 1), args.at(at + 2))?);
                return Ok(2);
            }
            b"bybox" if left >= 3 && searches && self.shape.is_none() => {
                self.within(rectangle(args.at(at + 1), args.at(at + 2), args.at(at + 3))?);
                return Ok(3);
            }
            _ => return Err(Fail::Syntax),
        }
        Ok(0)
    }

    fn check(&self, args: &Args<'_>, form: Form) -> Answer {
        let searches = matches!(form, Form::Search | Form::SearchStore);
        let name = || String::from_utf8_lossy(args.at(0));
        let shows = self.with_distance || self.with_score || self.with_place;
        if self.store.is_some() && shows {
            let what = match form {
                Form::SearchStore => "GEOSEARCHSTORE",
                _ => "STORE option in GEORADIUS",
            };
            return Err(Fail::text(format!(
                "ERR {what} is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
            )));
        }
        if searches && self.centre.is_none() && !self.nowhere {
            return Err(Fail::text(format!(
                "ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for {}",
                name()
            )));
        }
        if searches && self.shape.is_none() {
            return Err(Fail::text(format!(
                "ERR exactly one of BYRADIUS and BYBOX can be specified for {}",
                name()
            )));
        }
        if self.any && self.count.is_none() {
            return Err(Fail::text("ERR the ANY argument requires COUNT argument"));
        }
        Ok(())
    }
}

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
