//! What is known of a materialised shard: the file `MATERIALISED` beside its database.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use admin::Follow;
use anyhow::{Context, bail};
use keyspace::{Hlc, SlotSet};
use serde::{Deserialize, Serialize};
use store::repository::{FileEntry, Manifest};
use store::{FileName, ObjectId, SnapshotId};
use topology::ShardName;
use wal::Position;

/// One shard of a snapshot, laid out as a database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Record {
    /// The format of this file: 1.
    pub format: u32,
    /// The id of the repository that it comes from.
    pub repository: String,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Its service.
    pub service: String,
    /// The shard that it is of.
    pub shard: ShardName,
    /// The slots that it holds.
    pub slots: SlotSet,
    /// The id of the database that the snapshot was taken of.
    pub source_database: String,
    /// The end of what it holds, on that database's log.
    pub end: Position,
    /// No stamp in it is above this one.
    pub stamp: Hlc,
    /// When the snapshot was sealed: milliseconds since 1970, UTC.
    pub sealed_at: u64,
    /// What a standby follows from here on; none where that is not one log.
    pub follow: Option<Follow>,
    /// The hash of which files it began with: a later snapshot of the same files goes on from this one.
    pub base: ObjectId,
    /// Bytes of the database's files, also of those that others have too.
    pub bytes: u64,
    /// Table files that are as the snapshot says, by what was compared when they were written.
    pub tables: Vec<Table>,
}

/// A table file whose hashes were compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Table {
    /// Its name.
    pub name: FileName,
    /// The hash of its pieces' hashes and lengths.
    pub pieces: ObjectId,
    /// What it looked like when it was complete: nothing writes to a table file.
    pub look: Look,
}

/// By what a file that was changed is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Look {
    /// Its bytes.
    pub size: u64,
    /// Its inode: a link has it too.
    pub inode: u64,
    /// When it was last written: nanoseconds since 1970.
    pub modified: i128,
}

impl Look {
    /// Of a plain file; `None` if there is none.
    pub fn of(path: &Path) -> Option<Self> {
        let meta = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file)?;
        let modified = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
        Some(Self { size: meta.len(), inode: meta.ino(), modified })
    }
}

/// The hash of what a file is made of, whatever it is called.
pub(super) fn pieces_of(file: &FileEntry) -> ObjectId {
    let mut bytes = Vec::with_capacity(file.pieces.len() * 36);
    for piece in &file.pieces {
        bytes.extend_from_slice(&piece.blake3.0);
        bytes.extend_from_slice(&piece.size.to_le_bytes());
    }
    ObjectId::of(&bytes)
}

/// The hash of which files a manifest begins with.
pub(super) fn base_of(manifest: &Manifest) -> ObjectId {
    let mut bytes = manifest.position.to_string().into_bytes();
    for file in &manifest.files {
        bytes.extend_from_slice(format!("\n{} {}", file.name, pieces_of(file)).as_bytes());
    }
    ObjectId::of(&bytes)
}

impl Record {
    /// The file's name.
    pub const FILE: &str = "MATERIALISED";
    /// The format that this version writes.
    pub const FORMAT: u32 = 1;
    /// The longest file that is read.
    const BYTES_MAX: u64 = 256 << 20;

    /// Reads that of a directory.
    ///
    /// # Errors
    /// There is none, or it is damaged or of a later version.
    pub fn read(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join(Self::FILE);
        let what = || format!("reading {}", path.display());
        let file = File::open(&path).with_context(what)?;
        let mut bytes = Vec::new();
        file.take(Self::BYTES_MAX + 1).read_to_end(&mut bytes).with_context(what)?;
        Self::parse(&bytes).with_context(what)
    }

    fn parse(bytes: &[u8]) -> anyhow::Result<Self> {
        if bytes.len() as u64 > Self::BYTES_MAX {
            bail!("it is longer than {} bytes", Self::BYTES_MAX);
        }
        let newline = bytes.iter().position(|byte| *byte == b'\n').context("it is cut off")?;
        let (line, json) = (&bytes[..newline], &bytes[newline + 1..]);
        if line != ObjectId::of(json).to_string().as_bytes() {
            bail!(
                "its hash is another: it is damaged, remove its directory and materialise it again"
            );
        }
        let record: Self = serde_json::from_slice(json)?;
        if record.format != Self::FORMAT {
            bail!("it has format {}, and this version knows {}", record.format, Self::FORMAT);
        }
        Ok(record)
    }

    /// Writes it, synced.
    ///
    /// # Errors
    /// The disk failed.
    pub(super) fn write(&self, dir: &Path) -> anyhow::Result<()> {
        let path = dir.join(Self::FILE);
        let mut json = serde_json::to_vec(self)?;
        json.push(b'\n');
        let line = format!("{}\n", ObjectId::of(&json));
        let written = File::create(&path).and_then(|mut file| {
            file.write_all(line.as_bytes())?;
            file.write_all(&json)?;
            file.sync_all()
        });
        written.with_context(|| format!("writing {}", path.display()))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A record of nothing.
    pub(crate) fn record(snapshot: &str, shard: &str, sealed_at: u64) -> Record {
        Record {
            format: Record::FORMAT,
            repository: "r".to_owned(),
            snapshot: snapshot.parse().unwrap(),
            service: "demo".to_owned(),
            shard: shard.parse().unwrap(),
            slots: "0-8191".parse().unwrap(),
            source_database: "beef".to_owned(),
            end: "0000000000000000000000000000beef@42".parse().unwrap(),
            stamp: Hlc(7),
            sealed_at,
            follow: None,
            base: ObjectId::of(b"base"),
            bytes: 1,
            tables: vec![Table {
                name: "000007.sst".parse().unwrap(),
                pieces: ObjectId::of(b"pieces"),
                look: Look { size: 1, inode: 2, modified: 3 },
            }],
        }
    }

    #[test]
    fn it_reads_back_and_damage_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let record = record("one", "a/0", 5);
        record.write(dir.path()).unwrap();
        assert_eq!(Record::read(dir.path()).unwrap(), record);
        let path = dir.path().join(Record::FILE);
        let good = fs::read(&path).unwrap();
        for n in 0..good.len() {
            let mut bad = good.clone();
            bad[n] ^= 1;
            assert!(Record::parse(&bad).is_err(), "byte {n}");
            assert!(Record::parse(&good[..n]).is_err(), "cut at {n}");
        }
    }
}
