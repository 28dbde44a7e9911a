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
    let rate = (sent.saturating_sub(since) as f64 / took.as_secs_f64().max(0.001)) as u64;
    if sent.saturating_sub(since) >= RATE_FROM_BYTES && rate > 0 {
        text.push_str(&format!(", {} a second", Size(rate).about()));
        if let Some(left) = of.and_then(|of| of.checked_sub(sent)).filter(|left| *left > 0) {
            let left = Span(Duration::from_millis(left.saturating_mul(1000) / rate)).about();
            text.push_str(&format!(", about {left} left"));
        }
    }
    text
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
                let sent = progress(sent(view, &task.to), since, began.elapsed(), of);
                let more = if more.is_empty() {
                    String::new()
                } else {
                    format!(" and {} more", more.len())
                };
                Look::Missing(format!("{sent}; {first}{more}"))
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
    }
}
