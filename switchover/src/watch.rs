//! `status --watch`: a live table on a terminal, a line each time elsewhere.

use std::io::{IsTerminal as _, Write as _, stdout};

use ops::exit::Exit;
use ops::units::Span;
use topology::record::UnixMs;
use topology::{Record, ServiceView};

use crate::args::Output;
use crate::plan::active;
use crate::status;
use crate::time::utc;
use crate::tool::Tool;

/// To the upper left corner, and nothing below it (ECMA-48: CUP, ED).
const CLEAR: &str = "\x1b[H\x1b[J";

/// The worst of all streams and the number of members, in one line.
fn line(view: &ServiceView, record: &Record) -> String {
    let streams: Vec<_> = view
        .sidecars
        .iter()
        .flat_map(|(shard, sidecar)| sidecar.streams.iter().map(move |s| (shard, s)))
        .collect();
    let lag = streams.iter().filter_map(|(_, (_, s))| s.lag_ms).max();
    let bytes: u64 = streams.iter().map(|(_, (_, s))| s.behind_bytes).sum();
    let records: u64 = streams
        .iter()
        .filter_map(|(source, (target, s))| {
            status::behind(view, source, &target.parse().ok()?, s.applied)
        })
        .sum();
    let streaming = streams.iter().filter(|(_, (_, s))| s.state == "streaming").count();
    let routed = view.proxies.values().filter(|p| p.epoch == record.epoch).count();
    format!(
        "{} active={}{} epoch={} state={} nodes={}/{} streams={streaming}/{} lag_ms={} unapplied={records} unstaged_bytes={bytes} proxies={routed}/{}",
        utc(UnixMs::now().0),
        active(record),
        if record.active().is_none() { " split" } else { "" },
        record.epoch,
        if record.freeze().is_some() { "frozen" } else { "steady" },
        view.nodes.len(),
        record.shards().count(),
        streams.len(),
        lag.map_or("-".to_owned(), |ms| ms.to_string()),
        view.proxies.len()
    )
}

/// Shows the service each time, until `count` times are over or the person has seen enough.
pub(crate) async fn watch(tool: &Tool, every: Span, count: Option<u64>) -> anyhow::Result<Exit> {
    let mut left = count.unwrap_or(u64::MAX);
    let terminal = stdout().is_terminal();
    while left > 0 {
        let (view, record, revision) = tool.view()?;
        let shown = match tool.output {
            Output::Json => {
                serde_json::to_string(&status::json(tool.service.name(), &view, &record, revision))?
            }
            Output::Text if terminal => {
                format!("{CLEAR}{}\n{}", utc(UnixMs::now().0), status::text(&view, &record))
            }
            Output::Text => line(&view, &record),
        };
        // A reader that has gone has seen enough.
        if writeln!(stdout(), "{shown}").and_then(|()| stdout().flush()).is_err() {
            break;
        }
        left -= 1;
        if left == 0 {
            break;
        }
        tokio::select! {
            () = tokio::time::sleep(every.duration()) => {}
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    Ok(Exit::Done)
}
