//! Snapshots: sealed sets of manifests.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Manifest, ObjectId, SnapshotId, Store, StoreError, files};

/// The most shards of a snapshot: no cluster has more shards than slots.
const SHARDS_MAX: usize = keyspace::SLOTS as usize;
/// The most bytes of a seal or a verification.
const SEAL_BYTES_MAX: u64 = 16 << 20;

/// One manifest of a snapshot, by hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SealedShard {
    /// The shard, written `a/0`.
    pub shard: String,
    /// The hash of the manifest's bytes.
    pub manifest: ObjectId,
    /// The bytes of the shard's files.
    pub bytes: u64,
}

/// A sealed snapshot: what a snapshot is, and the hash of each of its manifests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Snapshot {
    /// The format of this file: 1.
    pub format: u32,
    /// Its id.
    pub id: SnapshotId,
    /// The service.
    pub service: String,
    /// The cluster whose shards these are.
    pub cluster: String,
    /// When it was sealed: milliseconds since 1970, UTC.
    pub sealed_at: u64,
    /// Its shards, by number: the n-th has its manifest in `shard-<n>.json`.
    pub shards: Vec<SealedShard>,
}

impl Snapshot {
    /// The format that this version writes.
    pub const FORMAT: u32 = 1;

    /// The bytes of all its files.
    pub fn bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.bytes).sum()
    }
}

/// `snapshot.json`: the snapshot, and the hash of its text.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Seal {
    snapshot: Snapshot,
    checksum: ObjectId,
}

/// `verified.json`: of which seal every object was read back.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Mark {
    format: u32,
    checksum: ObjectId,
    verified_at: u64,
}

/// What is known of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Complete when it was written.
    Sealed,
    /// And every object of it has been read back since and compared.
    Verified,
}

/// One line of a listing.
#[derive(Debug)]
pub struct Listed {
    /// The name of its directory.
    pub id: String,
    /// The snapshot and what is known of it, or why it cannot be read.
    pub snapshot: Result<(Snapshot, State), StoreError>,
}

impl Store {
    /// Writes the manifests and then the seal. Every object must have been stored before.
    ///
    /// # Errors
    /// A manifest cannot be right, names an object that is not there, or the disk failed; the
    /// snapshot does not exist then.
    pub fn seal(
        &self,
        id: &SnapshotId,
        service: &str,
        cluster: &str,
        sealed_at: u64,
        manifests: &[Manifest],
    ) -> Result<Snapshot, StoreError> {
        let dir = self.snapshot_dir(id);
        let reject = |why| StoreError::Rejected { name: format!("snapshot {id}"), why };
        if manifests.is_empty() || manifests.len() > SHARDS_MAX {
            return Err(reject(format!("it has {} shards", manifests.len())));
        }
        if dir.exists() {
            return Err(reject("there is one of that name".to_owned()));
        }
        for manifest in manifests {
            manifest.validate().map_err(&reject)?;
            for file in &manifest.files {
                if self.stored_size(&file.blake3) != Some(file.stored) {
                    return Err(reject(format!("the object of {} is not in the store", file.name)));
                }
            }
        }
        files::make_dir(&dir)?;
        let mut shards = Vec::with_capacity(manifests.len());
        for (n, manifest) in manifests.iter().enumerate() {
            let text = json(manifest);
            files::write(&self.tmp(), &dir.join(manifest_name(n)), &text)?;
            shards.push(SealedShard {
                shard: manifest.shard.clone(),
                manifest: ObjectId::of(&text),
                bytes: manifest.bytes(),
            });
        }
        let snapshot = Snapshot {
            format: Snapshot::FORMAT,
            id: id.clone(),
            service: service.to_owned(),
            cluster: cluster.to_owned(),
            sealed_at,
            shards,
        };
        let seal = Seal { checksum: checksum(&snapshot), snapshot: snapshot.clone() };
        files::write(&self.tmp(), &dir.join("snapshot.json"), &json(&seal))?;
        Ok(snapshot)
    }

