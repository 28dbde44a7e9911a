//! What an unplanned switch loses, shard by shard, said before anything is decided.

use std::time::Duration;

use ops::exit::{Exit, Stop};
use serde::{Deserialize, Serialize};
use topology::members::LastSeen;
use topology::record::{Fork, UnixMs};
use topology::{ServiceView, ShardName};

use crate::args::Accept;
use crate::drain::{Ends, applied, is_level};
use crate::operation::Operation;
use crate::report::Lost;

/// What a target lacks of a source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardLoss {
    /// Whose log was left.
    pub source: String,
    /// Who takes over from it.
    pub target: String,
    /// How many sequences are missing, where the end of the log was read: exact. Each record that a
    /// batch changed takes one. Absent where only a bound is known.
    pub writes: Option<u64>,
    /// What is missing was acknowledged in this many seconds before the source could write no more, at
    /// the most.
    pub seconds: f64,
    /// Where only a bound is known: so many sequences of it the source's node had told the registry of, so
    /// it is at least that. Absent where nothing is known.
    #[serde(default)]
    pub at_least: Option<u64>,
}

impl ShardLoss {
    /// In words, with what is exact and what is not.
    pub(crate) fn text(&self) -> String {
        let Self { source, target, writes, seconds, at_least } = self;
        match writes {
            Some(0) => format!("{source} -> {target}: nothing is missing (exact)"),
            Some(count) => format!(
                "{source} -> {target}: {count} writes are missing (exact), of its last {seconds:.3} s"
            ),
            None => {
                let least = at_least.filter(|count| *count > 0).map_or(String::new(), |count| {
                    format!(", and at least the {count} writes more that its node had told the registry of")
                });
                format!(
                    "{source} -> {target}: its end cannot be read; missing is at most what it acknowledged in its last {seconds:.3} s (bound){least}"
                )
            }
        }
    }
}

/// What the sidecar of a target last saw of a source.
fn last_seen(view: &ServiceView, source: &ShardName, target: &ShardName) -> Option<LastSeen> {
    view.sidecars.get(target)?.last_seen.get(&source.to_string()).copied()
}

/// Until when a source that cannot be asked may have written, on its own wall clock: as far as a
/// target's sidecar has seen its leases, and others have promised it, and `otherwise` where nothing is known.
pub(crate) fn last_write(
    view: &ServiceView,
    source: &ShardName,
    target: &ShardName,
    otherwise: UnixMs,
) -> UnixMs {
    let seen = last_seen(view, source, target).and_then(|seen| seen.leased_until);
    let lease = view.leases.get(source).map(|l| l.at.after(Duration::from_millis(l.lease_ms)));
    // While the registry was silent to it, it wrote by what others had promised.
    let given = view.nodes.values().filter_map(|node| node.promises.as_ref()?.given.get(source));
    let promised = given.map(|given| given.until).max();
    let otherwise = promised.map_or(otherwise, |until| otherwise.max(until));
    match seen.max(lease).max(promised) {
        Some(until) => until.min(otherwise),
        None => otherwise,
    }
}

/// All of it in one figure.
pub(crate) fn sum(losses: &[ShardLoss]) -> Lost {
    let known: Option<u64> = losses.iter().map(|l| l.writes).sum();
    match known {
        Some(count) => Lost::Known(count),
        None => Lost::BoundSeconds(
            losses.iter().filter(|l| l.writes != Some(0)).map(|l| l.seconds).fold(0.0, f64::max),
        ),
    }
}

/// Why this is more than what is accepted, if it is.
pub(crate) fn worse(losses: &[ShardLoss], accept: Accept) -> Option<String> {
    let lost = sum(losses);
    match (accept, &lost) {
        (Accept::Any, _) | (_, Lost::Known(0)) => None,
        (Accept::NOTHING, _) => Some("no loss is accepted".to_owned()),
        (Accept::Time(span), _) => {
            let all = losses.iter().filter(|l| l.writes != Some(0));
            let worst = all.map(|l| l.seconds).fold(0.0, f64::max);
            (worst > span.duration().as_secs_f64())
                .then(|| format!("{worst:.3} s is more than the {span} that is accepted"))
        }
        (Accept::Writes(limit), Lost::Known(count)) => (*count > limit)
            .then(|| format!("{count} writes are more than the {limit} that are accepted")),
        (Accept::Writes(limit), Lost::BoundSeconds(_)) => Some(format!(
            "{limit} writes are accepted, and how many are missing cannot be told without the log's end: accept a time, or `any`"
        )),
    }
}

