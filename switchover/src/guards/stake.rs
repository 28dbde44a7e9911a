//! What an unplanned switch puts at stake.

use topology::record::UnixMs;
use topology::{ServiceView, ShardName};

use super::Verdict;
use crate::args::Accept;
use crate::loss;

/// What may be missing, as far as it can be told before anything is frozen. It refuses only what is
/// certainly too much; the failover itself weighs what is missing again before it commits.
pub(super) fn at_stake(
    view: &ServiceView,
    moves: &[ShardName],
    pairs: &[(ShardName, ShardName)],
    accept: Accept,
) -> Verdict {
    let now = UnixMs::now();
    let (mut says, mut worst) = (Vec::new(), 0.0_f64);
    for source in moves {
        if view.nodes.contains_key(source) || view.sidecars.contains_key(source) {
            says.push(format!(
                "{source}: its node or sidecar is there and can tell the end of its log: exact"
            ));
            continue;
        }
        let targets: Vec<_> = pairs.iter().filter(|(s, _)| s == source).collect();
        let bound = |(_, target): &&(ShardName, ShardName)| {
            let applied = view.nodes.get(target)?.applied.get(&source.to_string())?;
            let last = loss::last_write(view, source, target, now);
            Some(last.0.saturating_sub(applied.stamp_ms) as f64 / 1000.0)
        };
        says.push(match targets.iter().copied().filter_map(|t| bound(&t)).reduce(f64::max) {
            Some(seconds) => {
                worst = worst.max(seconds);
                format!(
                    "{source}: gone; what it acknowledged after the last batch that was applied, in its last {seconds:.3} s at the most, may be missing: bound"
                )
            }
            None => format!("{source}: gone, and nobody has anything of it"),
        });
    }
    let too_much = matches!(accept, Accept::Time(span) if worst > span.duration().as_secs_f64());
    if too_much {
        says.push(format!("{accept} is accepted"));
    }
    Verdict { guard: "at stake", pass: !too_much, detail: says.join("; ") }
}
