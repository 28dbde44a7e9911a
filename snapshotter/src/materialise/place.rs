//! Where materialised snapshots are: `DIR/<service>/<cluster>-<n>/<snapshot>/`, each with a database `db` and
//! a [`Record`]. What begins with a dot is not whole, or is being removed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use ops::exit::{Exit, Stop};
use restore::place;
use store::SnapshotId;
use store::bucket::BucketAddress;
use topology::ShardName;
use topology::record::is_name;

use super::Record;

/// What the names of directories begin with that are not whole yet.
const PARTIAL: &str = ".partial-";
/// And of those that are being removed.
const GONE: &str = ".gone-";
/// Only one at a time changes what is there.
const LOCK: &str = "LOCK";

/// A directory of materialised snapshots.
#[derive(Clone, Debug)]
pub struct Place {
    root: PathBuf,
}

/// A shard of a snapshot that is materialised.
#[derive(Clone, Debug)]
pub struct Materialised {
    /// Its directory.
    pub dir: PathBuf,
    /// What it is.
    pub record: Record,
}

impl Materialised {
    /// Its database.
    pub fn db(&self) -> PathBuf {
        self.dir.join("db")
    }
}

impl Place {
    /// At this directory; beside the repository if none is given.
    ///
    /// # Errors
    /// There is no beside: the repository is no directory.
    pub fn new(given: Option<&Path>, repository: &BucketAddress) -> anyhow::Result<Self> {
        let found =
            given.map(|root| Self { root: root.to_owned() }).or_else(|| Self::beside(repository));
        found.with_context(|| {
            format!("{repository} is no directory: say with --materialised where snapshots are materialised")
        })
    }

    /// `<repository>.materialised`, if the repository is a directory.
    pub fn beside(repository: &BucketAddress) -> Option<Self> {
        let BucketAddress::Directory(dir) = repository else { return None };
        let mut name = dir.file_name()?.to_owned();
        name.push(".materialised");
        Some(Self { root: dir.with_file_name(name) })
    }

    /// At this directory.
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where one shard of a snapshot is, or would be.
    ///
    /// # Errors
    /// The service's name is none, so it names no directory.
    pub(super) fn dir_of(
        &self,
        service: &str,
        shard: &ShardName,
        id: &SnapshotId,
    ) -> anyhow::Result<PathBuf> {
        Ok(self.home(service, shard)?.join(id.as_str()))
    }

    /// Where it is while it is made.
    pub(super) fn partial(dir: &Path) -> PathBuf {
        renamed(dir, PARTIAL)
    }

    fn home(&self, service: &str, shard: &ShardName) -> anyhow::Result<PathBuf> {
        if !is_name(service) || !is_name(&shard.cluster) {
            bail!("{shard} of service `{service}` is no name for a directory");
        }
        Ok(self.root.join(service).join(format!("{}-{}", shard.cluster, shard.shard)))
    }

    /// All that is there and whole, oldest first. What cannot be read is passed over, and said.
    ///
    /// # Errors
    /// A directory cannot be listed.
    pub fn list(&self) -> anyhow::Result<Vec<Materialised>> {
        let mut all = Vec::new();
        for service in entries(&self.root)? {
            for home in entries(&service)? {
                all.extend(entries(&home)?.into_iter().filter_map(read));
            }
        }
        all.sort_by_key(|one| (one.record.sealed_at, one.record.snapshot.clone()));
        Ok(all)
    }

    /// Those of one shard, oldest first.
    ///
    /// # Errors
    /// As [`Place::list`].
    pub fn list_of(&self, service: &str, shard: &ShardName) -> anyhow::Result<Vec<Materialised>> {
        let mut all: Vec<_> =
            entries(&self.home(service, shard)?)?.into_iter().filter_map(read).collect();
        all.sort_by_key(|one| (one.record.sealed_at, one.record.snapshot.clone()));
        Ok(all)
    }

