//! Waiting until the new cluster is level, and saying how far it is.

use std::time::{Duration, Instant};

use ops::exit::{Exit, Stop};
use ops::units::{Size, Span};
use topology::{Record, ServiceView, ShardName};

use super::task::Task;
use crate::failback;
use crate::plan::pairs;
use crate::tool::Tool;
use crate::wait::{Look, Waited, until};

/// Below so many bytes the rate says nothing about the time that is left.
const RATE_FROM_BYTES: u64 = 1 << 20;

/// What was sent of the seeds so far.
pub(crate) fn sent(view: &ServiceView, to: &str) -> u64 {
    let streams = view.sidecars.values().flat_map(|sidecar| &sidecar.streams);
    let to = streams.filter(|(target, _)| target.split('/').next() == Some(to));
    to.map(|(_, stream)| stream.seed_bytes).sum()
}

/// How far it is: bytes, rate, time left.
pub(crate) fn progress(sent: u64, since: u64, took: Duration, of: Option<u64>) -> String {
    let mut text = Size(sent).about();
    if let Some(of) = of.filter(|of| *of > 0) {
        let percent = (u128::from(sent) * 100 / u128::from(of)).min(100);
        text.push_str(&format!(" of about {} sent ({percent} %)", Size(of).about()));
    } else {
        text.push_str(" sent");
    }
    if let Some(rate) = rate(sent, since, took) {
        text.push_str(&format!(", {} a second", Size(rate).about()));
        if let Some(left) = left(sent, rate, of) {
            text.push_str(&format!(", about {} left", Span(left).about()));
        }
    }
    text
}

/// Bytes a second, as far as what was sent says something about it.
fn rate(sent: u64, since: u64, took: Duration) -> Option<u64> {
    let moved = sent.saturating_sub(since);
    let rate = (moved as f64 / took.as_secs_f64().max(0.001)) as u64;
    (moved >= RATE_FROM_BYTES && rate > 0).then_some(rate)
}

/// How long the rest takes at this rate.
fn left(sent: u64, rate: u64, of: Option<u64>) -> Option<Duration> {
    let left = of?.checked_sub(sent).filter(|left| *left > 0)?;
    Some(Duration::from_millis(left.saturating_mul(1000) / rate))
}

/// Which sources cannot keep their logs for as long as the rest of the seed takes: said as soon as the
/// first seconds have shown the rate, where nothing was known of it before.
fn short(view: &ServiceView, pairs: &[(ShardName, ShardName)], left: Duration) -> Option<String> {
    let lasts = |source: &ShardName| view.sidecars.get(source)?.needs?.lasts_ms;
    let (source, lasts) = pairs
        .iter()
        .filter_map(|(source, _)| Some((source, Duration::from_millis(lasts(source)?))))
        .min_by_key(|(_, lasts)| *lasts)?;
    (lasts < left).then(|| {
        format!(
            "{source} can keep its log for {} only: raise its spool-budget or bandwidth, or it begins anew",
            Span(lasts).about()
        )
    })
}

/// Each pair of the new cluster that is not level, and why.
fn late(tool: &Tool, view: &ServiceView, pairs: &[(ShardName, ShardName)]) -> Vec<String> {
    let limits = &tool.config.guards;
    pairs.iter().filter_map(|(s, t)| failback::behind(view, s, t, limits)).collect()
}

