//! Whether those who take part are there, in the right role and at the right epoch.

use std::time::Duration;

use topology::members::Role;
use topology::operator::Claim;
use topology::record::{Cause, UnixMs};
use topology::{Record, ServiceView, ShardName};

use super::Verdict;
use crate::heard::SILENT_MAX;
use crate::{claim, who};

/// Whether no node acts under an epoch above the record's: the next one was taken already then.
pub(super) fn set_back(view: &ServiceView, record: &Record) -> Verdict {
    let ahead = view.nodes.values().filter(|node| node.epoch > record.epoch);
    let problems = ahead.map(|node| {
        format!(
            "{} acts under epoch {} and the record is at {}: the registry was set back; see `registry check`",
            node.shard, node.epoch, record.epoch
        )
    });
    let well = format!("no node is past epoch {}", record.epoch);
    Verdict::of("registry", problems.collect(), well)
}

/// Whether nobody is at an operation.
pub(super) fn free(view: &ServiceView, record: &Record, cause: Cause) -> Verdict {
    let busy = record
        .freeze()
        .map(|f| format!("a freeze to `{}` ({}) is under way: `resume` or `abort` it", f.to, f.id));
    let wanted = if cause == Cause::Failover { "failover" } else { "switchover" };
    let stays = |held: &&Claim| {
        // This process may see its own claim of a moment ago.
        let is_other = held.by.pid != std::process::id() || held.by != who::me();
        is_other && !claim::yields(&held.operation, wanted) && !who::is_dead(&held.by)
    };
    let other = view.claim.as_ref().filter(stays);
    let claimed = other.map(|claim| format!("{} is at a {}", claim.by, claim.operation));
    let well = match &view.maintenance {
        None => "no other operation".to_owned(),
        Some(quiet) => format!("no other operation; maintenance is on, by {}", quiet.by),
    };
    Verdict::of("free", busy.into_iter().chain(claimed).collect(), well)
}

/// Whether there is anything to move.
pub(super) fn elsewhere(moves: &[ShardName], to: &str) -> Verdict {
    let problem = moves.is_empty().then(|| format!("cluster `{to}` is active already"));
    let well = format!("cluster `{to}` takes the slots of {} primaries", moves.len());
    Verdict::of("target", problem.into_iter().collect(), well)
}

/// Whether all that moves works.
pub(super) fn primaries(view: &ServiceView, record: &Record, moves: &[ShardName]) -> Verdict {
    let problem = |shard: &ShardName| {
        let Some(node) = view.nodes.get(shard) else {
            return Some(format!("{shard} is not there: if it is dead, use `failover`"));
        };
        let leased = view.leases.get(shard).is_some_and(|l| l.epoch == record.epoch);
        let is_well = node.role == Role::Primary && node.epoch == record.epoch && leased;
        (!is_well).then(|| {
            format!(
                "{shard} does not accept writes (role {:?}, epoch {}, lease: {leased})",
                node.role, node.epoch
            )
        })
    };
    let problems = moves.iter().filter_map(problem).collect();
    Verdict::of("primaries", problems, "all accept writes")
}

/// Whether all that takes over may be promoted.
pub(super) fn standbys(view: &ServiceView, pairs: &[(ShardName, ShardName)]) -> Verdict {
    let problems = pairs.iter().filter_map(|(source, target)| no_standby(view, source, target));
    Verdict::of("standbys", problems.collect(), "all can be promoted")
}

/// Why `target` cannot be promoted in the place of `source`, if it cannot.
pub(crate) fn no_standby(
    view: &ServiceView,
    source: &ShardName,
    target: &ShardName,
) -> Option<String> {
    let Some(node) = view.nodes.get(target) else {
        return Some(format!("{target} is not there"));
    };
    if node.role != Role::Standby {
        return Some(format!("{target} is {:?}, no standby that can be promoted", node.role));
    }
    let follows = node.applied.contains_key(&source.to_string());
    (!follows).then(|| format!("{target} has applied nothing of {source}"))
}

/// Whether all proxies route by the present epoch.
pub(super) fn proxies(view: &ServiceView, record: &Record) -> Verdict {
    let late = view.proxies.values().filter(|p| p.epoch != record.epoch);
    let problems =
        late.map(|p| format!("{} routes by epoch {}, not {}", p.id, p.epoch, record.epoch));
    let now = UnixMs::now();
    let old = view.proxies.values().filter(|p| now > p.at.after(SILENT_MAX));
    let old: Vec<_> = old.map(|p| format!("{} ({} ms)", p.id, now.0 - p.at.0)).collect();
    let well = match (view.proxies.len(), old.is_empty()) {
        (0, _) => "none registered: clients must find the new primaries by themselves".to_owned(),
        (count, true) => format!("{count} acknowledged epoch {}", record.epoch),
        (count, false) => format!(
            "{count} acknowledged epoch {}; by this machine's clock these have said nothing for a while, and a switch waits {SILENT_MAX:?} for each that is dead: {}",
            record.epoch,
            old.join(", ")
        ),
    };
    Verdict::of("proxies", problems.collect(), well)
}

/// Whether proxies can hold writes for as long as the freeze may last.
pub(super) fn holds(view: &ServiceView, freeze: Duration) -> Verdict {
    let short = view.proxies.values().filter_map(|proxy| {
        let hold = Duration::from_millis(proxy.hold_ms?);
        (hold < freeze).then(|| {
            format!(
                "{} holds writes for {hold:?} (hold-time) and the freeze may last {freeze:?} (timeout): clients would see errors before it is rolled back",
                proxy.id
            )
        })
    });
    let least = view.proxies.values().filter_map(|p| p.hold_ms).min();
    let well = match least {
        Some(ms) => {
            format!("proxies hold writes for {ms} ms or more; the freeze ends within {freeze:?}")
        }
        None => format!("no proxy says how long it holds; the freeze ends within {freeze:?}"),
    };
    Verdict::of("holds", short.collect(), well)
}
