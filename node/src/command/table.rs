//! All commands, found by name in either case.

use std::sync::LazyLock;

use hashbrown::HashMap;

use super::Spec;
use crate::server;

/// The longest name of a command in bytes; anything longer is unknown.
const NAME_BYTES_MAX: usize = 32;

static FAMILIES: &[&[Spec]] = &[
    super::string::SPECS,
    super::counter::SPECS,
    super::bits::SPECS,
    super::bitfield::SPECS,
    super::geo::SPECS,
    super::geosearch::SPECS,
    super::hash::SPECS,
    super::hash_expire::SPECS,
    super::hyperloglog::SPECS,
    super::lcs::SPECS,
    super::list::SPECS,
    super::list_edit::SPECS,
    super::list_wait::SPECS,
    super::memory::SPECS,
    super::set::SPECS,
    super::set_combine::SPECS,
    super::zset::SPECS,
    super::zadd::SPECS,
    super::zcombine::SPECS,
    super::zpop::SPECS,
    super::zpop_wait::SPECS,
    super::zrange::SPECS,
    super::key::SPECS,
    super::dump::SPECS,
    super::expire::SPECS,
    super::sort::SPECS,
    super::scan::SPECS,
    super::wait::SPECS,
    super::whole::SPECS,
    server::CONNECTION,
    server::SERVER,
    server::TRANSACTIONS,
    server::PUBSUB,
];

/// What stands in a request for a command that could not be found or placed; it is in no table.
pub static UNKNOWN: Spec = Spec::session("", "", 0, super::Flags::LOADING, |_, _, _| Ok(()));

static BY_NAME: LazyLock<HashMap<&'static [u8], &'static Spec, foldhash::fast::FixedState>> =
    LazyLock::new(|| all().map(|spec| (spec.name.as_bytes(), spec)).collect());

/// Every command.
pub fn all() -> impl Iterator<Item = &'static Spec> + Clone {
    FAMILIES.iter().flat_map(|family| family.iter())
}

/// The command of this name, if there is one.
pub fn find(name: &[u8]) -> Option<&'static Spec> {
    let mut lower = [0; NAME_BYTES_MAX];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    BY_NAME.get(&*lower).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found_in_either_case() {
        assert_eq!(BY_NAME.len(), all().count());
        assert_eq!(find(b"GeT").map(|spec| spec.name), Some("get"));
        assert!(find(b"nope").is_none() && find(&[b'x'; 100]).is_none());
    }
}