    /// A sealed snapshot and what is known of it.
    ///
    /// # Errors
    /// There is none of that id, or its seal is damaged.
    pub fn snapshot(&self, id: &SnapshotId) -> Result<(Snapshot, State), StoreError> {
        let path = self.snapshot_dir(id).join("snapshot.json");
        let bytes = files::read(&path, SEAL_BYTES_MAX)?.ok_or_else(|| StoreError::NoSnapshot {
            id: id.to_string(),
            path: self.path().to_path_buf(),
        })?;
        let seal: Seal = parse(&path, &bytes)?;
        if seal.snapshot.format != Snapshot::FORMAT {
            return Err(StoreError::damaged(
                &path,
                format!("it has format {}, and this version knows 1", seal.snapshot.format),
            ));
        }
        if checksum(&seal.snapshot) != seal.checksum || seal.snapshot.id != *id {
            return Err(StoreError::damaged(&path, "its checksum does not match what it says"));
        }
        let mark = self.snapshot_dir(id).join("verified.json");
        let verified = match files::read(&mark, SEAL_BYTES_MAX)? {
            // A mark that cannot be read proves nothing; the seal stands all the same.
            Some(bytes) => parse::<Mark>(&mark, &bytes).is_ok_and(|m| m.checksum == seal.checksum),
            None => false,
        };
        Ok((seal.snapshot, if verified { State::Verified } else { State::Sealed }))
    }

    /// The manifest of the n-th shard of a snapshot.
    ///
    /// # Errors
    /// It is missing or is not the one that was sealed.
    pub fn manifest(&self, snapshot: &Snapshot, n: usize) -> Result<Manifest, StoreError> {
        let path = self.snapshot_dir(&snapshot.id).join(manifest_name(n));
        let bytes = files::read(&path, Manifest::BYTES_MAX)?
            .ok_or_else(|| StoreError::damaged(&path, "the manifest is missing"))?;
        if snapshot.shards.get(n).map(|shard| shard.manifest) != Some(ObjectId::of(&bytes)) {
            return Err(StoreError::damaged(&path, "it is not the manifest that was sealed"));
        }
        let manifest: Manifest = parse(&path, &bytes)?;
        manifest.validate().map_err(|why| StoreError::damaged(&path, why))?;
        Ok(manifest)
    }

    /// Every sealed snapshot, in the order they were sealed. What was never sealed is not there.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn list(&self) -> Result<Vec<Listed>, StoreError> {
        let dir = self.snapshots();
        let mut listed = Vec::new();
        for entry in fs::read_dir(&dir).map_err(StoreError::io("list", &dir))? {
            let entry = entry.map_err(StoreError::io("list", &dir))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let Ok(id) = name.parse::<SnapshotId>() else { continue };
            match self.snapshot(&id) {
                Err(StoreError::NoSnapshot { .. }) => {}
                snapshot => listed.push(Listed { id: name, snapshot }),
            }
        }
        // Those that cannot be read come first: the last one is the newest that can.
        listed.sort_by_key(|one| {
            (one.snapshot.as_ref().ok().map(|(snapshot, _)| snapshot.sealed_at), one.id.clone())
        });
        Ok(listed)
    }

    /// Records that every object of this snapshot was read back, or takes the record back.
    pub(crate) fn mark(
        &self,
        snapshot: &Snapshot,
        verified_at: Option<u64>,
    ) -> Result<(), StoreError> {
        let path = self.snapshot_dir(&snapshot.id).join("verified.json");
        match verified_at {
            Some(verified_at) => {
                let mark = Mark { format: 1, checksum: checksum(snapshot), verified_at };
                files::write(&self.tmp(), &path, &json(&mark))
            }
            None => match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(StoreError::io("remove", &path)(error))
                }
                _ => Ok(()),
            },
        }
    }
}

fn manifest_name(n: usize) -> String {
    format!("shard-{n}.json")
}

/// The hash of the snapshot's JSON without spaces, in the order of its fields.
fn checksum(snapshot: &Snapshot) -> ObjectId {
    ObjectId::of(&serde_json::to_vec(snapshot).expect("a snapshot is plain JSON"))
}

fn json(value: &impl Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(value).expect("these types are plain JSON");
    text.push(b'\n');
    text
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(|error| StoreError::damaged(path, error.to_string()))
}
