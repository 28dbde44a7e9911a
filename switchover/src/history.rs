//! `history` and `report`: what was done, from the journals of the registry and of this machine.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Context;
use ops::exit::{Exit, Stop};
use serde::Serialize;
use serde_json::{Value, json};
use topology::operator::Actor;

use crate::page;
use crate::report::Report;
use crate::table::aligned;
use crate::time::utc;
use crate::tool::Tool;

/// More than a journal of this machine has, in bytes; a longer one is not read.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// As many journals of this machine are looked at, the newest.
const FILES_MAX: usize = 1000;
/// As many digits of an operation's id are enough for a person.
const SHORT: usize = 8;

/// One operation.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Entry {
    /// Its id: the freeze's, or a drill's own.
    pub(crate) id: String,
    /// What it was.
    pub(crate) operation: String,
    pub(crate) from: String,
    pub(crate) to: String,
    /// `running`, or how it ended.
    pub(crate) state: String,
    /// When it began, in milliseconds since 1970.
    pub(crate) began_ms: u64,
    pub(crate) by: Option<Actor>,
    pub(crate) reason: Option<String>,
    pub(crate) pause_ms: Option<f64>,
    /// All that its journal holds.
    #[serde(skip)]
    pub(crate) about: Value,
}

impl Entry {
    fn of(id: &str, about: Value) -> Self {
        let text = |name: &str| about[name].as_str().unwrap_or("?").to_owned();
        Self {
            id: id.to_owned(),
            operation: text("operation"),
            from: text("from"),
            to: text("to"),
            state: text("state"),
            began_ms: about["began_ms"].as_u64().unwrap_or(0),
            by: serde_json::from_value(about["by"].clone()).ok(),
            reason: about["reason"].as_str().map(str::to_owned),
            pause_ms: about["report"]["pause_ms"].as_f64(),
            about,
        }
    }
}

/// A journal of this machine: what it began with, and how it ended as far as it says.
fn from_file(text: &str) -> Option<Value> {
    let entries = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let entries: Vec<_> = entries.collect();
    let mut about = entries.iter().find_map(|e| {
        let about = &e["detail"]["about"];
        about.is_object().then(|| about.clone())
    })?;
    let steps = entries.iter().map(|e| json!({"step": e["step"], "at_ms": e["at_ms"]}));
    about["steps"] = steps.collect();
    // The last entry of an operation that ended holds its report, under the name of its outcome.
    let report = entries.iter().rev().find(|e| e["detail"]["outcome"].is_string());
    if let Some(report) = report {
        about["state"] = report["step"].clone();
        about["report"] = report["detail"].clone();
    }
    Some(about)
}

fn files(tool: &Tool) -> Vec<(String, PathBuf)> {
    let prefix = format!("{}-", tool.service.name());
    let Ok(listed) = std::fs::read_dir(&tool.config.journal) else { return Vec::new() };
    let mut found: Vec<_> = listed
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name().into_string().ok()?;
            let id = name.strip_prefix(&prefix)?.strip_suffix(".jsonl")?.to_owned();
            let meta = entry.metadata().ok().filter(|m| m.len() <= FILE_BYTES_MAX)?;
            // A name of another service may begin alike: ids are hexadecimal.
            let is_id = id.bytes().all(|b| b.is_ascii_hexdigit());
            is_id.then_some((meta.modified().ok()?, id, entry.path()))
        })
        .collect();
    found.sort();
    let skip = found.len().saturating_sub(FILES_MAX);
    found.into_iter().skip(skip).map(|(_, id, path)| (id, path)).collect()
}

/// All operations that are known, the oldest first. The registry's word goes before a file's: who
/// resumed an operation elsewhere wrote there.
pub(crate) async fn entries(tool: &Tool) -> anyhow::Result<Vec<Entry>> {
    let mut found = BTreeMap::new();
    for (id, path) in files(tool) {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        if let Some(about) = from_file(&text) {
            found.insert(id, about);
        }
    }
    found.extend(tool.service.journals().await?);
    let mut entries: Vec<_> = found.into_iter().map(|(id, about)| Entry::of(&id, about)).collect();
    entries.sort_by_key(|e| e.began_ms);
    Ok(entries)
}

