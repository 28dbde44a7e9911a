//! What was done before: the last switches, and the last snapshot.

use serde_json::Value;
use topology::operator::{SNAPSHOT_PROVEN, SNAPSHOT_SEALED};
use topology::record::UnixMs;
use topology::{Service, ServiceView};

use super::Verdict;
use crate::args::Guards;
use crate::report::Report;

/// So many of the last switches tell how long the next one may take.
const PAUSES: usize = 5;

/// What the journals say of earlier switches.
#[derive(Clone, Debug, Default)]
pub(crate) struct Past {
    /// The pauses of the last planned ones, in milliseconds, newest first.
    pub(crate) pauses: Vec<f64>,
    /// The last one that committed, and when it began.
    pub(crate) last: Option<(String, UnixMs)>,
}

impl Past {
    /// Reads the journals of the registry.
    pub(crate) async fn read(service: &Service) -> anyhow::Result<Self> {
        Ok(Self::of(&service.journals().await?))
    }

    fn of(journals: &[(String, Value)]) -> Self {
        let mut past = Self::default();
        for (_, about) in journals.iter().rev() {
            let Ok(report) = serde_json::from_value::<Report>(about["report"].clone()) else {
                continue;
            };
            // The switch of a resize has a journal of its own.
            if report.resize.is_some() {
                continue;
            }
            let Some(pause) = report.pause_ms else { continue };
            if past.last.is_none()
                && let Some(began) = about["began_ms"].as_u64()
            {
                past.last =
                    Some((format!("{} to `{}`", report.operation, report.to), UnixMs(began)));
            }
            if report.operation != "failover" && past.pauses.len() < PAUSES {
                past.pauses.push(pause);
            }
        }
        past
    }
}

fn age(at: UnixMs) -> std::time::Duration {
    std::time::Duration::from_millis(UnixMs::now().0.saturating_sub(at.0))
}

/// Whether the last switch is long enough ago.
pub(super) fn interval(past: &Past, limits: &Guards) -> Verdict {
    let Some((what, at)) = &past.last else {
        return Verdict::of("interval", Vec::new(), "no switch is journaled");
    };
    let ago = age(*at);
    let least = limits.min_interval.duration();
    let problem = (ago < least).then(|| {
        format!(
            "the last one ({what}) began {:.0} s ago, and there must be {} between two (min-interval)",
            ago.as_secs_f64(),
            limits.min_interval
        )
    });
    let well = format!("the last one ({what}) began {:.0} s ago", ago.as_secs_f64());
    Verdict::of("interval", problem.into_iter().collect(), well)
}

/// Whether there is a snapshot to fall back to.
pub(super) fn snapshot(view: &ServiceView, limits: &Guards) -> Verdict {
    let sealed = view.notes.get(SNAPSHOT_SEALED).filter(|note| note.good);
    let proven = view.notes.get(SNAPSHOT_PROVEN).filter(|note| note.good);
    let says = |what: &str, at: UnixMs| format!("{what} {:.0} s ago", age(at).as_secs_f64());
    let known: Vec<_> = [("sealed", sealed), ("proven", proven)]
        .into_iter()
        .filter_map(|(what, note)| Some(says(what, note?.at)))
        .collect();
    let well = match known.is_empty() {
        true => "none is known here".to_owned(),
        false => known.join(", "),
    };
    let problem = limits.max_snapshot_age.and_then(|oldest| {
        let fresh = sealed.is_some_and(|note| age(note.at) <= oldest.duration());
        (!fresh).then(|| {
            format!("{well}, and one not older than {oldest} is wanted (max-snapshot-age)")
        })
    });
    Verdict::of("snapshot", problem.into_iter().collect(), well)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_last_pauses_are_read_from_the_journals() {
        let switch = |n: u64, operation: &str, pause: Option<f64>| {
            let report = json!({"operation": operation, "to": "b", "pause_ms": pause});
            (format!("{n}"), json!({"began_ms": n, "report": report}))
        };
        let mut journals: Vec<_> =
            (0..9).map(|n| switch(n, "switchover", Some(n as f64))).collect();
        journals.push(switch(9, "failover", Some(900.0)));
        journals.push(switch(10, "switchover", None));
        journals.push(("11".to_owned(), json!({"state": "running"})));
        let past = Past::of(&journals);
        assert_eq!(past.pauses, [8.0, 7.0, 6.0, 5.0, 4.0]);
        assert_eq!(past.last, Some(("failover to `b`".to_owned(), UnixMs(9))));
        assert!(Past::of(&[]).last.is_none());
    }
}
