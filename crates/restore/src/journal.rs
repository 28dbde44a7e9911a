//! How far a restore is, for the next try.

use std::fs;
use std::path::Path;

use anyhow::{Context, anyhow};
use ops::exit::{Exit, Stop};
use serde::{Deserialize, Serialize};
use wal::Position;

use crate::place;

/// The file.
const FILE: &str = "restore.json";
/// Its format.
const FORMAT: u32 = 2;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Asked {
    /// The id of the repository.
    pub repository: String,
    /// Of what in it: an archive or a snapshot.
    pub of: String,
    /// Which moment or part of that, as people say it.
    pub what: String,
}

/// What is being restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Journal {
    format: u32,
    asked: Asked,
    /// The checkpoint that it begins with.
    base: String,
    /// Where it ends.
    end: Position,
    phase: Phase,
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Fetching the checkpoint's files.
    Files,
    /// Applying the log.
    Log,
}

impl Journal {
    /// What was begun in a node's directory.
    ///
    /// # Errors
    /// Its journal cannot be read, so that is not known.
    pub fn read(to: &Path) -> anyhow::Result<Option<Self>> {
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

    /// Where it ends, if what is asked for is what was begun.
    ///
    /// # Errors
    /// Refused: it is something else.
    pub fn resumes(&self, asked: &Asked, to: &Path) -> anyhow::Result<Position> {
        if self.asked == *asked {
            return Ok(self.end);
        }
        let refusal = format!(
            "{} holds an unfinished restore of {} ({}): ask for the same to finish it, or give another directory",
            to.display(),
            self.asked.of,
            self.asked.what
        );
        Err(Stop::new(Exit::Refused, refusal).into())
    }

    /// Notes in the directory, which exists, that this was begun.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn begin(to: &Path, asked: Asked, base: String, end: Position) -> anyhow::Result<Self> {
        let journal = Self { format: FORMAT, asked, base, end, phase: Phase::Files };
        journal.write(to).map(|()| journal)
    }

    /// The checkpoint that was begun with.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// What is being done.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Notes what is done from here on.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn enter(&mut self, to: &Path, phase: Phase) -> anyhow::Result<()> {
        self.phase = phase;
        self.write(to)
    }

    /// Notes that all is done.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn end(to: &Path) -> anyhow::Result<()> {
        let path = to.join(FILE);
        fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))
    }

    fn write(&self, to: &Path) -> anyhow::Result<()> {
        let (path, new) = (to.join(FILE), to.join(format!("{FILE}.new")));
        let bytes = serde_json::to_vec_pretty(self)?;
        let written = || -> std::io::Result<()> {
            fs::write(&new, &bytes)?;
            fs::File::open(&new)?.sync_all()?;
            fs::rename(&new, &path)
        };
        written().with_context(|| format!("writing {}", path.display()))?;
        place::sync(to)
    }
}
