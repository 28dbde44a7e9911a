//! What is being resized to what, as its journal keeps it for whoever resumes it.

use ops::exit::{Exit, Stop};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use topology::record::Cluster;
use topology::{Epoch, FreezeId, Record};

use crate::args;
use crate::plan::active;
use crate::resume::is_open;
use crate::shape;
use crate::tool::Tool;

/// What is being resized to what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Task {
    /// The cluster that was active.
    pub(crate) from: String,
    /// Its shards.
    pub(crate) shards_before: usize,
    /// The cluster that takes over.
    pub(crate) to: String,
    /// The epoch when it was asked for; the switch takes a later one.
    pub(crate) epoch: Epoch,
    /// Its shards.
    pub(crate) cluster: Cluster,
    /// Whether it was in the service before: then an abort leaves it there.
    pub(crate) was_there: bool,
    /// Whether the old cluster is removed in the end.
    pub(crate) retire: bool,
}

impl Task {
    /// What these arguments ask for.
    pub(crate) fn of(record: &Record, asked: &args::Resize) -> Result<Self, Stop> {
        let cluster = match asked.shards {
            Some(shards) => shape::of(record, shards),
            None => shape::with(asked.slots.clone()),
        };
        // As `cluster add` would, so that what cannot be is said before anything is looked at.
        let mut next = record.clone();
        let was_there = next.clusters.insert(asked.to.clone(), cluster.clone()).is_some();
        next.validate().map_err(|why| Stop::new(Exit::Usage, why))?;
        Ok(Self {
            from: active(record),
            shards_before: record.primaries.len(),
            to: asked.to.clone(),
            epoch: record.epoch,
            cluster,
            was_there,
            retire: asked.retire && !asked.keep,
        })
    }

    /// The record with the new cluster in it.
    pub(crate) fn added(&self, record: &Record) -> Record {
        let mut next = record.clone();
        next.clusters.entry(self.to.clone()).or_insert_with(|| self.cluster.clone());
        next
    }
}

/// A resize whose journal does not say that it has ended.
#[derive(Clone, Debug)]
pub(crate) struct Open {
    /// The name of its journal.
    pub(crate) id: FreezeId,
    /// What its journal in the registry holds.
    pub(crate) about: Value,
    /// What is being resized to what.
    pub(crate) task: Task,
}

impl Open {
    /// The one that is under way, if one is.
    pub(crate) async fn find(tool: &Tool) -> anyhow::Result<Option<Self>> {
        let journals = tool.service.journals().await?;
        let open = journals.into_iter().rev().find(|j| is_open(&j) && is_resize(&j.1));
        let Some((id, about)) = open else { return Ok(None) };
        let id =
            FreezeId::try_from(id).map_err(|why| anyhow::anyhow!("a journal's name: {why}"))?;
        let task = serde_json::from_value(about["task"].clone());
        let task = task.map_err(|why| {
            anyhow::anyhow!(
                "the journal of the resize {id} cannot be read ({why}): was it written by a newer version? Nothing was changed"
            )
        })?;
        Ok(Some(Self { id, about, task }))
    }

    /// That it is under way, and what to do about it.
    pub(crate) fn text(&self) -> String {
        format!(
            "a resize {} -> {} has not ended: `resume` goes on with it, `abort` takes it back before its commit",
            self.task.from, self.task.to
        )
    }

    /// Whether the new cluster was in the record at some moment.
    pub(crate) fn was_added(&self) -> bool {
        let mut steps = self.about["steps"].as_array().into_iter().flatten();
        steps.any(|step| step["step"] == "add")
    }
}

/// Whether a journal is one of a resize.
pub(crate) fn is_resize(about: &Value) -> bool {
    about["operation"] == super::NAME
}
