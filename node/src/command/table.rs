//! All commands, found by name in either case.

use std::sync::LazyLock;

use hashbrown::HashMap;

use super::subcommand::{SUBCOMMANDS, Sub};
use super::{Args, Spec};
use crate::server;

/// The longest name of a command in bytes; anything longer is unknown.
const NAME_BYTES_MAX: usize = 32;

static FAMILIES: &[&[Spec]] = &[
    super::string::SPECS,
    super::string_part::SPECS,
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
    super::list_move::SPECS,
    super::list_wait::SPECS,
    super::memory::SPECS,
    super::set::SPECS,
    super::set_combine::SPECS,
    super::stream::SPECS,
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
    super::scripting::SPECS,
    super::whole::SPECS,
    server::CONNECTION,
    server::SERVER,
    server::TRANSACTIONS,
    server::PUBSUB,
];

/// What stands in a request for a command that could not be found or placed; it is in no table.
pub static UNKNOWN: Spec = Spec::session("", "", 0, super::Flags::LOADING, |_, _, _| Ok(()));

static BY_NAME: LazyLock<HashMap<&'static [u8], Named, foldhash::fast::FixedState>> =
    LazyLock::new(|| {
        let named = |spec: &'static Spec| {
            (spec.name.as_bytes(), Named { spec, has_subs: subcommands(spec).next().is_some() })
        };
        all().map(named).collect()
    });

struct Named {
    spec: &'static Spec,
    has_subs: bool,
}

/// The commands that others contain, those of one container together.
static SUBS: LazyLock<Vec<Spec>> = LazyLock::new(|| {
    let container = |sub: &Sub| all().find(|spec| spec.name == sub.container());
    SUBCOMMANDS.iter().filter_map(|sub| Some(sub.spec(container(sub)?))).collect()
});

/// The number of each command, by its address.
static NUMBERS: LazyLock<HashMap<usize, u16, foldhash::fast::FixedState>> = LazyLock::new(|| {
    everything().enumerate().map(|(number, spec)| (address(spec), number as u16)).collect()
});

fn address(spec: &Spec) -> usize {
    std::ptr::from_ref(spec) as usize
}

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
    BY_NAME.get(&*lower).map(|named| named.spec)
}

/// Every command, and behind them those that they contain.
pub fn everything() -> impl Iterator<Item = &'static Spec> + Clone {
    all().chain(SUBS.iter())
}

/// What a command contains.
pub fn subcommands(container: &Spec) -> impl Iterator<Item = &'static Spec> + Clone + use<> {
    let name = container.name;
    SUBS.iter().filter(move |sub| container_of(sub) == Some(name))
}

/// The name of what contains a command, if anything does.
pub fn container_of(spec: &Spec) -> Option<&'static str> {
    spec.name.split_once('|').map(|(container, _)| container)
}

/// Where a command stands among [`everything`]; `None` for what is in no table.
pub fn number(spec: &Spec) -> Option<u16> {
    NUMBERS.get(&address(spec)).copied()
}

/// The command of this name, as `client` or `client|id`.
pub fn find_full(name: &[u8]) -> Option<&'static Spec> {
    if !name.contains(&b'|') {
        return find(name);
    }
    SUBS.iter().find(|sub| sub.name.as_bytes().eq_ignore_ascii_case(name))
}

/// Why a command line is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// There is no such command.
    Command,
    /// The command has no such subcommand.
    Subcommand,
}

/// The command that these arguments are, a subcommand where the command has some.
pub fn resolve(args: &Args<'_>) -> Result<&'static Spec, Unknown> {
    let mut lower = [0; NAME_BYTES_MAX];
    let name = args.at(0);
    let lower = lower.get_mut(..name.len()).ok_or(Unknown::Command)?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    let named = BY_NAME.get(&*lower).ok_or(Unknown::Command)?;
    let Some(sub) = args.get(1).filter(|_| named.has_subs) else { return Ok(named.spec) };
    let is = |spec: &&'static Spec| {
        spec.name.split_once('|').is_some_and(|(_, name)| sub.eq_ignore_ascii_case(name.as_bytes()))
    };
    subcommands(named.spec).find(is).ok_or(Unknown::Subcommand)
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

    #[test]
    fn subcommands_are_commands_of_their_own() {
        let numbers: std::collections::BTreeSet<_> = everything().filter_map(number).collect();
        assert_eq!(numbers.len(), everything().count());
        assert_eq!(find_full(b"Client|Id").map(|spec| spec.arity), Some(2));
        assert_eq!(find_full(b"client|nope").map(|spec| spec.name), None);
        let resolved = |words: &[&str]| {
            let bytes = words.concat().into_bytes();
            let mut from = 0;
            let ranges: Vec<_> = words
                .iter()
                .map(|word| {
                    from += word.len();
                    from - word.len()..from
                })
                .collect();
            resolve(&Args::new(&bytes, &ranges)).map(|spec| spec.name)
        };
        assert_eq!(resolved(&["CONFIG", "gEt", "*"]), Ok("config|get"));
        assert_eq!(resolved(&["config"]), Ok("config"));
        assert_eq!(resolved(&["config", "got"]), Err(Unknown::Subcommand));
        assert_eq!(resolved(&["get", "got"]), Ok("get"));
        assert_eq!(resolved(&["got"]), Err(Unknown::Command));
    }
}
