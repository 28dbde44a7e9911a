//! How far a restore is, for the next try.

use std::fs;
use std::path::Path;

use anyhow::{Context, anyhow};
use ops::exit::{Exit, Stop};
use serde::{Deserialize, Serialize};
use store::repository::{Archive, Plan, Target};
use wal::Position;

use super::Wanted;

/// The file.
const FILE: &str = "restore.json";
/// Its format.
const FORMAT: u32 = 1;

/// What is being restored.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Journal {
    format: u32,
    /// Of which repository and shard.
    repository: String,
    archive: String,
    /// What was asked for, as text.
    asked: String,
    /// What that came to.
    base: String,
    end: Position,
    pub(super) phase: Phase,
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Phase {
    /// Fetching the checkpoint's files.
    Files,
    /// Applying the log.
    Log,
}

impl Journal {
    pub(super) fn read(to: &Path) -> anyhow::Result<Option<Self>> {
        let path = to.join(FILE);
        match fs::read(&path) {
            Ok(bytes) => {
                let read =
                    serde_json::from_slice::<Self>(&bytes).ok().filter(|j| j.format == FORMAT);
                let refusal = || {
                    anyhow!(
                        "{} cannot be read, so it is not known what was begun there: remove the directory and \
                         begin again",
                        path.display()
                    )
                };
                read.ok_or_else(refusal).map(Some)
            }
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(why) => Err(why).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// What to go on with, if what is asked for is what was begun.
    pub(super) fn resumes(&self, archive: &Archive, wanted: &Wanted) -> anyhow::Result<Target> {
        let same = self.repository == archive.repository().header().id
            && self.archive == archive.name().to_string()
            && self.asked == said(wanted.target);
        if same {
            return Ok(Target::Position(self.end));
        }
        let refusal = format!(
            "{} holds an unfinished restore of {} ({}): ask for the same to finish it, or give another directory",
            wanted.to.display(),
            self.archive,
            self.asked
        );
        Err(Stop::new(Exit::Refused, refusal).into())
    }

    pub(super) fn begin(archive: &Archive, wanted: &Wanted, plan: &Plan) -> anyhow::Result<Self> {
        let journal = Self {
            format: FORMAT,
            repository: archive.repository().header().id.clone(),
            archive: archive.name().to_string(),
            asked: said(wanted.target),
            base: plan.base.id.clone(),
            end: plan.end(),
            phase: Phase::Files,
        };
        journal.write(&wanted.to).map(|()| journal)
    }

    pub(super) fn enter(&mut self, to: &Path, phase: Phase) -> anyhow::Result<()> {
        self.phase = phase;
        self.write(to)
    }

    pub(super) fn end(to: &Path) -> anyhow::Result<()> {
        let path = to.join(FILE);
        fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))
    }

    fn write(&self, to: &Path) -> anyhow::Result<()> {
        let (path, new) = (to.join(FILE), to.join(format!("{FILE}.new")));
        let bytes = serde_json::to_vec_pretty(self)?;
        let written = || -> std::io::Result<()> {
            fs::write(&new, &bytes)?;
            fs::File::open(&new)?.sync_all()?;
            fs::rename(&new, &path)?;
            fs::File::open(to)?.sync_all()
        };
        written().with_context(|| format!("writing {}", path.display()))
    }
}

fn said(target: Target) -> String {
    match target {
        Target::Latest => "all there is".to_owned(),
        Target::At(ms) => {
            format!("--at {}", store::repository::plan::time(keyspace::Hlc::new(ms, 0)))
        }
        Target::Position(position) => format!("--position {position}"),
    }
}
