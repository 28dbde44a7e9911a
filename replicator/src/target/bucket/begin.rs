//! A node that has nothing of its source, or stands where the archive leads on from no more, begins with
//! the newest checkpoint of the archive: the same files as over a connection, in the same place, and the
//! node swaps them in alike. What was fetched when a connection took over is kept for the next try.
//!
//! Only where nothing can be lost by it and nothing has to be asked of the source: the node has the same
//! slots, and wrote nothing as a primary that its source may lack.

use std::path::Path;
use std::pin::Pin;

use admin::{Adopt, Status};
use ops::progress::Progress;
use restore::files;
use store::repository::{Archive, ArchiveName, Base, FileEntry, Repository, Segment};
use stream::message::Point;
use topology::Record;
use wal::Chain;

use super::super::session::follow;
use super::super::standings::unfollowed;
use super::is_frozen;
use super::run::{FollowError, Run, refused};
use crate::source::became;
use crate::spool::free;

/// What of a checkpoint is the node's own that it was taken of.
const NOT_DATA: [&str; 2] = [crate::identity::FILE, Adopt::FILE];

impl Run<'_> {
    /// [`Run::seed`], boxed: whoever spawns it may so (rust-lang/rust#102211).
    pub(super) fn begin<'r>(
        &'r self,
        repository: &'r Repository,
        name: &'r ArchiveName,
        status: &'r Status,
    ) -> Pin<Box<dyn Future<Output = Result<Point, FollowError>> + Send + 'r>> {
        Box::pin(self.seed(repository, name, status))
    }

    /// Seeds the node that says `status`; where its source's log goes on from then. The caller holds the
    /// gate.
    async fn seed(
        &self,
        repository: &Repository,
        name: &ArchiveName,
        status: &Status,
    ) -> Result<Point, FollowError> {
        self.may_begin(status)?;
        let archive = Archive::open(repository, name).await?;
        let base = self.newest(&archive, status)?;
        let manifest = archive.manifest(base).await?;
        let (spool, node) = (&self.sidecar.spool, &self.sidecar.node);
        let room = free(spool.node_dir()).saturating_sub(self.sidecar.config.budget.free);
        if manifest.bytes() > room {
            return Err(refused(&format!(
                "its checkpoint {} has {} bytes, and the node's volume has {room} for it",
                base.id,
                manifest.bytes()
            )));
        }
        let point =
            Point { position: base.position, log_chain: Chain::START, stream_chain: Chain::START };
        tracing::info!(source = %self.source, checkpoint = base.id, at = %base.position, bytes = manifest.bytes(), "its sidecar is away: being seeded from its archive");
        let files: Vec<FileEntry> = manifest
            .files
            .iter()
            .filter(|file| !NOT_DATA.contains(&file.name.as_str()))
            .cloned()
            .collect();
        let (dir, note) = (spool.node_dir().join("seed"), spool.root().join("seed.json"));
        prepare(&dir, &note, &format!("archive {}", base.id))
            .map_err(|why| refused(&format!("cannot prepare {}: {why}", dir.display())))?;
        let progress = Progress::new("being seeded from the archive");
        progress.expect(manifest.bytes());
        let fetched = files::fetch_all(repository, &files, &dir, &progress).await;
        fetched.map_err(|error| refused(&ops::cli::sentence(&error)))?;
        self.sidecar.metrics.follow.bytes.inc_by(progress.sent());
        // What may have changed while that took.
        let now = node.status().await?;
        if now.database != status.database {
            return Err(refused("the node's database was swapped meanwhile"));
        }
        self.may_begin(&now)?;
        let until = base.position.sequence;
        let following = follow(self.source.clone(), self.epoch()?, point, until);
        // What was staged belongs to the database that goes.
        self.inbound.restart_at(point)?;
        let client = node.own_client().await?.on(&now);
        client.seed(&dir, Adopt::following(following, manifest.stamp)).await?;
        // The note speaks of a directory that is the database now.
        let _ = std::fs::remove_file(&note);
        let seeded = node.status().await?;
        let stands = seeded.applied.get(self.source).map(|applied| applied.position);
        if stands != Some(point.position) {
            return Err(refused("the node's database was swapped just now"));
        }
        self.inbound.stands_beside(&seeded.database);
        Ok(point)
    }

    /// Whether the node may be given another database without its source being asked.
    fn may_begin(&self, status: &Status) -> Result<(), FollowError> {
        if let Some(tripped) = self.inbound.hold().state().tripped {
            // A seed would bring what the breaker has stopped.
            return Err(refused(&tripped.to_string()));
        }
        if is_frozen(self.sidecar, self.source) {
            return Err(refused("its source is frozen, and a switch is not held up by a seed"));
        }
        if let Some(end) = unfollowed(status, self.source) {
            return Err(refused(&format!(
                "this node was a primary up to {end}: what of that its source lacks only a connection can say"
            )));
        }
        let of_others =
            status.applied.keys().next().filter(|_| !status.applied.contains_key(self.source));
        if let Some(other) = of_others {
            return Err(refused(&format!(
                "what the node has came from {other}: whether its source goes on from there only a connection can say"
            )));
        }
        let view = self.sidecar.service.view();
        let us = &self.sidecar.shard;
        let same = view.record().is_some_and(|record: &Record| {
            record.slots_of(us) == record.slots_of(self.source)
                && record.sources_of(us) == [self.source.clone()]
        });
        match same {
            true => Ok(()),
            false => Err(refused(
                "this node has other slots than its source: it must be seeded over a connection",
            )),
        }
    }

    /// The epoch of the record that names the source.
    fn epoch(&self) -> Result<topology::Epoch, FollowError> {
        let view = self.sidecar.service.view();
        let epoch = view.record().map(|record| record.epoch);
        epoch.ok_or_else(|| refused("the service has no record"))
    }

    /// The newest checkpoint, if what is archived goes on from it and is of this source as the primary
    /// that it is now.
    fn newest<'a>(&self, archive: &'a Archive, status: &Status) -> Result<&'a Base, FollowError> {
        let base = archive.bases().next_back();
        let base = base.ok_or_else(|| refused("its archive has no whole checkpoint yet"))?;
        let view = self.sidecar.service.view();
        let became = view.record().map(|record| became(record, self.source)).unwrap_or_default();
        let last = archive.segments().next_back();
        usable(base, last, became.0).map_err(|why| refused(&why))?;
        let applied = status.applied.get(self.source);
        if let Some(applied) = applied.filter(|applied| applied.stamp >= base.stamp) {
            return Err(refused(&format!(
                "the archive leads no further from {}, and its newest checkpoint is no later",
                applied.position
            )));
        }
        Ok(base)
    }
}

