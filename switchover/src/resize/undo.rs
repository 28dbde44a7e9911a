//! `abort` of a resize: before COMMIT the cluster that it added leaves the record again.

use ops::exit::{Exit, Stop};
use serde_json::json;
use topology::Record;

use super::task::Open;
use crate::clusters::drop_cluster;
use crate::journal::Journal;
use crate::tool::Tool;

/// What an abort would come to, or why it is too late.
pub(crate) fn would(open: &Open, record: &Record) -> Result<String, Stop> {
    let task = &open.task;
    if record.primaries.iter().any(|primary| primary.cluster == task.to) {
        return Err(Stop::new(
            Exit::Refused,
            format!(
                "the resize to `{}` is committed, and there is only forward; nothing was changed. `resume` sees it through; `failback` goes back",
                task.to
            ),
        ));
    }
    Ok(match task.was_there {
        true => format!("the resize ends; cluster `{}` was there before and follows on", task.to),
        false => format!("the resize ends; cluster `{}` leaves the service again", task.to),
    })
}

/// Takes a resize back that has not committed; what was done, in a sentence.
pub(crate) async fn undo(tool: &Tool, open: Open, record: &Record) -> anyhow::Result<String> {
    let mut text = would(&open, record)?;
    if tool.dry_run {
        return Ok(format!("would be done: {text}"));
    }
    if !open.task.was_there {
        // A tool that is still at it, and just froze the service, wins: then this is refused.
        drop_cluster(tool, &open.task.to).await?;
        text.push_str(
            ": what was kept for it is let go of, and what it received stays on its disks",
        );
    }
    let about = open.about.clone();
    match Journal::resume(tool, open.id, about).await {
        Ok(mut journal) => {
            journal.note("abort", tool.signed(json!({})), false).await;
            journal.end("rolled-back", json!("aborted")).await;
        }
        Err(why) => {
            tracing::warn!("the resize is taken back, and its journal does not say so: {why}");
        }
    }
    Ok(text)
}