/// `history`.
pub(crate) async fn history(tool: &Tool) -> anyhow::Result<Exit> {
    let entries = entries(tool).await?;
    let mut rows =
        vec![["began", "id", "operation", "from", "to", "ended", "pause", "by"].map(str::to_owned)];
    for e in &entries {
        let by = e.by.as_ref().map_or("?".to_owned(), |by| format!("{}@{}", by.user, by.host));
        rows.push([
            utc(e.began_ms),
            e.id.chars().take(SHORT).collect(),
            e.operation.clone(),
            e.from.clone(),
            e.to.clone(),
            e.state.clone(),
            e.pause_ms.map_or("-".to_owned(), |ms| format!("{ms} ms")),
            match &e.reason {
                Some(reason) => format!("{by}: {reason}"),
                None => by,
            },
        ]);
    }
    let json = json!({"operation": "history", "entries": entries, "exit": 0});
    tool.result(&aligned(&rows), &json)?;
    Ok(Exit::Done)
}

/// `report`: one operation, as text, as JSON, or as a page.
pub(crate) async fn report(tool: &Tool, id: &str, html: Option<&PathBuf>) -> anyhow::Result<Exit> {
    let entries = entries(tool).await?;
    let last = id == "last";
    let found: Vec<_> = entries.iter().filter(|e| last || e.id.starts_with(id)).collect();
    let entry = match found[..] {
        [] => {
            let why = format!("no operation `{id}` is journaled; see `history` for those that are");
            return Err(Stop::new(Exit::Usage, why).into());
        }
        [.., newest] if last => newest,
        [one] => one,
        _ => {
            let why =
                format!("`{id}` begins the ids of {} operations: say more of it", found.len());
            return Err(Stop::new(Exit::Usage, why).into());
        }
    };
    let report: Option<Report> = serde_json::from_value(entry.about["report"].clone()).ok();
    let report = report.filter(|r| !r.operation.is_empty());
    if let Some(path) = html {
        let Some(report) = &report else {
            let why = format!("operation {} has no report yet (it is {})", entry.id, entry.state);
            return Err(Stop::new(Exit::Failed, why).into());
        };
        std::fs::write(path, page::of(tool.service.name(), entry, report))
            .with_context(|| format!("writing the page {}", path.display()))?;
        let says = format!("wrote {}", path.display());
        let json = json!({"operation": "report", "file": path, "exit": 0});
        return tool.result(&says, &json).map(|()| Exit::Done);
    }
    let mut text = match &report {
        Some(report) => report.text(),
        None => format!("{} {} -> {}: {}", entry.operation, entry.from, entry.to, entry.state),
    };
    let _ =
        write!(text, "\n  {:<14} {}\n  {:<14} {}", "id", entry.id, "began", utc(entry.began_ms));
    for step in entry.about["steps"].as_array().into_iter().flatten() {
        let at = step["at_ms"].as_u64().unwrap_or(entry.began_ms);
        let _ = write!(
            text,
            "\n  {:<14} {} after {} ms",
            "journal",
            step["step"].as_str().unwrap_or("?"),
            at.saturating_sub(entry.began_ms)
        );
    }
    tool.result(
        &text,
        &json!({"operation": "report", "id": entry.id, "journal": entry.about, "exit": 0}),
    )?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_of_this_machine_tells_how_it_ended() {
        let text = [
            r#"{"step":"begin","at_ms":10,"detail":{"about":{"operation":"switchover","state":"running","began_ms":10}}}"#,
            r#"{"step":"freeze","at_ms":12,"detail":{"ms":2.0}}"#,
            r#"{"step":"done","at_ms":20,"detail":{"outcome":"done","pause_ms":7.5}}"#,
            "torn",
        ]
        .join("\n");
        let entry = Entry::of("ab", from_file(&text).unwrap());
        assert_eq!((entry.state.as_str(), entry.pause_ms, entry.began_ms), ("done", Some(7.5), 10));
        assert_eq!(entry.about["steps"].as_array().unwrap().len(), 3);
        let running = text.lines().take(2).collect::<Vec<_>>().join("\n");
        assert_eq!(Entry::of("ab", from_file(&running).unwrap()).state, "running");
        assert!(from_file("nothing").is_none());
    }
}