impl Operation<'_> {
    /// What each target lacks, if these forks are committed.
    fn losses(
        &self,
        view: &ServiceView,
        ends: &Ends,
        forks: &[Fork],
    ) -> Result<Vec<ShardLoss>, Stop> {
        let loss = |fork: &Fork| {
            let Some(at) = applied(view, &fork.source, &fork.target) else {
                let gone = format!("{} has gone: it cannot take over now", fork.target);
                return Err(Stop::new(Exit::Refused, gone));
            };
            let end = ends.get(&fork.source).copied().flatten();
            let writes = match end {
                Some(end) if is_level(self.freeze.id, at, end) => Some(0),
                Some(end) if at.position.timeline == end.timeline => {
                    Some(end.sequence.0.saturating_sub(at.position.sequence.0))
                }
                _ => None,
            };
            // Who cannot be reached may not have seen the freeze: it wrote on until its lease ended.
            let blind = if end.is_none() { self.record.lease_ms } else { 0 };
            let by_freeze = self.freeze.since.after(Duration::from_millis(blind));
            let last = last_write(view, &fork.source, &fork.target, by_freeze);
            let seen = last_seen(view, &fork.source, &fork.target).and_then(|seen| seen.position);
            let seen = seen.filter(|seen| seen.timeline == at.position.timeline);
            let missing = seen.map(|s| s.sequence.0.saturating_sub(at.position.sequence.0));
            let ms = last.0.saturating_sub(at.stamp_ms);
            Ok(ShardLoss {
                source: fork.source.to_string(),
                target: fork.target.to_string(),
                writes,
                seconds: if writes == Some(0) { 0.0 } else { ms as f64 / 1000.0 },
                at_least: missing.filter(|_| writes.is_none()),
            })
        };
        forks.iter().map(loss).collect()
    }

    /// Says what is missing before anything is decided, and stops if that is more than was accepted.
    pub(crate) fn weigh_loss(
        &mut self,
        view: &ServiceView,
        ends: &Ends,
        forks: &[Fork],
    ) -> Result<(), Stop> {
        let losses = self.losses(view, ends, forks)?;
        for loss in &losses {
            self.tool.progress(loss.text());
        }
        let lost = sum(&losses);
        let says = match &lost {
            Lost::Known(0) => "nothing is lost: every log was applied to its end".to_owned(),
            lost => format!("not on `{}`: {}", self.freeze.to, lost.text()),
        };
        self.tool.progress(&says);
        self.report.lost = Some(lost);
        let refused = worse(&losses, self.limits.accept);
        self.report.losses = losses;
        match refused {
            Some(why) => Err(Stop::new(
                Exit::Refused,
                format!(
                    "{says}. Refused: {why}. Say --accept-loss with as much, or `any`, to go on all the same"
                ),
            )),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ops::units::Span;

    fn loss(writes: Option<u64>, seconds: f64) -> ShardLoss {
        ShardLoss {
            source: "a/0".to_owned(),
            target: "b/0".to_owned(),
            writes,
            seconds,
            at_least: None,
        }
    }

    #[test]
    fn what_is_worse_than_accepted_is_refused_and_nothing_else() {
        let (none, some, bound) = (loss(Some(0), 0.0), loss(Some(40), 0.5), loss(None, 2.5));
        let second = Accept::Time(Span::secs(1));
        for (losses, accept, refused) in [
            (vec![&none], Accept::NOTHING, false),
            (vec![&some], Accept::NOTHING, true),
            (vec![&bound], Accept::NOTHING, true),
            (vec![&some, &bound], Accept::Any, false),
            (vec![&some], second, false),
            (vec![&some, &bound], second, true),
            (vec![&some, &bound], Accept::Time(Span::secs(3)), false),
            (vec![&some, &some], Accept::Writes(80), false),
            (vec![&some, &some], Accept::Writes(79), true),
            (vec![&some, &bound], Accept::Writes(u64::MAX), true),
        ] {
            let losses: Vec<_> = losses.into_iter().cloned().collect();
            assert_eq!(worse(&losses, accept).is_some(), refused, "{losses:?} with {accept:?}");
        }
        assert_eq!(sum(&[none.clone(), some.clone()]), Lost::Known(40));
        assert_eq!(sum(&[some, bound]), Lost::BoundSeconds(2.5));
    }
}
