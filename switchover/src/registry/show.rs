//! `registry show`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ops::exit::Exit;
use serde::Serialize;
use serde_json::Value;
use topology::Registry;

use crate::tool::Tool;

#[derive(Serialize)]
struct Shown {
    operation: &'static str,
    /// The registry's revision when this was read.
    revision: u64,
    keys: BTreeMap<String, Key>,
    exit: u8,
}

#[derive(Serialize)]
struct Key {
    revision: u64,
    bytes: usize,
    /// Its JSON, or its text where it is none.
    value: Value,
}

pub(super) async fn show(tool: &Tool, all: bool) -> anyhow::Result<Exit> {
    let prefix = if all { String::new() } else { format!("services/{}/", tool.service.name()) };
    let view = tool.service.registry().list(&prefix).await?;
    let key = |held: topology::Versioned| Key {
        revision: held.revision.0,
        bytes: held.value.len(),
        value: serde_json::from_slice(&held.value)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&held.value).into_owned())),
    };
    let shown = Shown {
        operation: "registry show",
        revision: view.revision.0,
        keys: view.keys.into_iter().map(|(name, held)| (name, key(held))).collect(),
        exit: Exit::Done.code(),
    };
    let mut text = format!("registry at revision {}, {} keys\n", shown.revision, shown.keys.len());
    for (name, key) in &shown.keys {
        // Writing to a string does not fail.
        let _ = writeln!(text, "\n{name}   revision {}, {} bytes", key.revision, key.bytes);
        let value = serde_json::to_string_pretty(&key.value).unwrap_or_default();
        for line in value.lines() {
            let _ = writeln!(text, "  {line}");
        }
    }
    tool.result(&text, &shown)?;
    Ok(Exit::Done)
}
