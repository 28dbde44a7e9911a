//! Receives a seed of another shape into the directory of received loads, and has the node take it in.
//! What a cut connection has brought is kept: whole files, and the beginning of the next.

use std::path::PathBuf;

use admin::{IntentFile, Loaded, Slice, Status};
use keyspace::{Cf, Hlc};
use stream::message::{Incoming, SliceBegin};
use stream::{Connection, Message, WireError};
use tokio::fs::{self, File};

use super::seed::{PING_EVERY, Receipt, disk, receive_file};
use super::session::{Session, SessionError, follow};

/// The most files of a slice.
const FILES_MAX: u32 = 100_000;
/// The note of which slice the files are of.
const NOTE: &str = "id";

/// What is here of a slice.
#[derive(Debug)]
struct Held {
    dir: PathBuf,
    files: Vec<IntentFile>,
}

impl Session {
    /// Receives the files and has the node take them in, into the database that said `settled`; what it
    /// says then. The caller holds the gate.
    pub(super) async fn receive_slice(
        &mut self,
        begin: SliceBegin,
        settled: &Status,
    ) -> Result<Status, SessionError> {
        let dir = self.sidecar.spool.node_dir().join(Slice::received(&self.source));
        let mut held = Held::open(dir.clone(), begin.id).await.map_err(disk(&dir))?;
        tracing::info!(source = %self.source, slots = %begin.slots, at = %begin.point.position, files = held.files.len(), "being seeded with slots");
        self.receive_files(&mut held).await?;
        held.sync().await.map_err(disk(&dir))?;
        let status = self.status_again(settled).await?;
        self.keep_stranded(&status).await?;
        let node = self.sidecar.node.own_client().await?.on(&status);
        let until = begin.point.position.sequence;
        let loaded = begin.loaded.into_iter().map(|load| {
            let (stamp, slots, at) = (Hlc(load.stamp), load.slots, Hlc(load.at));
            (load.id, Loaded { stamp, slots, at })
        });
        let slice = Slice {
            format: Slice::FORMAT,
            follow: follow(self.source.clone(), self.epoch, begin.point, until),
            slots: begin.slots,
            stamp: Hlc(begin.stamp),
            horizon_ms: begin.horizon_ms,
            loaded: loaded.collect(),
            files: held.files,
        };
        // What was staged comes before what the slots will hold.
        self.inbound.restart_at(begin.point)?;
        let mut taking = std::pin::pin!(node.seed_slots(&dir, slice));
        loop {
            tokio::select! {
                done = &mut taking => break done?,
                () = tokio::time::sleep(PING_EVERY) => self.conn.writer.message(&Message::Ping).await?,
            }
        }
        let status = self.brought_to(begin.point).await?;
        self.conn.writer.message(&Message::SeedDone).await?;
        Ok(status)
    }

    async fn receive_files(&mut self, held: &mut Held) -> Result<(), SessionError> {
        let Connection { reader, writer } = &mut self.conn;
        let (files, bytes) = held.have().await;
        writer.message(&Message::SliceHave { files, bytes }).await?;
        let mut receipt = Receipt::new(writer);
        loop {
            match reader.message().await? {
                Message::SliceFile(file) if file.file == held.count() => {
                    if file.file >= FILES_MAX || !known(file.family) {
                        return Err(SessionError::Refused(format!(
                            "file {} of family {} has no place in a seed of slots",
                            file.file, file.family
                        )));
                    }
                    let path = held.next();
                    receive_file(reader, file.file, &path, file.size, Some(&mut receipt)).await?;
                    held.keep(file.family).await.map_err(disk(&path))?;
                    let files = held.count();
                    receipt.writer.message(&Message::SliceHave { files, bytes: 0 }).await?;
                }
                Message::SliceEnd { files } if files == held.count() => return Ok(()),
                got => {
                    let got = Incoming::Message(got).name();
                    return Err(WireError::Unexpected { got, want: "the next file" }.into());
                }
            }
        }
    }
}

/// Whether files of a slice may be of the family with this number.
fn known(family: u32) -> bool {
    Cf::from_id(family).is_some_and(Cf::is_shipped)
}

impl Held {
    /// What is in the directory of the slice with this id; anything else is removed.
    async fn open(dir: PathBuf, id: u128) -> std::io::Result<Self> {
        let id = format!("{id:032x}");
        if fs::read_to_string(dir.join(NOTE)).await.unwrap_or_default() != id {
            if fs::try_exists(&dir).await? {
                fs::remove_dir_all(&dir).await?;
            }
            fs::create_dir_all(&dir).await?;
            fs::write(dir.join(NOTE), &id).await?;
        }
        let mut held = Self { dir, files: Vec::new() };
        while let Some(family) = held.family_of_next().await {
            let path = name(held.count(), family);
            held.files.push(IntentFile { family, path });
        }
        Ok(held)
    }

    async fn family_of_next(&self) -> Option<u32> {
        for cf in Cf::ALL.into_iter().filter(|cf| cf.is_shipped()) {
            let path = self.dir.join(name(self.count(), cf.id()));
            if fs::try_exists(path).await.unwrap_or(false) {
                return Some(cf.id());
            }
        }
        None
    }

    fn count(&self) -> u32 {
        u32::try_from(self.files.len()).unwrap_or(u32::MAX)
    }

    /// Whole files, and bytes of the next.
    async fn have(&self) -> (u32, u64) {
        let bytes = fs::metadata(self.next()).await.map(|meta| meta.len()).unwrap_or(0);
        (self.count(), bytes)
    }

    /// Where the next file is written.
    fn next(&self) -> PathBuf {
        self.dir.join(format!("{:06}.part", self.count()))
    }

    /// The next file is whole, and synced.
    async fn keep(&mut self, family: u32) -> std::io::Result<()> {
        let path = name(self.count(), family);
        fs::rename(self.next(), self.dir.join(&path)).await?;
        self.files.push(IntentFile { family, path });
        Ok(())
    }

    async fn sync(&self) -> std::io::Result<()> {
        // Received loads, loads.
        for dir in self.dir.ancestors().take(3) {
            File::open(dir).await?.sync_all().await?;
        }
        Ok(())
    }
}

/// The name of a whole file.
fn name(index: u32, family: u32) -> String {
    format!("{index:06}-{family}.sst")
}
