//! Places on the earth as numbers of 52 bits, of which near ones are often near (Redis: geohash.c,
//! geohash_helper.c): a longitude and a latitude of 26 bits each, their bits in turn.

/// Longitudes, in degrees.
pub(super) const LONGITUDES: (f64, f64) = (-180.0, 180.0);
/// Latitudes that the projection of EPSG:900913 knows, in degrees.
pub(super) const LATITUDES: (f64, f64) = (-85.051_128_78, 85.051_128_78);
/// Bits of each coordinate in a score.
const STEPS: u32 = 26;
/// The radius of the sphere that the earth is taken for, in metres.
const EARTH_RADIUS_M: f64 = 6_372_797.560_856;
/// Half of the projection's width, in metres.
const MERCATOR_MAX_M: f64 = 20_037_726.37;

/// A place, in degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Place {
    pub(super) longitude: f64,
    pub(super) latitude: f64,
}

/// A box of the grid: the finer, the more steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    bits: u64,
    steps: u32,
}

/// The edges of an area, in degrees.
#[derive(Clone, Copy, Debug)]
pub(super) struct Area {
    longitude: (f64, f64),
    latitude: (f64, f64),
}

/// Puts a zero between each two bits.
fn spread(bits: u32) -> u64 {
    let mut bits = u64::from(bits);
    for (shift, mask) in [
        (16, 0x0000_ffff_0000_ffff),
        (8, 0x00ff_00ff_00ff_00ff),
        (4, 0x0f0f_0f0f_0f0f_0f0f),
        (2, 0x3333_3333_3333_3333),
        (1, 0x5555_5555_5555_5555),
    ] {
        bits = (bits | bits << shift) & mask;
    }
    bits
}

/// Takes every second bit.
fn gather(bits: u64) -> u32 {
    let mut bits = bits & 0x5555_5555_5555_5555;
    for (shift, mask) in [
        (1, 0x3333_3333_3333_3333),
        (2, 0x0f0f_0f0f_0f0f_0f0f),
        (4, 0x00ff_00ff_00ff_00ff),
        (8, 0x0000_ffff_0000_ffff),
        (16, 0x0000_0000_ffff_ffff),
    ] {
        bits = (bits | bits >> shift) & mask;
    }
    bits as u32
}

impl Cell {
    fn of(place: Place, latitudes: (f64, f64), steps: u32) -> Self {
        let part = |value: f64, (low, high): (f64, f64)| {
            ((value - low) / (high - low) * (1_u64 << steps) as f64) as u32
        };
        let latitude = part(place.latitude, latitudes);
        let longitude = part(place.longitude, LONGITUDES);
        Self { bits: spread(latitude) | spread(longitude) << 1, steps }
    }

    fn area(self) -> Area {
        let span = |at: u32, (low, high): (f64, f64)| {
            let edge = |at: f64| low + at / (1_u64 << self.steps) as f64 * (high - low);
            (edge(f64::from(at)), edge(f64::from(at) + 1.0))
        };
        let (latitude, longitude) = (gather(self.bits), gather(self.bits >> 1));
        Area { longitude: span(longitude, LONGITUDES), latitude: span(latitude, LATITUDES) }
    }

    /// The cell so many columns to the east and rows to the north, round the earth.
    fn next(self, east: i32, north: i32) -> Self {
        let mask = (1_u64 << self.steps) - 1;
        let go = |at: u32, by: i32| (u64::from(at).wrapping_add_signed(by.into()) & mask) as u32;
        let (latitude, longitude) = (gather(self.bits), gather(self.bits >> 1));
        let bits = spread(go(latitude, north)) | spread(go(longitude, east)) << 1;
        Self { bits, steps: self.steps }
    }

    /// The scores of the places in it: the last one is not included.
    pub(super) fn scores(self) -> (f64, f64) {
        let shift = 2 * (STEPS - self.steps);
        ((self.bits << shift) as f64, ((self.bits + 1) << shift) as f64)
    }
}

/// The score of a place.
pub(super) fn score(place: Place) -> f64 {
    Cell::of(place, LATITUDES, STEPS).bits as f64
}

/// The middle of the cell that a score means.
pub(super) fn place(score: f64) -> Place {
    let Area { longitude, latitude } = Cell { bits: score as u64, steps: STEPS }.area();
    let middle = |(a, b): (f64, f64), (low, high): (f64, f64)| ((a + b) / 2.0).clamp(low, high);
    Place { longitude: middle(longitude, LONGITUDES), latitude: middle(latitude, LATITUDES) }
}

/// The name of a place that is in use elsewhere: eleven characters, of which the last says nothing.
pub(super) fn name(place: Place) -> [u8; 11] {
    const ALPHABET: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
    let bits = Cell::of(place, (-90.0, 90.0), STEPS).bits;
    let mut name = [ALPHABET[0]; 11];
    for (index, letter) in name[..10].iter_mut().enumerate() {
        *letter = ALPHABET[(bits >> (52 - (index + 1) * 5) & 0x1f) as usize];
    }
    name
}

fn latitude_distance(from: f64, to: f64) -> f64 {
    EARTH_RADIUS_M * (to.to_radians() - from.to_radians()).abs()
}

