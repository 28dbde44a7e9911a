//! What is asked for, from the arguments.

use super::super::geo::{place_of, read_place, read_unit};
use super::super::geohash::{Place, Shape};
use super::super::{Answer, Args, Fail, float};
use crate::worker::{Head, Key, View};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
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
pub(super) enum Order {
    None,
    Nearest,
    Farthest,
}

/// What is asked for.
pub(super) struct Query<'a> {
    pub(super) centre: Option<Place>,
    /// A member was named in its stead, of a key that is not there.
    pub(super) nowhere: bool,
    pub(super) shape: Option<Shape>,
    /// Metres of the unit that distances are in.
    pub(super) unit: f64,
    pub(super) with_distance: bool,
    pub(super) with_score: bool,
    pub(super) with_place: bool,
    pub(super) order: Order,
    pub(super) count: Option<usize>,
    /// Any so many, not the nearest.
    pub(super) any: bool,
    pub(super) store: Option<Key<'a>>,
    pub(super) store_distance: bool,
}

fn length(text: &[u8], what: &str) -> Result<f64, Fail> {
    float(text).ok_or_else(|| Fail::text(format!("ERR need numeric {what}")))
}

/// A radius and its unit.
pub(super) fn radius(number: &[u8], unit: &[u8]) -> Result<(Shape, f64), Fail> {
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
pub(super) struct Source<'a> {
    pub(super) key: Key<'a>,
    pub(super) head: Option<Head>,
}

impl<'a> Query<'a> {
    pub(super) fn new() -> Self {
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

    pub(super) fn at_member(
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

    pub(super) fn within(&mut self, (shape, unit): (Shape, f64)) {
        (self.shape, self.unit) = (Some(shape), unit);
    }

    /// Reads one option; how many arguments it has.
    pub(super) fn option(
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

    pub(super) fn check(&self, args: &Args<'_>, form: Form) -> Answer {
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
