//! `list`: the sealed snapshots of a store.

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use ops::exit::Exit;
use serde::Serialize;
use store::{Address, State, Store};

use crate::cli::Output;
use crate::report;

/// One snapshot of a listing.
#[derive(Debug, Serialize)]
struct Line {
    snapshot: String,
    state: Option<State>,
    service: Option<String>,
    cluster: Option<String>,
    shards: usize,
    bytes: u64,
    sealed_at: Option<String>,
    damage: Option<String>,
}

/// Lists them.
///
/// # Errors
/// The store cannot be used.
pub fn run(from: &Address, output: Output) -> anyhow::Result<Exit> {
    let store = Store::open(from)?;
    let mut lines = Vec::new();
    for listed in store.list()? {
        lines.push(match listed.snapshot {
            Ok((snapshot, state)) => Line {
                snapshot: listed.id,
                state: Some(state),
                shards: snapshot.shards.len(),
                bytes: snapshot.bytes(),
                sealed_at: Some(time(snapshot.sealed_at)),
                service: Some(snapshot.service),
                cluster: Some(snapshot.cluster),
                damage: None,
            },
            Err(error) => Line {
                snapshot: listed.id,
                state: None,
                service: None,
                cluster: None,
                shards: 0,
                bytes: 0,
                sealed_at: None,
                damage: Some(error.to_string()),
            },
        });
    }
    report::print(output, &table(&lines), &serde_json::json!({ "snapshots": lines }));
    Ok(Exit::Done)
}

fn table(lines: &[Line]) -> String {
    if lines.is_empty() {
        return "no sealed snapshots".to_owned();
    }
    let mut text = format!(
        "{:<26} {:<9} {:<12} {:<9} {:>6} {:>11}",
        "SNAPSHOT", "STATE", "SERVICE", "CLUSTER", "SHARDS", "SIZE"
    );
    for line in lines {
        let result = match &line.damage {
            Some(damage) => write!(text, "\n{:<26} DAMAGED   {damage}", line.snapshot),
            None => write!(
                text,
                "\n{:<26} {:<9} {:<12} {:<9} {:>6} {:>11}",
                line.snapshot,
                if line.state == Some(State::Verified) { "verified" } else { "sealed" },
                line.service.as_deref().unwrap_or_default(),
                line.cluster.as_deref().unwrap_or_default(),
                line.shards,
                report::size(line.bytes),
            ),
        };
        result.expect("writing to a string");
    }
    text
}

fn time(unix_ms: u64) -> String {
    // A seal may say any number: what is beyond a calendar is shown as its end.
    let at = Duration::from_millis(unix_ms.min(253_402_300_799_000));
    humantime::format_rfc3339_seconds(UNIX_EPOCH + at).to_string()
}
