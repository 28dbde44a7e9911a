//! One directory, from its first file to its last batch.

use std::fs;
use std::path::Path;

use anyhow::Context;
use keyspace::Hlc;
use ops::progress::Progress;
use store::repository::{FileEntry, Repository, Step};
use wal::Position;

use crate::journal::{Asked, Journal, Phase};
use crate::replay::{self, Segments};
use crate::{PARTIAL, adopt, files, place};

/// The database that is replaced; what a node calls it, too.
const OLD: &str = "db.old";

/// What is to be restored: all of it is known to be there.
pub struct Work<'a, L> {
    /// What was asked for.
    pub asked: Asked,
    /// Where it is.
    pub repository: &'a Repository,
    /// The name of the checkpoint.
    pub base: &'a str,
    /// Its files.
    pub files: &'a [FileEntry],
    /// Where it stands.
    pub position: Position,
    /// What gives the segments.
    pub log: &'a L,
    /// The segments after it, in order.
    pub steps: &'a [Step],
    /// No stamp in any of it is above this one.
    pub stamp: Hlc,
    /// The database that is there is replaced, and its table files are used again.
    pub onto: bool,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Batches of the log that were applied.
    pub batches: u64,
    /// Bytes of files that were there already.
    pub reused: u64,
}

impl<L: Segments> Work<'_, L> {
    /// Where it ends.
    pub fn end(&self) -> Position {
        self.steps.last().map_or(self.position, Step::end)
    }

    /// Makes `to` a node's directory, or goes on with what `held` says was begun there; what that took.
    ///
    /// # Errors
    /// The store or the disk failed, or something is damaged: asked again, it goes on where it was.
    pub async fn run(
        self,
        to: &Path,
        held: Option<Journal>,
        progress: &Progress,
    ) -> anyhow::Result<Done> {
        fs::create_dir_all(to).with_context(|| format!("making {}", to.display()))?;
        let partial = to.join(PARTIAL);
        let behind = held.as_ref().is_some_and(|journal| journal.phase() == Phase::Log);
        let (mut done, db) = (Done::default(), to.join("db"));
        // A try that was cut short behind the rename has only its journal left.
        if !behind || partial.exists() || !db.exists() {
            let mut journal = self.begun(to, held)?;
            progress.expect(self.steps.iter().map(|step| step.segment.bytes).sum());
            if journal.phase() == Phase::Files {
                progress.expect(self.files.iter().map(|file| file.size).sum());
                let beside = Some(db.as_path()).filter(|db| self.onto && db.exists());
                let (repository, files) = (self.repository, self.files);
                done.reused =
                    files::fetch_beside(repository, files, &partial, beside, progress).await?;
                journal.enter(to, Phase::Log)?;
            }
            done.batches =
                replay::segments(self.log, self.position, self.steps, &partial, progress).await?;
            adopt::write(&partial, self.stamp)?;
            swap(to, &partial, &db, self.onto)?;
        }
        place::remove(&to.join(OLD))?;
        Journal::end(to)?;
        place::sync(to)?;
        Ok(done)
    }

    fn begun(&self, to: &Path, held: Option<Journal>) -> anyhow::Result<Journal> {
        let partial = to.join(PARTIAL);
        match held {
            Some(journal) if journal.base() == self.base => return Ok(journal),
            // Another checkpoint leads there by now: its log does not fit what was fetched.
            Some(_) if partial.exists() => fs::remove_dir_all(&partial)
                .with_context(|| format!("removing {}", partial.display()))?,
            _ => {}
        }
        Journal::begin(to, self.asked.clone(), self.base.to_owned(), self.end())
    }
}

/// Puts what was restored in its place. Cut short between the two renames, it goes on when it is asked
/// again; a node that comes first puts the old one back.
fn swap(to: &Path, partial: &Path, db: &Path, onto: bool) -> anyhow::Result<()> {
    let renaming = || format!("renaming {}", partial.display());
    if onto && db.exists() {
        place::remove(&to.join(OLD))?;
        fs::rename(db, to.join(OLD)).with_context(renaming)?;
        place::sync(to)?;
    }
    fs::rename(partial, db).with_context(renaming)?;
    place::sync(to)
}