    /// Takes the lock of all that is there, so that nobody else changes it while this lives.
    ///
    /// # Errors
    /// Another has it: refused.
    pub(super) fn lock(&self) -> anyhow::Result<File> {
        let root = &self.root;
        fs::create_dir_all(root).with_context(|| format!("making {}", root.display()))?;
        let path = root.join(LOCK);
        let opened = File::options().write(true).create(true).truncate(false).open(&path);
        let file = opened.with_context(|| format!("opening {}", path.display()))?;
        file.try_lock().map_err(|why| {
            let refusal = format!(
                "another run materialises in {} now ({why}): ask again when it is done",
                root.display()
            );
            Stop::new(Exit::Refused, refusal)
        })?;
        Ok(file)
    }

    /// Removes what runs that died have left of a shard.
    ///
    /// # Errors
    /// The disk failed.
    pub(super) fn clean(&self, service: &str, shard: &ShardName) -> anyhow::Result<()> {
        for path in listed(&self.home(service, shard)?)? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with(PARTIAL) || name.starts_with(GONE) {
                tracing::info!("removing {}, which was not finished", path.display());
                place::remove(&path)?;
            }
        }
        Ok(())
    }

    /// Removes one of them: it is not there any more before its files go.
    ///
    /// # Errors
    /// The disk failed.
    pub(super) fn remove(one: &Materialised) -> anyhow::Result<()> {
        let gone = renamed(&one.dir, GONE);
        place::remove(&gone)?;
        fs::rename(&one.dir, &gone).with_context(|| format!("removing {}", one.dir.display()))?;
        place::remove(&gone)
    }
}

fn renamed(dir: &Path, prefix: &str) -> PathBuf {
    let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    dir.with_file_name(format!("{prefix}{name}"))
}

fn read(dir: PathBuf) -> Option<Materialised> {
    match Record::read(&dir) {
        Ok(record) => Some(Materialised { dir, record }),
        Err(why) => {
            tracing::warn!("{why:#}: it is passed over");
            None
        }
    }
}

/// The directories in a directory that are whole; none if it is not there.
fn entries(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut all = listed(dir)?;
    all.retain(|path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| !name.starts_with('.')) && path.is_dir()
    });
    Ok(all)
}

fn listed(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(why) => return Err(why).with_context(|| format!("listing {}", dir.display())),
    };
    entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .with_context(|| format!("listing {}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::*;

    #[test]
    fn what_is_whole_is_listed_oldest_first_and_what_is_not_is_cleaned_up() {
        let scratch = tempfile::tempdir().unwrap();
        let place = Place::at(scratch.path());
        assert!(place.list().unwrap().is_empty());
        let shard: ShardName = "a/0".parse().unwrap();
        for (id, sealed_at) in [("two", 2), ("one", 1)] {
            let dir = place.dir_of("demo", &shard, &id.parse().unwrap()).unwrap();
            fs::create_dir_all(&dir).unwrap();
            record(id, "a/0", sealed_at).write(&dir).unwrap();
        }
        let home = place.home("demo", &shard).unwrap();
        fs::create_dir_all(home.join("not-a-record")).unwrap();
        fs::create_dir_all(home.join(".partial-three/db")).unwrap();
        let ids = |all: Vec<Materialised>| -> Vec<String> {
            all.iter().map(|one| one.record.snapshot.to_string()).collect()
        };
        assert_eq!(ids(place.list().unwrap()), ["one", "two"]);
        place.clean("demo", &shard).unwrap();
        assert!(!home.join(".partial-three").exists() && home.join("not-a-record").exists());
        Place::remove(&place.list().unwrap()[0]).unwrap();
        assert_eq!(ids(place.list_of("demo", &shard).unwrap()), ["two"]);
        assert!(place.dir_of("../x", &shard, &"one".parse().unwrap()).is_err());
    }

    #[test]
    fn it_is_beside_a_repository_that_is_a_directory() {
        let beside = |text: &str| Place::beside(&text.parse().unwrap()).map(|place| place.root);
        assert_eq!(beside("/srv/godwit"), Some("/srv/godwit.materialised".into()));
        assert_eq!(beside("s3://bucket/godwit"), None);
    }

    #[test]
    fn one_at_a_time_changes_it() {
        let scratch = tempfile::tempdir().unwrap();
        let place = Place::at(scratch.path());
        let held = place.lock().unwrap();
        assert_eq!(ops::exit::of(&place.lock().unwrap_err()), Exit::Refused);
        drop(held);
        place.lock().unwrap();
    }
}