/// Waits until every new shard is level with its sources; the bytes that were sent. The time starts
/// afresh for whoever resumes it.
pub(crate) async fn level(tool: &Tool, task: &Task, of: Option<u64>) -> Result<u64, Stop> {
    let mut view = tool.service.watch();
    let began = Instant::now();
    let patience = tool.config.seed_timeout;
    let since = sent(&view.borrow(), &task.to);
    let mut lost = None;
    let waited = until(tool, &mut view, began + patience.duration(), |view| {
        if tool.still_claimed().is_err() {
            let why = "another operation has the service now (a failover goes before a resize)";
            lost = Some(Stop::new(Exit::Refused, why));
            return Look::Over;
        }
        let Some(record) = view.record() else { return Look::Over };
        if !record.clusters.contains_key(&task.to) {
            return Look::Over;
        }
        super::die("resize-die-while-seeding");
        let pairs = to_come(record, &task.to);
        let late = late(tool, view, &pairs);
        match late.split_first() {
            None => Look::Done(()),
            Some((first, more)) => {
                let (sent, took) = (sent(view, &task.to), began.elapsed());
                let rest = rate(sent, since, took).and_then(|rate| left(sent, rate, of));
                let short = rest.and_then(|rest| short(view, &pairs, rest));
                let short = short.map_or(String::new(), |short| format!("; {short}"));
                let sent = progress(sent, since, took, of);
                let more = if more.is_empty() {
                    String::new()
                } else {
                    format!(" and {} more", more.len())
                };
                Look::Missing(format!("{sent}{short}; {first}{more}"))
            }
        }
    });
    match waited.await {
        Waited::Done(()) => Ok(sent(&view.borrow(), &task.to)),
        Waited::TimedOut(missing) => Err(Stop::new(
            Exit::Failed,
            format!(
                "after {patience} (seed-timeout) cluster `{}` is not level: {missing}",
                task.to
            ),
        )),
        Waited::Over => Err(lost.unwrap_or_else(|| super::gone(&task.to))),
    }
}

/// The pairs that take part in the switch.
fn to_come(record: &Record, to: &str) -> Vec<(ShardName, ShardName)> {
    let moves: Vec<_> = record.primaries.iter().filter(|p| p.cluster != to).cloned().collect();
    pairs(record, &moves, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_has_bytes_rate_and_time_left() {
        let mib = 1 << 20;
        let ten = Duration::from_secs(10);
        let says = progress(40 * mib, 0, ten, Some(100 * mib));
        assert_eq!(
            says,
            "40.0 MiB of about 100.0 MiB sent (40 %), 4.0 MiB a second, about 15s left"
        );
        // Resumed: what was sent before says nothing about the rate.
        let says = progress(40 * mib, 20 * mib, ten, Some(100 * mib));
        assert_eq!(
            says,
            "40.0 MiB of about 100.0 MiB sent (40 %), 2.0 MiB a second, about 30s left"
        );
        // Records of another shape may take more than they took in their files.
        let says = progress(110 * mib, 0, ten, Some(100 * mib));
        assert_eq!(says, "110.0 MiB of about 100.0 MiB sent (100 %), 11.0 MiB a second");
        assert_eq!(progress(5, 0, ten, None), "5 B sent");
        // The rate of the first seconds tells how long it takes, where nobody knew before.
        assert_eq!(rate(5, 0, ten), None, "too little to say");
        assert_eq!(rate(40 * mib, 20 * mib, ten), Some(2 * mib));
        assert_eq!(left(40 * mib, 2 * mib, Some(100 * mib)), Some(Duration::from_secs(30)));
        assert_eq!(left(110 * mib, 2 * mib, Some(100 * mib)), None);
    }

    #[test]
    fn a_log_that_cannot_be_kept_for_so_long_is_named() {
        let shard = |name: &str| name.parse::<ShardName>().unwrap();
        let pairs = [(shard("a/0"), shard("n/0")), (shard("a/1"), shard("n/1"))];
        let member = |name: &str, lasts_ms| {
            let needs = topology::members::Needs { lasts_ms, ..Default::default() };
            let text = serde_json::json!({
                "shard": name, "stream": "127.0.0.1:1", "pid": 1, "version": "0", "at": 1,
                "streams": {}, "receiving": {}, "needs": needs,
            });
            (shard(name), serde_json::from_value(text).unwrap())
        };
        let sidecars = [member("a/0", None), member("a/1", Some(60_000))].into();
        let view = ServiceView { sidecars, ..ServiceView::default() };
        let minutes = |n: u64| Duration::from_secs(n * 60);
        assert_eq!(short(&view, &pairs, Duration::from_secs(59)), None);
        assert!(
            short(&view, &pairs, minutes(2)).unwrap().starts_with("a/1 can keep its log for 1")
        );
    }

    #[test]
    fn who_knows_nothing_says_so() {
        let ten = Duration::from_secs(10);
        assert_eq!(progress(0, 0, ten, Some(100)), "0 B of about 100 B sent (0 %)");
    }
}
