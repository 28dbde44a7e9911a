//! Deleting what nothing leads to, in two phases: marked in one run, deleted by one that comes the
//! time of grace later and still finds nothing that leads there. Safe beside whoever pushes and
//! restores meanwhile: see `docs/formats.md`, "Deletion".

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::archive::{Mark, Record};
use super::chain::Chain;
use super::header::{self, unix_ms};
use super::lock::{self, Process};
use super::snapshots::{Snapshots, manifest_name};
use super::{Archive, ArchiveName, Repository};
use crate::StoreError;
use crate::bucket::Put;

const MARKS: &str = "gc/marks";
/// The most bytes of the marks: a million names.
const MARKS_BYTES_MAX: u64 = 256 << 20;
const LEASE_BYTES_MAX: u64 = 4 << 10;
/// How long a run may take; one that takes longer ends by itself.
const LEASE_MS: u64 = 3600 * 1000;
/// What is still being written after so long, nobody writes any more.
const UNFINISHED_MAX: Duration = Duration::from_secs(3600);
/// Clocks of two who delete may differ by this.
const SKEW_MS: u64 = 300 * 1000;

/// What may be deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Marks {
    format: u32,
    pub(super) generation: u64,
    pub(super) names: Vec<(String, u64)>,
}

impl Marks {
    pub(super) async fn read(repository: &Repository) -> Result<Self, StoreError> {
        let found = repository.text::<Self>(MARKS, MARKS_BYTES_MAX).await?;
        Ok(found.map(|(marks, _)| marks).unwrap_or_default())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Lease {
    holder: String,
    until: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    process: Option<Process>,
}

impl Lease {
    fn is_over(&self) -> bool {
        self.until + SKEW_MS <= unix_ms() || self.process.as_ref().is_some_and(Process::is_gone)
    }
}

/// What a run found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Swept {
    /// Objects that are needed, or too new to judge.
    pub live: u64,
    /// Objects that nothing leads to, marked now.
    pub marked: u64,
    /// Objects that were marked before and wait for the time of grace.
    pub waiting: u64,
    /// Objects that were deleted.
    pub deleted: u64,
    /// Their bytes.
    pub deleted_bytes: u64,
}

impl Repository {
    /// Marks what nothing leads to, and deletes what was marked long enough ago. `holder` says who does
    /// it, for people; a `dry` run changes nothing.
    ///
    /// # Errors
    /// Another run is under way, a manifest cannot be read (nothing is deleted then), or the store
    /// failed.
    pub async fn sweep(&self, holder: &str, dry: bool) -> Result<Swept, StoreError> {
        let mut marks = Marks::read(self).await?;
        let until = match dry {
            true => u64::MAX,
            false => {
                let (generation, until) = self.lease(holder, marks.generation + 1).await?;
                // Another run may have ended since.
                marks = Marks { generation, ..Marks::read(self).await? };
                until
            }
        };
        if !dry {
            self.bucket.tidy(UNFINISHED_MAX).await?;
        }
        let listed = self.bucket.list("").await?;
        // What is pushed from here on is not in the list, so it is not judged.
        let mut live = self.live(listed.iter().map(|object| object.name.as_str())).await?;
        live.names.insert(lease_name(marks.generation));
        let before: BTreeMap<_, _> = marks.names.iter().cloned().collect();
        let (now, grace_ms) = (unix_ms(), self.header.grace_seconds.saturating_mul(1000));
        let (mut swept, mut names) = (Swept::default(), Vec::new());
        for object in listed {
            if live.holds(&object.name) {
                swept.live += 1;
                continue;
            }
            match before.get(&object.name) {
                Some(at) if at.saturating_add(grace_ms) <= now => {
                    if !dry {
                        if unix_ms() > until {
                            return Err(busy("this run took longer than its lease; run it again"));
                        }
                        self.bucket.delete(&object.name).await?;
                    }
                    swept.deleted += 1;
                    swept.deleted_bytes += object.size;
                }
                Some(at) => {
                    swept.waiting += 1;
                    names.push((object.name, *at));
                }
                None => {
                    swept.marked += 1;
                    names.push((object.name, now));
                }
            }
        }
        if !dry {
            let marks = Marks { format: 1, generation: marks.generation, names };
            self.replace_text(MARKS, &marks).await?;
        }
        Ok(swept)
    }