/// Metres between two places, by the haversine formula.
pub(super) fn distance(from: Place, to: Place) -> f64 {
    let v = ((to.longitude.to_radians() - from.longitude.to_radians()) / 2.0).sin();
    if v == 0.0 {
        return latitude_distance(from.latitude, to.latitude);
    }
    let (from, to) = (from.latitude.to_radians(), to.latitude.to_radians());
    let u = ((to - from) / 2.0).sin();
    let a = u * u + from.cos() * to.cos() * v * v;
    2.0 * EARTH_RADIUS_M * a.sqrt().asin()
}

/// What is searched round a place, in metres.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    Circle { radius: f64 },
    Box { width: f64, height: f64 },
}

impl Shape {
    /// How far a place is from the centre, if it is within.
    pub(super) fn holds(self, centre: Place, place: Place) -> Option<f64> {
        if let Self::Box { width, height } = self {
            let beside = Place { longitude: centre.longitude, ..place };
            if latitude_distance(place.latitude, centre.latitude) > height / 2.0
                || distance(place, beside) > width / 2.0
            {
                return None;
            }
        }
        let away = distance(centre, place);
        match self {
            Self::Circle { radius } if away > radius => None,
            _ => Some(away),
        }
    }

    /// The edges of what it covers.
    fn bounds(self, centre: Place) -> Area {
        let (width, height) = match self {
            Self::Circle { radius } => (radius, radius),
            Self::Box { width, height } => (width / 2.0, height / 2.0),
        };
        let north = (height / EARTH_RADIUS_M).to_degrees();
        // The meridians are nearest at the edge that is nearer to a pole.
        let edge = if centre.latitude < 0.0 { -north } else { north };
        let narrow = (centre.latitude + edge).to_radians().cos();
        let east = (width / EARTH_RADIUS_M / narrow).to_degrees();
        Area {
            longitude: (centre.longitude - east, centre.longitude + east),
            latitude: (centre.latitude - north, centre.latitude + north),
        }
    }

    /// How fine the cells may be for nine of them to cover it.
    fn steps(self, latitude: f64) -> u32 {
        let mut reach = match self {
            Self::Circle { radius } => radius,
            Self::Box { width, height } => (width / 2.0).hypot(height / 2.0),
        };
        if reach == 0.0 {
            return STEPS;
        }
        let mut steps = -1_i32;
        while reach < MERCATOR_MAX_M {
            reach *= 2.0;
            steps += 1;
        }
        // Towards the poles cells are narrow.
        steps -= i32::from(latitude.abs() > 66.0) + i32::from(latitude.abs() > 80.0);
        steps.clamp(1, STEPS as i32) as u32
    }

    /// The cells that can have places within it, the one of the centre first.
    pub(super) fn cells(self, centre: Place) -> Vec<Cell> {
        let bounds = self.bounds(centre);
        let mut cell = Cell::of(centre, LATITUDES, self.steps(centre.latitude));
        let covered = cell.next(0, 1).area().latitude.1 >= bounds.latitude.1
            && cell.next(0, -1).area().latitude.0 <= bounds.latitude.0
            && cell.next(1, 0).area().longitude.1 >= bounds.longitude.1
            && cell.next(-1, 0).area().longitude.0 <= bounds.longitude.0;
        if cell.steps > 1 && !covered {
            cell = Cell::of(centre, LATITUDES, cell.steps - 1);
        }
        let area = cell.area();
        let fine = cell.steps >= 2;
        let needless = |east: i32, north: i32| {
            fine && (north < 0 && area.latitude.0 < bounds.latitude.0
                || north > 0 && area.latitude.1 > bounds.latitude.1
                || east < 0 && area.longitude.0 < bounds.longitude.0
                || east > 0 && area.longitude.1 > bounds.longitude.1)
        };
        const ROUND: [(i32, i32); 8] =
            [(0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)];
        let mut cells = vec![cell];
        for (east, north) in ROUND {
            let next = cell.next(east, north);
            // Where cells are so wide that one is its own neighbour's neighbour.
            if !needless(east, north) && !cells.contains(&next) {
                cells.push(next);
            }
        }
        cells
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn places() -> impl Strategy<Value = Place> {
        (LONGITUDES.0..LONGITUDES.1, LATITUDES.0..LATITUDES.1)
            .prop_map(|(longitude, latitude)| Place { longitude, latitude })
    }

    proptest! {
        #[test]
        fn a_score_is_less_than_a_metre_off(there in places()) {
            prop_assert!(distance(there, place(score(there))) < 1.0);
        }

        /// As in Redis, away from the poles and the date line.
        #[test]
        fn what_is_within_a_shape_is_in_its_cells(
            centre in (-90.0..90.0, -60.0..60.0), radius in 1.0..1e6, wide in 1.0..1e6,
            turn in 0.0..std::f64::consts::TAU, part in 0.0..1.0_f64, is_box: bool,
        ) {
            let centre = Place { longitude: centre.0, latitude: centre.1 };
            let shape = match is_box {
                true => Shape::Box { width: wide, height: radius },
                false => Shape::Circle { radius },
            };
            let reach = (radius.max(wide) * part / EARTH_RADIUS_M).to_degrees();
            let there = Place {
                longitude: centre.longitude + reach * turn.cos(),
                latitude: centre.latitude + reach * turn.sin(),
            };
            let there = place(score(there));
            if shape.holds(centre, there).is_some() {
                let found = |cell: &Cell| {
                    let (low, high) = cell.scores();
                    (low..high).contains(&score(there))
                };
                prop_assert!(shape.cells(centre).iter().any(found));
            }
        }
    }
}
