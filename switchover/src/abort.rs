//! `abort`: ends a freeze before its commit, and takes a resize back that has not committed.

use ops::exit::{Exit, Stop};
use serde_json::json;
use topology::Record;
use topology::record::Freeze;
use topology::service::Cancelled;

use crate::journal::Journal;
use crate::operation::was_committed;
use crate::plan::active;
use crate::resize::{self, Open};
use crate::tool::Tool;

/// `abort`. It needs no claim: whoever is at the operation finds its commit refused.
pub(crate) async fn abort(tool: &Tool) -> anyhow::Result<Exit> {
    let (_, record, _) = tool.view()?;
    let resizing = Open::find(tool).await?;
    let Some(freeze) = record.freeze() else {
        return match resizing {
            None => said(tool, "no freeze is under way; nothing was changed", &record),
            Some(open) => said(tool, &resize::undo(tool, open, &record).await?, &record),
        };
    };
    let resizing = resizing.filter(|open| open.task.to == freeze.to);
    if tool.dry_run {
        let text = format!(
            "would end the freeze {} to `{}`: {} stays active, and takes epoch {}",
            freeze.id,
            freeze.to,
            active(&record),
            record.epoch.next()
        );
        return said(tool, &text, &record);
    }
    match tool.service.cancel(freeze.id).await? {
        Cancelled::Ended(now) => {
            note(tool, freeze).await;
            let mut text = format!(
                "the freeze is over: {} is active at epoch {}, nothing is lost, and writes go on",
                active(&now),
                now.epoch
            );
            if let Some(open) = resizing {
                text = format!("{text}; {}", resize::undo(tool, open, &now).await?);
            }
            said(tool, &text, &now)
        }
        Cancelled::WasOver(now) if was_committed(&now, freeze.id) => Err(Stop::new(
            Exit::Refused,
            format!(
                "it was committed before: {} is active at epoch {}, and there is only forward. `resume` sees it through; `failback` goes back",
                active(&now),
                now.epoch
            ),
        )
        .into()),
        Cancelled::WasOver(now) => {
            let text = format!(
                "the freeze was over already: {} is active at epoch {}",
                active(&now),
                now.epoch
            );
            said(tool, &text, &now)
        }
    }
}

/// Who ended it and why, in the operation's own journal.
async fn note(tool: &Tool, freeze: &Freeze) {
    let about = Journal::held(&tool.service, freeze.id).await.unwrap_or_default();
    match Journal::resume(tool, freeze.id, about).await {
        Ok(mut journal) => {
            let detail = tool.signed(json!({}));
            journal.note("abort", detail, false).await;
            journal.end("rolled-back", json!("aborted")).await;
        }
        Err(why) => {
            tracing::warn!("the freeze is over, and the journal does not say who ended it: {why}")
        }
    }
}

fn said(tool: &Tool, text: &str, record: &Record) -> anyhow::Result<Exit> {
    let json = json!({"operation": "abort", "message": text, "epoch": record.epoch, "exit": 0});
    tool.result(text, &json).map(|()| Exit::Done)
}
