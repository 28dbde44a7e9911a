//! A checkpoint of which only some table files are there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use ops::progress::Progress;
use restore::{files, replay};
use store::repository::{FileEntry, Repository};

use crate::content::Content;

/// A directory with holes.
pub(super) struct Sparse<'a> {
    repository: &'a Repository,
    content: &'a Content,
    dir: PathBuf,
    progress: &'a Progress,
    there: BTreeSet<String>,
    fetched: u64,
}

/// A table file that is a hole so far is marked by a file of this name beside it.
const HOLE: &str = ".hole";

/// Whether a table file of that directory is a hole.
pub(super) fn is_hole(dir: &Path, name: &str) -> bool {
    dir.join(format!("{name}{HOLE}")).exists()
}

fn is_table(file: &FileEntry) -> bool {
    file.name.as_str().ends_with(files::TABLE)
}

impl<'a> Sparse<'a> {
    /// Fetches all but the table files, and applies the log.
    pub(super) async fn lay_out(
        repository: &'a Repository,
        content: &'a Content,
        dir: &Path,
        progress: &'a Progress,
    ) -> anyhow::Result<Self> {
        let manifest = &content.manifest;
        let small: Vec<_> = manifest.files.iter().filter(|f| !is_table(f)).cloned().collect();
        files::fetch_all(repository, &small, dir, progress).await?;
        let mut sparse = Self {
            repository,
            content,
            dir: dir.to_owned(),
            progress,
            there: BTreeSet::new(),
            fetched: small.iter().map(|file| file.size).sum(),
        };
        for file in manifest.files.iter().filter(|file| is_table(file)) {
            let (path, mark) = sparse.paths(file.name.as_str());
            let made = fs::File::create_new(&path).and_then(|hole| hole.set_len(file.size));
            made.and_then(|()| fs::write(&mark, b""))
                .with_context(|| format!("making {}", path.display()))?;
        }
        without_compactions(dir)?;
        let steps = content.steps();
        while let Err(error) =
            replay::segments(&content.log, manifest.position, &steps, dir, progress).await
        {
            // It wants some files to open at all: those that it names.
            let lacks = sparse.named(&format!("{error:#}"));
            if lacks.is_empty() {
                return Err(error);
            }
            sparse.fetch(&lacks).await?;
        }
        sparse.fetched += manifest.log_bytes();
        Ok(sparse)
    }

    /// Bytes that were fetched so far.
    pub(super) fn fetched(&self) -> u64 {
        self.fetched
    }

    /// Table files that a text names, and that are not there.
    fn named(&self, text: &str) -> Vec<String> {
        let tables = self.content.manifest.files.iter().filter(|file| is_table(file));
        let names = tables.map(|file| file.name.as_str());
        names
            .filter(|name| !self.there.contains(*name) && text.contains(*name))
            .map(str::to_owned)
            .collect()
    }

    /// Fetches table files of these names; one at least that was not there.
    pub(super) async fn fetch(&mut self, names: &[String]) -> anyhow::Result<()> {
        for name in names {
            let entry = self.content.manifest.files.iter().find(|f| f.name.as_str() == name);
            let Some(entry) = entry.filter(|_| self.there.insert(name.clone())) else {
                bail!("the database wants the file {name}, which its manifest does not name");
            };
            let (path, mark) = self.paths(name);
            fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
            files::fetch(self.repository, entry, &path, self.progress).await?;
            fs::remove_file(&mark).with_context(|| format!("removing {}", mark.display()))?;
            self.fetched += entry.size;
        }
        Ok(())
    }

    fn paths(&self, name: &str) -> (PathBuf, PathBuf) {
        (self.dir.join(name), self.dir.join(format!("{name}{HOLE}")))
    }
}

/// Nothing may read a hole for a reason of its own: in the options that the database was last opened
/// with, compactions are turned off.
fn without_compactions(dir: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("listing {}", dir.display()))? {
        let entry = entry.with_context(|| format!("listing {}", dir.display()))?;
        if !entry.file_name().to_string_lossy().starts_with("OPTIONS-") {
            continue;
        }
        let path = entry.path();
        let text =
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let text = text
            .replace("disable_auto_compactions=false", "disable_auto_compactions=true")
            .replace("skip_stats_update_on_db_open=false", "skip_stats_update_on_db_open=true");
        let lines =
            text.lines().map(|line| match line.trim_start().starts_with("max_open_files=") {
                // Not all table files are opened at once then.
                true => "  max_open_files=20".to_owned(),
                false => line.to_owned(),
            });
        let text = lines.collect::<Vec<_>>().join("\n") + "\n";
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}
