//! `status`: how streams are, and what the sidecars need before it is missing. All of it is in the
//! registry, so it is asked from anywhere.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use ops::exit::Exit;
use ops::units::{Size, Span};
use serde::Serialize;
use topology::members::{SidecarMember, StreamStatus};
use topology::{Record, ServiceView, ShardName};

use super::{Form, Of};
use crate::needs::sentence;

/// `status`
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    /// Only of this shard's sidecar, `a/0` [default: of all]
    #[arg(long, value_name = "SHARD")]
    shard: Option<ShardName>,
    #[command(flatten)]
    of: Of,
    #[command(flatten)]
    form: Form,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Status<'a> {
    operation: &'static str,
    service: &'a str,
    epoch: u64,
    sidecars: BTreeMap<String, &'a SidecarMember>,
    alarms: Vec<String>,
    exit: u8,
}

/// `status`.
pub(super) async fn status(args: StatusArgs) -> anyhow::Result<Exit> {
    let (view, record) = args.of.open().await?;
    let wanted = |shard: &ShardName| args.shard.as_ref().is_none_or(|only| only == shard);
    let alarms = alarms(&view, &record, wanted);
    let sidecars = view.sidecars.iter().filter(|(shard, _)| wanted(shard));
    let status = Status {
        operation: "status",
        service: &record.service,
        epoch: record.epoch.0,
        sidecars: sidecars.map(|(shard, member)| (shard.to_string(), member)).collect(),
        alarms,
        exit: Exit::Done.code(),
    };
    args.form.result(&text(&status), &status)?;
    Ok(Exit::Done)
}

/// What somebody should look at, in sentences.
fn alarms(view: &ServiceView, record: &Record, wanted: impl Fn(&ShardName) -> bool) -> Vec<String> {
    let mut alarms = Vec::new();
    for (shard, _) in record.shards().filter(|(shard, _)| wanted(shard)) {
        let Some(member) = view.sidecars.get(&shard) else {
            alarms.push(format!("{shard}: its sidecar is not in the registry: is it running?"));
            continue;
        };
        alarms.extend(
            member
                .needs
                .filter(|needs| needs.is_short())
                .map(|n| format!("{shard}: {}", sentence(&n))),
        );
        for (target, stream) in &member.streams {
            let of = format!("{shard} -> {target}");
            if let Some(reason) = &stream.reason {
                alarms.push(format!("{of}: {}: {reason}", stream.state));
            }
            if stream.peer.clock_alarm {
                alarms.push(format!("{of}: the clock there is {} : set the clocks", clock(stream)));
            }
        }
        for (source, status) in &member.receiving {
            alarms
                .extend(status.held.as_ref().map(|h| format!("{source} -> {shard}: {}", h.reason)));
        }
    }
    alarms
}

fn text(status: &Status<'_>) -> String {
    let ms = |ms| Span(Duration::from_millis(ms)).about();
    let dash = || "-".to_owned();
    let heads = |heads: &[&str]| heads.iter().map(|&head| head.to_owned()).collect::<Vec<_>>();
    let mut spools =
        vec![heads(&["sidecar", "log", "an outage of", "takes", "may take", "lasts", "a seed"])];
    let mut streams =
        vec![heads(&["stream", "state", "lag", "behind", "clock", "round trip", "to seed again"])];
    for (shard, member) in &status.sidecars {
        spools.push(match &member.needs {
            None => vec![shard.clone(), "not reckoned yet".to_owned()],
            Some(needs) => vec![
                shard.clone(),
                format!("{}/s", Size(needs.log_bytes_per_second).about()),
                ms(needs.outage_ms),
                Size(needs.spool_bytes).about(),
                Size(needs.spool_budget.min(needs.spool_room)).about(),
                needs.lasts_ms.map_or_else(dash, ms),
                Size(needs.seed_bytes).about(),
            ],
        });
        for (target, stream) in &member.streams {
            let seed = stream.peer.reseed_ms.zip(stream.peer.seed_rate);
            streams.push(vec![
                format!("{shard} -> {target}"),
                stream.state.clone(),
                stream.lag_ms.map_or_else(dash, ms),
                Size(stream.behind_bytes).about(),
                clock(stream),
                stream
                    .peer
                    .round_trip_us
                    .map_or_else(dash, |us| format!("{:.1}ms", us as f64 / 1e3)),
                seed.map_or_else(dash, |(time, rate)| {
                    format!("{} at {}/s", ms(time), Size(rate).about())
                }),
            ]);
        }
    }
    let mut text = format!("service {}   epoch {}\n", status.service, status.epoch);
    for table in [spools, streams] {
        text.push('\n');
        text.push_str(&aligned(&table));
    }
    for alarm in &status.alarms {
        text.push_str(&format!("\nALARM {alarm}\n"));
    }
    text
}

/// How far a target's clock is from its source's.
fn clock(stream: &StreamStatus) -> String {
    let ahead = stream.peer.clock_ahead_us;
    ahead.map_or("-".to_owned(), |us| format!("{:+.1}ms", us as f64 / 1e3))
}

fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}  "));
        format!("{}\n", cells.collect::<String>().trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let row = |cells: &[&str]| cells.iter().map(|&cell| cell.to_owned()).collect();
        let text = aligned(&[row(&["a", "bb", "c"]), row(&["aaa", "b"])]);
        assert_eq!(text, "a    bb  c\naaa  b\n");
    }
}
