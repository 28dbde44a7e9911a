//! `registry repair`: mends what a check found and what is safe to mend, each by a commit that fails
//! if the key has changed since.

use std::fmt::Write as _;

use ops::exit::Exit;
use serde::Serialize;
use serde_json::json;
use topology::service::Cancelled;
use topology::{Expect, FreezeId, Outcome, Registry, Write};

use super::check::{Finding, Looked, Mend};
use crate::claim::Patience;
use crate::journal::Journal;
use crate::tool::Tool;

#[derive(Serialize)]
struct Repaired {
    operation: &'static str,
    done: Vec<Line>,
    left: Vec<Line>,
    exit: u8,
}

#[derive(Serialize)]
struct Line {
    key: String,
    what: String,
}

pub(super) async fn repair(tool: &Tool, yes: bool) -> anyhow::Result<Exit> {
    let findings = Looked::at(tool).await?.findings();
    let (safe, left): (Vec<_>, Vec<_>) = findings.into_iter().partition(|f| f.mend.is_some());
    let left: Vec<_> = left
        .into_iter()
        .map(|f| Line { key: f.key, what: format!("{}. {}", f.wrong, f.advice) })
        .collect();
    if tool.dry_run || !yes && !safe.is_empty() {
        let exit = if tool.dry_run { Exit::Done } else { Exit::Refused };
        let would = safe.iter().map(|f| Line { key: f.key.clone(), what: says(f) }).collect();
        return result(tool, "would be done (say --yes)", would, left, exit);
    }
    if safe.is_empty() {
        let exit = if left.is_empty() { Exit::Done } else { Exit::Failed };
        return result(tool, "done", Vec::new(), left, exit);
    }
    let mending = mend_all(tool, safe, left);
    tool.claimed("registry repair", Patience::None, Box::pin(mending)).await
}

async fn mend_all(tool: &Tool, safe: Vec<Finding>, left: Vec<Line>) -> anyhow::Result<Exit> {
    let about = json!({
        "operation": "registry repair",
        "findings": safe.iter().map(|f| json!({"key": f.key, "wrong": f.wrong})).collect::<Vec<_>>(),
    });
    let id = FreezeId(rand::random());
    let mut journal = Journal::begin(tool, id, about).await?;
    let (mut done, mut failed) = (Vec::new(), left);
    for finding in &safe {
        let mended = mend(tool, finding).await;
        let detail = json!({"key": finding.key, "outcome": format!("{mended:?}")});
        journal.note("mend", detail, true).await;
        match mended {
            Ok(what) => done.push(Line { key: finding.key.clone(), what }),
            Err(why) => failed.push(Line { key: finding.key.clone(), what: why.to_string() }),
        }
    }
    let exit = if failed.is_empty() { Exit::Done } else { Exit::Failed };
    journal.end(if failed.is_empty() { "done" } else { "failed" }, json!(null)).await;
    result(tool, "done", done, failed, exit)
}

/// What mending it would do.
fn says(finding: &Finding) -> String {
    match &finding.mend {
        Some(Mend::Cancel(freeze)) => format!("end the freeze {freeze}"),
        Some(Mend::Delete(revision)) => {
            format!("delete it, if it still has revision {}", revision.0)
        }
        Some(Mend::Close(closed)) => format!("write down that it was {}", closed["state"]),
        Some(Mend::Raise(next, _)) => format!("write epoch {}: {}", next.epoch, finding.advice),
        None => finding.advice.clone(),
    }
}

async fn mend(tool: &Tool, finding: &Finding) -> anyhow::Result<String> {
    let changed = || anyhow::anyhow!("it has changed meanwhile; nothing was done, check again");
    let service = &tool.service;
    match &finding.mend {
        Some(Mend::Cancel(freeze)) => match service.cancel(*freeze).await? {
            Cancelled::Ended(now) => Ok(format!("the freeze is over, at epoch {}", now.epoch)),
            Cancelled::WasOver(now) => Ok(format!("it was over already, at epoch {}", now.epoch)),
        },
        Some(Mend::Delete(revision)) => {
            let key = format!("services/{}/{}", service.name(), finding.key);
            let expect = Expect { key: key.clone(), revision: Some(*revision), value: None };
            let delete = Write { key, value: None, ttl: None };
            match service.registry().commit(&[expect], &[delete]).await? {
                Outcome::Committed(_) => Ok("deleted".to_owned()),
                Outcome::Conflict => Err(changed()),
            }
        }
        Some(Mend::Close(closed)) => {
            let op = finding.key.trim_start_matches("journal/");
            service.put_journal(op, closed).await?;
            Ok(says(finding))
        }
        Some(Mend::Raise(next, revision)) => match service.swap_record(*revision, next).await? {
            Outcome::Committed(_) => Ok(format!("the record is at epoch {}", next.epoch)),
            Outcome::Conflict => Err(changed()),
        },
        None => Ok(String::new()),
    }
}

fn result(
    tool: &Tool,
    title: &str,
    done: Vec<Line>,
    left: Vec<Line>,
    exit: Exit,
) -> anyhow::Result<Exit> {
    let mut text = String::new();
    for (title, lines) in [(title, &done), ("left for you", &left)] {
        if !lines.is_empty() {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{title}:");
        }
        for line in lines {
            let _ = writeln!(text, "  {}: {}", line.key, line.what);
        }
    }
    if text.is_empty() {
        text.push_str("nothing to repair\n");
    }
    tool.result(&text, &Repaired { operation: "registry repair", done, left, exit: exit.code() })?;
    Ok(exit)
}