/// Whether a follower may begin with the newest checkpoint; `last` is the newest segment, `became` the
/// epoch at which the source became a primary.
fn usable(base: &Base, last: Option<&Segment>, became: u64) -> Result<(), String> {
    if last.is_some_and(|last| last.stream > base.stream) {
        return Err(format!(
            "its newest checkpoint {} is of before a hole in the archive, or of before its shard took over: the next one is waited for",
            base.id
        ));
    }
    // What was archived under a former epoch may have been left: it would come back.
    let epoch = last.filter(|last| last.stream == base.stream).map_or(0, |last| last.epoch);
    if epoch < became {
        return Err(format!(
            "nothing that goes on from its newest checkpoint {} is of epoch {became}, at which its shard became a primary",
            base.id
        ));
    }
    Ok(())
}

/// The directory that files are fetched into: what is there of another seed goes.
fn prepare(dir: &Path, note: &Path, id: &str) -> std::io::Result<()> {
    if std::fs::read_to_string(note).unwrap_or_default() != id && dir.exists() {
        std::fs::remove_dir_all(dir)?;
    }
    std::fs::create_dir_all(dir)?;
    std::fs::write(note, id)
}

#[cfg(test)]
mod tests {
    use keyspace::Hlc;
    use store::ObjectId;
    use wal::{Position, Sequence, TimelineId};

    use super::*;

    #[test]
    fn a_checkpoint_of_before_a_hole_or_a_switch_is_not_begun_with() {
        let position = Position { timeline: TimelineId(1), sequence: Sequence(10) };
        let base = |stream| Base {
            id: "one".to_owned(),
            manifest: ObjectId([0; 32]),
            position,
            stamp: Hlc(5),
            taken_at: 0,
            bytes: 1,
            stream,
        };
        let segment = |stream, epoch| Segment {
            start: position,
            end: position,
            chain_before: Chain(0),
            chain: Chain(0),
            log_chain: Chain(0),
            stamp: Hlc(0),
            epoch,
            bytes: 1,
            blake3: ObjectId([0; 32]),
            stream,
            taken_at: 0,
        };
        assert_eq!(usable(&base(3), Some(&segment(3, 7)), 7), Ok(()));
        assert_eq!(usable(&base(3), None, 0), Ok(()), "it was the first primary");
        assert!(usable(&base(3), Some(&segment(4, 9)), 7).unwrap_err().contains("hole"));
        assert!(usable(&base(3), Some(&segment(3, 6)), 7).unwrap_err().contains("epoch 7"));
        assert!(usable(&base(3), Some(&segment(2, 7)), 7).is_err(), "nothing says its epoch");
    }

    #[test]
    fn what_was_fetched_of_the_same_checkpoint_is_kept() {
        let scratch = tempfile::tempdir().unwrap();
        let (dir, note) = (scratch.path().join("seed"), scratch.path().join("seed.json"));
        prepare(&dir, &note, "archive one").unwrap();
        std::fs::write(dir.join("1.sst"), b"x").unwrap();
        prepare(&dir, &note, "archive one").unwrap();
        assert!(dir.join("1.sst").exists());
        prepare(&dir, &note, "archive two").unwrap();
        assert!(!dir.join("1.sst").exists());
    }
}