    async fn lease(&self, holder: &str, first: u64) -> Result<(u64, u64), StoreError> {
        for generation in first.. {
            let name = lease_name(generation);
            let until = unix_ms() + LEASE_MS;
            let process = Process::current();
            let lease = Lease { holder: holder.to_owned(), until, process };
            let (put, _) = self.put_text(&name, &lease).await?;
            if put == Put::New {
                return Ok((generation, until - SKEW_MS));
            }
            let held = self.text::<Lease>(&name, LEASE_BYTES_MAX).await?;
            if let Some((held, _)) = held.filter(|(held, _)| !held.is_over())
                && !self.is_over(generation).await?
            {
                let seconds = (held.until + SKEW_MS).saturating_sub(unix_ms()) / 1000;
                return Err(busy(&format!(
                    "{} deletes already, or died doing it: try again in {seconds} seconds",
                    held.holder
                )));
            }
        }
        unreachable!("there are more numbers than leases")
    }

    /// Whether the run of that generation has written its marks.
    async fn is_over(&self, generation: u64) -> Result<bool, StoreError> {
        Ok(Marks::read(self).await?.generation >= generation)
    }

    /// Everything that counts leads to these.
    async fn live<'a>(&self, names: impl Iterator<Item = &'a str>) -> Result<Live, StoreError> {
        let mut live = Live::default();
        live.names.insert(header::NAME.to_owned());
        live.names.insert(MARKS.to_owned());
        let (mut archives, mut locks) = (BTreeSet::new(), BTreeSet::new());
        for name in names {
            archives.extend(ArchiveName::of(name));
            let rest = name.strip_prefix(lock::DIR).and_then(|rest| rest.strip_prefix('/'));
            locks.extend(rest.and_then(|rest| rest.split_once('/')).map(|(lock, _)| lock));
        }
        for name in locks {
            let dir = format!("{}/{name}", lock::DIR);
            let (chain, _) = Chain::<serde_json::Value>::tail(self, &dir).await?;
            live.chains.push((dir, 0, chain.next()));
        }
        for name in archives {
            let archive = Archive::open(self, &name).await?;
            let (page, next, marks) = archive.pages();
            live.chains.push((format!("{}/chain", name.dir()), page, next));
            live.chains.push((format!("{}/marks", name.dir()), 0, marks));
            for (_, record) in archive.records() {
                match record {
                    Record::Segment(segment) => {
                        live.names.insert(segment.name(&name));
                    }
                    Record::Fork(_) => {}
                    Record::Base(base) => {
                        live.names.insert(archive.manifest_name(&base.id));
                        let manifest = archive.manifest(base).await?;
                        live.names.extend(manifest.blobs().map(|blob| blob.name()));
                    }
                }
            }
        }
        let snapshots = Snapshots::open(self).await?;
        live.chains.push(("snapshots/chain".to_owned(), 0, snapshots.next()));
        for (snapshot, _) in snapshots.list() {
            for n in 0..snapshot.shards.len() {
                live.names.insert(manifest_name(&snapshot.id, n));
                let manifest = snapshots.manifest(snapshot, n).await?;
                live.names.extend(manifest.blobs().map(|blob| blob.name()));
            }
        }
        Ok(live)
    }
}

#[derive(Default)]
struct Live {
    names: BTreeSet<String>,
    /// Lists, the first record of each that counts, and the one that comes next.
    chains: Vec<(String, u64, u64)>,
}

impl Live {
    fn holds(&self, name: &str) -> bool {
        let page = |(dir, below, next): &(String, u64, u64)| {
            name.starts_with(dir.as_str()) && !Chain::<Mark>::superseded(dir, name, *below, *next)
        };
        self.names.contains(name) || self.chains.iter().any(page)
    }
}

fn lease_name(generation: u64) -> String {
    format!("gc/lease/{generation:016}")
}

fn busy(why: &str) -> StoreError {
    StoreError::Rejected { name: "deleting".to_owned(), why: why.to_owned() }
}
