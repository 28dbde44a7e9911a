//! Streams with consumer groups. How they are stored says [`keyspace::stream`].
//!
//! Start with [`log`], which is a stream and its entries, and [`group`], which is a consumer group;
//! the other files are commands on them.

mod add;
mod claim;
mod create;
mod dump;
mod group;
mod id;
mod info;
mod listpack;
mod load;
mod log;
mod pending;
mod progress;
mod range;
mod read;
mod readgroup;
mod trim;

use super::{Flags, Keys, Spec};

pub(super) use dump::dump;
pub(super) use load::Loaded;
pub(super) use log::memory;

const G: &str = "stream";
const W: Flags = Flags::WRITE.and(Flags::FAST);
const D: Flags = W.and(Flags::DENYOOM);
const R: Flags = Flags::READONLY;
const READS: Flags = R.and(Flags::BLOCKING).and(Flags::MOVABLE_KEYS);
const GROUP_READS: Flags = Flags::WRITE.and(Flags::BLOCKING).and(Flags::MOVABLE_KEYS);
const SECOND: Keys = Keys::range(2, 2, 1);
const AFTER_STREAMS: Keys = Keys { also: super::Also::HalfAfter("streams"), ..Keys::NONE };

pub(super) const SPECS: &[Spec] = &[
    Spec::data(G, "xadd", -5, D, Keys::ONE, add::xadd),
    Spec::data(G, "xtrim", -4, Flags::WRITE, Keys::ONE, add::xtrim),
    Spec::data(G, "xlen", 2, R.and(Flags::FAST), Keys::ONE, range::xlen),
    Spec::data(G, "xrange", -4, R, Keys::ONE, range::xrange),
    Spec::data(G, "xrevrange", -4, R, Keys::ONE, range::xrevrange),
    Spec::data(G, "xdel", -3, W, Keys::ONE, range::xdel),
    Spec::data(G, "xsetid", -3, D, Keys::ONE, range::xsetid),
    Spec::data(G, "xread", -4, READS, AFTER_STREAMS, read::xread),
    Spec::data(G, "xreadgroup", -7, GROUP_READS, AFTER_STREAMS, readgroup::xreadgroup),
    Spec::data(G, "xgroup", -2, Flags::WRITE.and(Flags::DENYOOM), SECOND, create::xgroup),
    Spec::data(G, "xack", -4, W, Keys::ONE, pending::xack),
    Spec::data(G, "xpending", -3, R, Keys::ONE, pending::xpending),
    Spec::data(G, "xclaim", -6, W, Keys::ONE, claim::xclaim),
    Spec::data(G, "xautoclaim", -6, W, Keys::ONE, claim::xautoclaim),
    Spec::data(G, "xinfo", -2, R, SECOND, info::xinfo),
];
