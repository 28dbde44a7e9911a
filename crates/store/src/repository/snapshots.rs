//! Snapshots: sealed sets of manifests, one for each shard of a cluster.

use std::collections::BTreeMap;

use keyspace::Hlc;
use serde::{Deserialize, Serialize};

use super::chain::Chain;
use super::text::damaged;
use super::{Manifest, Repository};
use crate::bucket::Put;
use crate::{ObjectId, SnapshotId, StoreError};

/// The list of them.
const DIR: &str = "snapshots/chain";
/// The most shards of a snapshot: no cluster has more shards than slots.
const SHARDS_MAX: usize = keyspace::SLOTS as usize;

/// One manifest of a snapshot, by hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SealedShard {
    /// The shard, written `a/0`.
    pub shard: String,
    /// The hash line of its manifest.
    pub manifest: ObjectId,
    /// The bytes of the shard's files and of the log that leads on from them.
    pub bytes: u64,
}

/// A sealed snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Snapshot {
    /// Its id.
    pub id: SnapshotId,
    /// The service.
    pub service: String,
    /// The cluster whose shards these are.
    pub cluster: String,
    /// When it was sealed: milliseconds since 1970, UTC.
    pub sealed_at: u64,
    /// Every batch up to this stamp is in it, and none above, on all shards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<Hlc>,
    /// Its shards, by number.
    pub shards: Vec<SealedShard>,
}

impl Snapshot {
    /// The bytes of all its files and of the logs that lead on from them.
    pub fn bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.bytes).sum()
    }
}

/// What is known of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Complete when it was written.
    Sealed,
    /// And every piece of it has been read back since and compared.
    Verified,
    /// And it was restored, opened and compared.
    Proven,
}

/// When it was found out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Known {
    /// When all of it was last read back and was good: milliseconds since 1970, UTC.
    pub verified_at: Option<u64>,
    /// When some of it was last found damaged, if all of it was not good since.
    pub damaged_at: Option<u64>,
    /// When it was last proven.
    pub proven_at: Option<u64>,
    /// How long a restore took then, in milliseconds.
    pub took_ms: Option<u64>,
}

/// What happened to snapshots, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Event {
    Sealed(Snapshot),
    Verified {
        id: SnapshotId,
        at: u64,
        good: bool,
    },
    #[serde(rename_all = "kebab-case")]
    Proven {
        id: SnapshotId,
        at: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        took_ms: Option<u64>,
    },
    Forgotten {
        id: SnapshotId,
        at: u64,
    },
}

/// The snapshots of a repository, opened: those that count, and a place to add to them.
#[derive(Debug)]
pub struct Snapshots {
    repository: Repository,
    chain: Chain<Event>,
    all: BTreeMap<SnapshotId, (Snapshot, State)>,
    known: BTreeMap<SnapshotId, Known>,
    /// In the order in which they were sealed.
    order: Vec<SnapshotId>,
}

impl Snapshots {
    /// Opens the list.
    ///
    /// # Errors
    /// The store failed, or what it holds is damaged.
    pub async fn open(repository: &Repository) -> Result<Self, StoreError> {
        let (chain, events) = Chain::open(repository, DIR, 0).await?;
        let mut snapshots = Self {
            repository: repository.clone(),
            chain,
            all: BTreeMap::new(),
            known: BTreeMap::new(),
            order: Vec::new(),
        };
        events.into_iter().for_each(|(_, event)| snapshots.take(event));
        Ok(snapshots)
    }

    fn take(&mut self, event: Event) {
        let state = |all: &mut BTreeMap<SnapshotId, (Snapshot, State)>, id: &_, state| {
            if let Some((_, held)) = all.get_mut(id) {
                *held = state;
            }
        };
        match &event {
            Event::Verified { id, at, good } => {
                let known = self.known.entry(id.clone()).or_default();
                known.verified_at = good.then_some(*at);
                known.damaged_at = (!good).then_some(*at);
            }
            Event::Proven { id, at, took_ms } => {
                let known = self.known.entry(id.clone()).or_default();
                (known.proven_at, known.took_ms) = (Some(*at), *took_ms);
                known.damaged_at = None;
            }
            Event::Sealed(_) | Event::Forgotten { .. } => {}
        }
        match event {
            Event::Sealed(snapshot) => {
                self.order.push(snapshot.id.clone());
                self.all.insert(snapshot.id.clone(), (snapshot, State::Sealed));
            }
            Event::Verified { id, good: true, .. } => state(&mut self.all, &id, State::Verified),
            Event::Verified { id, .. } => state(&mut self.all, &id, State::Sealed),
            Event::Proven { id, .. } => state(&mut self.all, &id, State::Proven),
            Event::Forgotten { id, .. } => {
                self.all.remove(&id);
                self.order.retain(|held| *held != id);
            }
        }
    }

