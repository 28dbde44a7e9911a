//! What commands are for, as COMMAND DOCS says it: a line each in `summaries.txt`, which names the
//! command, the version of Redis that brought it (`-`: none did), and what it is for. Subcommands are
//! in [`super::subcommand`].

use std::sync::LazyLock;

use hashbrown::HashMap;

/// What is said of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    /// The version of Redis that brought it, if one did.
    pub(crate) since: Option<&'static str>,
    /// What it is for.
    pub(crate) text: &'static str,
}

static ALL: LazyLock<HashMap<&'static str, Summary>> = LazyLock::new(|| {
    let line = |line: &'static str| {
        let (name, rest) = line.split_once(' ')?;
        let (since, text) = rest.split_once(' ')?;
        Some((name, Summary { since: Some(since).filter(|since| *since != "-"), text }))
    };
    include_str!("summaries.txt").lines().filter_map(line).collect()
});

/// What is said of the command of this name.
pub(crate) fn of(name: &str) -> Option<Summary> {
    ALL.get(name).copied()
}

#[cfg(test)]
mod tests {
    use super::super::table;
    use super::*;

    #[test]
    fn every_command_says_what_it_is_for_and_nothing_else_does() {
        for spec in table::all() {
            assert!(of(spec.name).is_some(), "{} has no line", spec.name);
        }
        assert_eq!(ALL.len(), table::all().count());
        assert_eq!(ALL.len(), include_str!("summaries.txt").lines().count());
        let texts = ALL.values().all(|summary| summary.text.ends_with('.'));
        assert!(texts && of("hexpire").is_some_and(|summary| summary.since == Some("7.4.0")));
    }
}
