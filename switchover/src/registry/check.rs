//! `registry check`: what cannot be right, and what mends it.

mod keys;
mod record;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ops::exit::Exit;
use serde::Serialize;
use serde_json::Value;
use topology::members::NodeMember;
use topology::record::UnixMs;
use topology::{FreezeId, Record, Registry, Revision, Versioned};

use crate::tool::Tool;

/// Something that cannot be right.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Finding {
    /// The key that it is about, without the service's prefix.
    pub(crate) key: String,
    /// What is wrong.
    pub(crate) wrong: String,
    /// What to do.
    pub(crate) advice: String,
    /// What `repair` does about it; nothing, where that would be a guess.
    #[serde(skip)]
    pub(crate) mend: Option<Mend>,
}

/// What `repair` can do.
#[derive(Clone, Debug)]
pub(crate) enum Mend {
    /// End a freeze that is past its deadline, as any member would.
    Cancel(FreezeId),
    /// Delete a key that nobody renews, if it still has this revision.
    Delete(Revision),
    /// Write how an operation ended into its journal.
    Close(Value),
    /// Write a record that goes on from what the nodes know.
    Raise(Box<Record>, Revision),
}

#[derive(Serialize)]
struct Checked<'a> {
    operation: &'static str,
    revision: u64,
    keys: usize,
    findings: &'a [Finding],
    exit: u8,
}

pub(super) async fn check(tool: &Tool) -> anyhow::Result<Exit> {
    let looked = Looked::at(tool).await?;
    let findings = looked.findings();
    let exit = if findings.is_empty() { Exit::Done } else { Exit::Failed };
    let mut text = format!(
        "{} keys at revision {}: {}\n",
        looked.keys.len(),
        looked.revision.0,
        if findings.is_empty() { "nothing is wrong" } else { "WRONG" }
    );
    for finding in &findings {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {}: {}\n    {}", finding.key, finding.wrong, finding.advice);
    }
    let json = Checked {
        operation: "registry check",
        revision: looked.revision.0,
        keys: looked.keys.len(),
        findings: &findings,
        exit: exit.code(),
    };
    tool.result(&text, &json)?;
    Ok(exit)
}

/// The keys of the service at one revision.
pub(super) struct Looked {
    service: String,
    now: u64,
    revision: Revision,
    /// By name, without the service's prefix.
    keys: BTreeMap<String, Versioned>,
    nodes: Vec<NodeMember>,
}

impl Looked {
    pub(super) async fn at(tool: &Tool) -> anyhow::Result<Self> {
        let prefix = format!("services/{}/", tool.service.name());
        let view = tool.service.registry().list(&prefix).await?;
        let name = |key: String| key.strip_prefix(&prefix).map(str::to_owned).unwrap_or(key);
        let keys: BTreeMap<_, _> = view.keys.into_iter().map(|(k, v)| (name(k), v)).collect();
        let nodes = keys.iter().filter(|(name, _)| name.ends_with("/node"));
        let nodes = nodes.filter_map(|(_, held)| serde_json::from_slice(&held.value).ok());
        Ok(Self {
            service: tool.service.name().to_owned(),
            now: UnixMs::now().0,
            revision: view.revision,
            nodes: nodes.collect(),
            keys,
        })
    }

    pub(super) fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        match self.record() {
            Ok((record, revision)) => {
                findings.extend(self.set_back(&record, revision));
                findings.extend(self.overdue(&record));
                findings.extend(self.members(&record));
                findings.extend(self.journals(&record));
            }
            Err(finding) => findings.push(*finding),
        }
        findings.extend(self.stale());
        findings
    }
}
