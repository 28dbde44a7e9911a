//! Places: sorted sets whose scores are [`geohash`] numbers.

use keyspace::meta::Type;
use resp::reply::Writer;

use super::geohash::{self, LATITUDES, LONGITUDES, Place};
use super::zadd::{self, score_of};
use super::{Answer, Args, Fail, Flags, Keys, Spec, float};
use crate::worker::{Head, Key, View};

const G: &str = "geo";
const W: Flags = Flags::WRITE.and(Flags::DENYOOM);
const R: Flags = Flags::READONLY;

pub(super) const SPECS: &[Spec] = &[
    Spec::data(G, "geoadd", -5, W, Keys::ONE, geoadd),
    Spec::data(G, "geodist", -4, R, Keys::ONE, geodist),
    Spec::data(G, "geohash", -2, R, Keys::ONE, geohash),
    Spec::data(G, "geopos", -2, R, Keys::ONE, geopos),
];

/// The longitude and latitude at these arguments.
pub(super) fn read_place(longitude: &[u8], latitude: &[u8]) -> Result<Place, Fail> {
    let longitude = float(longitude).ok_or(Fail::NotFloat)?;
    let latitude = float(latitude).ok_or(Fail::NotFloat)?;
    let within = |value: f64, (low, high): (f64, f64)| (low..=high).contains(&value);
    if within(longitude, LONGITUDES) && within(latitude, LATITUDES) {
        return Ok(Place { longitude, latitude });
    }
    let text = format!("ERR invalid longitude,latitude pair {longitude:.6},{latitude:.6}");
    Err(Fail::text(text))
}

/// How many metres a unit has.
pub(super) fn read_unit(text: &[u8]) -> Result<f64, Fail> {
    match &text.to_ascii_lowercase()[..] {
        b"m" => Ok(1.0),
        b"km" => Ok(1000.0),
        b"ft" => Ok(0.3048),
        b"mi" => Ok(1609.34),
        _ => Err(Fail::text("ERR unsupported unit provided. please use M, KM, FT, MI")),
    }
}

/// A distance, to four digits after the point.
pub(super) fn write_distance(out: &mut Writer<'_>, distance: f64) {
    // Rounded as Redis does it: to the nearest, then to even.
    let scaled = (distance * 1e4).round_ties_even() as u64;
    out.bulk(format!("{}.{:04}", scaled / 10_000, scaled % 10_000).as_bytes());
}

/// A longitude and a latitude, exact to 17 digits after the point.
pub(super) fn write_place(out: &mut Writer<'_>, place: Place) {
    out.array(2);
    for number in [place.longitude, place.latitude] {
        let text = format!("{number:.17}");
        out.decimal(text.trim_end_matches('0').trim_end_matches('.'));
    }
}

/// Where a member is.
pub(super) fn place_of(
    view: &mut View<'_>,
    key: Key<'_>,
    head: &Head,
    member: &[u8],
) -> Result<Option<Place>, Fail> {
    Ok(score_of(view, key, head, member)?.map(|score| geohash::place(score.number())))
}

fn geoadd(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let mut options = zadd::Options::default();
    let mut at = 2;
    while at < args.len() {
        match () {
            () if args.is(at, "nx") => options.if_missing = true,
            () if args.is(at, "xx") => options.if_present = true,
            () if args.is(at, "ch") => options.count_changed = true,
            () => break,
        }
        at += 1;
    }
    let count = args.len() - at;
    if count == 0 || !count.is_multiple_of(3) || options.if_missing && options.if_present {
        return Err(Fail::Syntax);
    }
    // All are read before anything is written.
    let places = (at..args.len()).step_by(3).map(|at| {
        let place = read_place(args.at(at), args.at(at + 1))?;
        Ok((geohash::score(place), args.at(at + 2)))
    });
    for place in places.clone() {
        place?;
    }
    zadd::add(view, args.key(1), options, places, out)
}

fn geodist(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let unit = match args.len() {
        4 => 1.0,
        5 => read_unit(args.at(4))?,
        _ => return Err(Fail::Syntax),
    };
    let key = args.key(1);
    let mut places = [None; 2];
    if let Some(head) = view.head(key, Type::Zset)? {
        places[0] = place_of(view, key, &head, args.at(2))?;
        places[1] = place_of(view, key, &head, args.at(3))?;
    }
    match places {
        [Some(from), Some(to)] => write_distance(out, geohash::distance(from, to) / unit),
        _ => out.null(),
    }
    Ok(())
}

/// Answers one thing for each member, with its place if it has one.
fn each(
    view: &mut View<'_>,
    args: &Args<'_>,
    out: &mut Writer<'_>,
    answer: fn(Option<Place>, &mut Writer<'_>),
) -> Answer {
    let key = args.key(1);
    let head = view.head(key, Type::Zset)?;
    out.array(args.len() - 2);
    for member in args.from(2) {
        let place = match &head {
            Some(head) => place_of(view, key, head, member)?,
            None => None,
        };
        answer(place, out);
    }
    Ok(())
}

fn geohash(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    each(view, args, out, |place, out| match place {
        Some(place) => out.bulk(&geohash::name(place)),
        None => out.null(),
    })
}

fn geopos(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    each(view, args, out, |place, out| match place {
        Some(place) => write_place(out, place),
        None => out.null_array(),
    })
}
