//! What a shard of a snapshot consists of: files, and the log that leads on from them.

use std::collections::HashMap;

use anyhow::anyhow;
use keyspace::Hlc;
use ops::exit::{Exit, Stop};
use restore::Segments;
use store::repository::{
    ArchiveName, LogSegment, Manifest, Repository, Segment, Snapshot, Snapshots, Step, What,
};
use store::{ObjectId, StoreError};
use topology::ShardName;
use wal::Position;

/// A shard of a snapshot, with its manifest.
#[derive(Debug)]
pub struct Content {
    /// The manifest.
    pub manifest: Manifest,
    /// What gives the segments of its log.
    pub log: SnapshotLog,
}

/// The segments of a manifest.
#[derive(Debug)]
pub struct SnapshotLog {
    repository: Repository,
    name: ArchiveName,
    /// Of each segment's hash, the name of its blob.
    blobs: HashMap<ObjectId, String>,
}

impl Content {
    /// Reads the manifest of the n-th shard.
    ///
    /// # Errors
    /// It is missing or damaged, or is not of this snapshot.
    pub async fn open(
        repository: &Repository,
        snapshots: &Snapshots,
        snapshot: &Snapshot,
        n: usize,
    ) -> Result<Self, StoreError> {
        let manifest = snapshots.manifest(snapshot, n).await?;
        let damaged = |why: &str| StoreError::Damaged {
            path: format!("snapshots/{}/shard-{n}", snapshot.id).into(),
            why: why.to_owned(),
        };
        if manifest.service != snapshot.service || manifest.shard != snapshot.shards[n].shard {
            return Err(damaged("it is of another shard than the snapshot says"));
        }
        let shard = manifest.shard.parse::<ShardName>().ok();
        let name = shard.and_then(|s| ArchiveName::new(&manifest.service, &s.cluster, s.shard));
        let name = name.ok_or_else(|| damaged("it names no shard"))?;
        let blobs = manifest.log.iter().map(|segment| (segment.blake3, segment.name())).collect();
        let log = SnapshotLog { repository: repository.clone(), name, blobs };
        Ok(Self { manifest, log })
    }

    /// The segments that lead to its end.
    pub fn steps(&self) -> Vec<Step> {
        self.manifest.log.iter().map(whole).collect()
    }

    /// The segments that lead to a position, which may be inside of one.
    ///
    /// # Errors
    /// It is not between the files' position and the end.
    pub fn steps_to(&self, end: Position) -> anyhow::Result<Vec<Step>> {
        if end == self.manifest.position {
            return Ok(Vec::new());
        }
        let mut steps = Vec::new();
        for mut step in self.steps() {
            let last = step.segment.contains(end);
            if last {
                step.until = end.sequence;
            }
            steps.push(step);
            if last {
                return Ok(steps);
            }
        }
        Err(anyhow!("its manifest has a digest of {end}, which is outside of what it holds"))
    }

    /// The names of all blobs that it needs.
    pub fn blobs(&self) -> impl Iterator<Item = String> {
        let pieces = self.manifest.pieces().map(|piece| piece.name());
        pieces.chain(self.manifest.log.iter().map(LogSegment::name))
    }

    /// The bytes that have to be fetched for it.
    pub fn bytes(&self) -> u64 {
        self.manifest.bytes().saturating_add(self.manifest.log_bytes())
    }

    /// No stamp in it is above this one.
    pub fn stamp(&self) -> Hlc {
        let log = self.manifest.log.iter().map(|segment| segment.stamp).max();
        self.manifest.stamp.max(log.unwrap_or_default())
    }
}

/// As archives name it; what is recorded beside it there is not asked for.
fn whole(segment: &LogSegment) -> Step {
    let until = segment.end.sequence;
    let LogSegment { start, end, chain_before, chain, log_chain, .. } = *segment;
    let LogSegment { stamp, epoch, bytes, blake3, .. } = *segment;
    let segment = Segment {
        start,
        end,
        chain_before,
        chain,
        log_chain,
        stamp,
        epoch,
        bytes,
        blake3,
        stream: 0,
        taken_at: 0,
    };
    Step { segment, until }
}

impl Segments for SnapshotLog {
    fn name(&self) -> &ArchiveName {
        &self.name
    }

    async fn segment(&self, segment: &Segment) -> Result<Vec<u8>, StoreError> {
        let name = self.blobs.get(&segment.blake3).cloned().unwrap_or_default();
        let bytes = self.repository.blob(&name, What::Segment, segment.blake3).await?;
        if bytes.len() as u64 != segment.bytes {
            let why = "it has another length than its manifest says".to_owned();
            return Err(StoreError::Damaged { path: name.into(), why });
        }
        Ok(bytes)
    }
}

/// The number of the shard of that name.
///
/// # Errors
/// The snapshot has none: refused.
pub fn number_of(snapshot: &Snapshot, shard: &ShardName) -> anyhow::Result<usize> {
    let name = shard.to_string();
    let found = snapshot.shards.iter().position(|sealed| sealed.shard == name);
    let found = found.ok_or_else(|| {
        let have: Vec<_> = snapshot.shards.iter().map(|sealed| sealed.shard.as_str()).collect();
        let (id, have) = (&snapshot.id, have.join(", "));
        let why = format!("snapshot {id} has no shard {shard}; it has {have}; nothing was changed");
        Stop::new(Exit::Refused, why)
    });
    Ok(found?)
}