    /// Those that count, in the order in which they were sealed.
    pub fn list(&self) -> impl DoubleEndedIterator<Item = &(Snapshot, State)> {
        self.order.iter().filter_map(|id| self.all.get(id))
    }

    /// The repository that they are in.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// When what is known of it was found out.
    pub fn known_of(&self, id: &SnapshotId) -> Known {
        self.known.get(id).copied().unwrap_or_default()
    }

    /// One of them.
    ///
    /// # Errors
    /// There is none of that id, or it was never sealed.
    pub fn get(&self, id: &SnapshotId) -> Result<&(Snapshot, State), StoreError> {
        self.all
            .get(id)
            .ok_or_else(|| StoreError::NoSnapshot { id: id.to_string(), path: "the store".into() })
    }

    /// Writes the manifests, all of whose pieces are stored, and then the record that makes them a
    /// snapshot.
    ///
    /// # Errors
    /// A manifest cannot be right, or the store failed; the snapshot does not exist then, unless the
    /// last answer alone was lost.
    pub async fn seal(
        &mut self,
        id: &SnapshotId,
        service: &str,
        cluster: &str,
        sealed_at: u64,
        manifests: &[Manifest],
    ) -> Result<Snapshot, StoreError> {
        let reject = |why| StoreError::Rejected { name: format!("snapshot {id}"), why };
        if manifests.is_empty() || manifests.len() > SHARDS_MAX {
            return Err(reject(format!("it has {} shards", manifests.len())));
        }
        let cut = manifests[0].cut;
        if manifests.iter().any(|manifest| manifest.cut != cut) {
            return Err(reject("its shards are not of one cut".to_owned()));
        }
        let mut shards = Vec::with_capacity(manifests.len());
        for (n, manifest) in manifests.iter().enumerate() {
            manifest.validate().map_err(reject)?;
            let name = manifest_name(id, n);
            let (put, line) = self.repository.put_text(&name, manifest).await?;
            if put == Put::Exists {
                return Err(reject("there is one of that name".to_owned()));
            }
            let bytes = manifest.bytes().saturating_add(manifest.log_bytes());
            let shard = manifest.shard.clone();
            shards.push(SealedShard { shard, manifest: line, bytes });
        }
        let snapshot = Snapshot {
            id: id.clone(),
            service: service.to_owned(),
            cluster: cluster.to_owned(),
            sealed_at,
            cut,
            shards,
        };
        self.add(Event::Sealed(snapshot.clone())).await?;
        Ok(snapshot)
    }

    async fn add(&mut self, event: Event) -> Result<(), StoreError> {
        // Several may push at once: who was overtaken adds behind the other.
        for _ in 0..ADD_TRIES {
            match self.chain.add(event.clone()).await {
                Ok(_) => {
                    self.take(event);
                    return Ok(());
                }
                Err(StoreError::Overtaken { .. }) => {
                    *self = Self::open(&self.repository.clone()).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Overtaken { name: DIR.to_owned() })
    }

    /// Records what reading all of it back has shown.
    ///
    /// # Errors
    /// The store failed.
    pub async fn verified(
        &mut self,
        id: &SnapshotId,
        at: u64,
        good: bool,
    ) -> Result<(), StoreError> {
        self.add(Event::Verified { id: id.clone(), at, good }).await
    }

    /// Records that it was restored, opened and compared, and how many milliseconds that took.
    ///
    /// # Errors
    /// The store failed.
    pub async fn proven(
        &mut self,
        id: &SnapshotId,
        at: u64,
        took_ms: u64,
    ) -> Result<(), StoreError> {
        self.add(Event::Proven { id: id.clone(), at, took_ms: Some(took_ms) }).await
    }

    /// Lets go of it.
    ///
    /// # Errors
    /// The store failed.
    pub async fn forget(&mut self, id: &SnapshotId, at: u64) -> Result<(), StoreError> {
        self.add(Event::Forgotten { id: id.clone(), at }).await
    }

    /// The manifest of the n-th shard of a snapshot.
    ///
    /// # Errors
    /// It is missing or is not the one that was sealed.
    pub async fn manifest(&self, snapshot: &Snapshot, n: usize) -> Result<Manifest, StoreError> {
        let name = manifest_name(&snapshot.id, n);
        let found = self.repository.text::<Manifest>(&name, Manifest::BYTES_MAX).await?;
        let (manifest, line) = found.ok_or_else(|| damaged(&name, "the manifest is missing"))?;
        if snapshot.shards.get(n).map(|shard| shard.manifest) != Some(line) {
            return Err(damaged(&name, "it is not the manifest that was sealed"));
        }
        manifest.validate().map_err(|why| damaged(&name, &why))?;
        Ok(manifest)
    }

    pub(super) fn next(&self) -> u64 {
        self.chain.next()
    }
}

/// Others may add as fast as we do; somebody always gets on.
const ADD_TRIES: usize = 16;

pub(super) fn manifest_name(id: &SnapshotId, n: usize) -> String {
    format!("snapshots/{id}/shard-{n}")
}
