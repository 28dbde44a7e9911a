//! How the streams stand that the switch relies on.

use topology::members::{Held, HeldBy, StreamStatus};
use topology::{ServiceView, ShardName};

use super::Verdict;
use crate::args::Guards;

/// Whether each follower is connected.
pub(super) fn streams(view: &ServiceView, pairs: &[(ShardName, ShardName)]) -> Verdict {
    let problem = |(source, target): &(ShardName, ShardName)| {
        let Some(sidecar) = view.sidecars.get(source) else {
            return Some(format!("the sidecar of {source} is not there"));
        };
        match sidecar.streams.get(&target.to_string()) {
            None => Some(format!("{source} has no stream to {target}")),
            Some(stream) if stream.state == "streaming" => None,
            Some(stream) => {
                let reason = stream.reason.as_deref().map(|r| format!(" ({r})"));
                Some(format!(
                    "{source} to {target} is {}{}",
                    stream.state,
                    reason.unwrap_or_default()
                ))
            }
        }
    };
    let problems = pairs.iter().filter_map(problem).collect();
    Verdict::of("streams", problems, format!("{} connected", pairs.len()))
}

/// How far behind a follower may be whose lag has not been measured yet.
const UNMEASURED_BYTES_MAX: u64 = 1 << 20;

/// How far a follower is behind, if that is too far. One that has staged and applied everything is
/// level, however old the last batch was.
pub(crate) fn behind(stream: &StreamStatus, limits: &Guards) -> Option<String> {
    if stream.behind_bytes == 0 && stream.staged == stream.applied {
        return None;
    }
    let allowed = limits.max_lag.duration().as_millis();
    match stream.lag_ms {
        Some(ms) if u128::from(ms) <= allowed => None,
        Some(ms) => Some(format!("{ms} ms and {} bytes", stream.behind_bytes)),
        // A stream that has just connected has no lag yet; so little is drained within any freeze.
        None if stream.behind_bytes <= UNMEASURED_BYTES_MAX => None,
        None => Some(format!("{} bytes", stream.behind_bytes)),
    }
}

/// Why a target does not apply what it has staged, where that is wanted or decided.
pub(crate) fn held<'a>(
    view: &'a ServiceView,
    source: &ShardName,
    target: &ShardName,
) -> Option<&'a Held> {
    let sidecar = view.sidecars.get(target)?;
    sidecar.receiving.get(&source.to_string())?.held.as_ref()
}

/// Whether the followers are near enough to be drained within the freeze.
pub(super) fn lag(
    view: &ServiceView,
    pairs: &[(ShardName, ShardName)],
    limits: &Guards,
) -> Verdict {
    let mut worst = 0;
    let mut problems = Vec::new();
    for (source, target) in pairs {
        let streams = view.sidecars.get(source).map(|s| &s.streams);
        let held = held(view, source, target);
        if let Some(held) = held.filter(|held| held.by != HeldBy::Delay) {
            problems.push(format!("{target} applies nothing of {source}: {}", held.reason));
            continue;
        }
        let Some(stream) = streams.and_then(|s| s.get(&target.to_string())) else { continue };
        match behind(stream, limits) {
            None => worst = worst.max(stream.lag_ms.unwrap_or(0)),
            Some(how) => problems.push(match held {
                Some(held) => format!("{target} is {how} behind {source}: {}", held.reason),
                None => format!("{target} is {how} behind {source}"),
            }),
        }
    }
    let limit = limits.max_lag;
    Verdict::of("lag", problems, format!("at most {worst} ms; {limit} are allowed (max-lag)"))
}

/// Whether each follower is on the history that its source writes now.
pub(super) fn timelines(view: &ServiceView, pairs: &[(ShardName, ShardName)]) -> Verdict {
    let problem = |(source, target): &(ShardName, ShardName)| {
        let writes = view.nodes.get(source)?.position?.timeline;
        let applied = view.nodes.get(target)?.applied.get(&source.to_string())?.position;
        (applied.timeline != writes).then(|| {
            format!(
                "{target} has applied {source} up to timeline {}, and {source} writes timeline {writes}",
                applied.timeline
            )
        })
    };
    let problems = pairs.iter().filter_map(problem).collect();
    Verdict::of("timelines", problems, "each follower is on its source's own")
}
