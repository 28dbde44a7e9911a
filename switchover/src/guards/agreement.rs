//! Whether the clusters agree in what clients would notice: settings, and users.

use std::collections::BTreeSet;

use topology::{ServiceView, ShardName};

use super::Verdict;
use crate::args::Guards;

fn verdict(guard: &'static str, problems: Vec<String>, well: &str, limits: &Guards) -> Verdict {
    let found = Verdict::of(guard, problems, well);
    if limits.allow_drift { found.said() } else { found }
}

/// Whether nodes that follow each other have the same settings.
pub(super) fn settings(
    view: &ServiceView,
    pairs: &[(ShardName, ShardName)],
    limits: &Guards,
) -> Verdict {
    let mut problems = BTreeSet::new();
    for (source, target) in pairs {
        let (Some(ours), Some(theirs)) = (view.nodes.get(source), view.nodes.get(target)) else {
            continue;
        };
        let names: BTreeSet<_> = ours.settings.keys().chain(theirs.settings.keys()).collect();
        for name in names {
            let of = |node: &topology::members::NodeMember| {
                node.settings.get(name).cloned().unwrap_or_else(|| "its default".to_owned())
            };
            if of(ours) != of(theirs) {
                problems.insert(format!(
                    "`{name}` is {} at {source} and {} at {target}: set both alike (CONFIG SET, CONFIG REWRITE), or allow-drift",
                    of(ours),
                    of(theirs)
                ));
            }
        }
    }
    verdict("settings", problems.into_iter().collect(), "the same on both sides", limits)
}

/// Whether nodes that follow each other let the same users in.
pub(super) fn users(
    view: &ServiceView,
    pairs: &[(ShardName, ShardName)],
    limits: &Guards,
) -> Verdict {
    let problem = |(source, target): &(ShardName, ShardName)| {
        let ours = view.nodes.get(source)?.users.as_ref()?;
        let theirs = view.nodes.get(target)?.users.as_ref()?;
        (ours != theirs).then(|| {
            format!(
                "the users of {source} and {target}, their rules or passwords differ (ACL LIST): they follow the log once {source} has changed one there (ACL LOAD does) and {target} is level, unless a node has them in its file (users = \"file\"); or allow-drift"
            )
        })
    };
    let problems = pairs.iter().filter_map(problem).collect();
    verdict("users", problems, "the same on both sides", limits)
}
