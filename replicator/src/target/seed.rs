//! Receives a checkpoint into `<node dir>/seed` and has the node swap it in. After a connection that
//! ended the next one goes on behind the last byte that was written.

use std::io::SeekFrom;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use admin::{Adopt, Status};
use keyspace::Hlc;
use ops::tls::Socket;
use stream::message::{HAS_RECEIVED, Incoming, SeedBegin};
use stream::{Connection, Message, Reader, WireError, Writer};
use tokio::fs::{self, File};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt, ReadHalf, WriteHalf};
use wal::Continuation;

use super::session::{Session, SessionError, follow};
use super::standings::unfollowed;

/// The most files of a checkpoint.
const FILES_MAX: usize = 100_000;
/// The source is told of so many bytes at a time.
const RECEIPT_EVERY: u64 = 1 << 20;
/// While the node swaps its directory, or takes files in, the source hears from us this often.
pub(super) const PING_EVERY: Duration = Duration::from_secs(1);

impl Session {
    /// Receives the files and has the node adopt them, in the place of the database that said
    /// `settled`; what it says then. The caller holds the gate.
    pub(super) async fn receive_seed(
        &mut self,
        begin: SeedBegin,
        settled: &Status,
    ) -> Result<Status, SessionError> {
        check(&begin).map_err(SessionError::Refused)?;
        let dir = self.sidecar.spool.node_dir().join("seed");
        let note = self.sidecar.spool.root().join("seed.json");
        let have = resume(&dir, &note, &begin).await.map_err(disk(&dir))?;
        tracing::info!(source = %self.source, files = begin.files.len(), at = %begin.point.position, "being seeded");
        self.conn.writer.message(&Message::SeedHave(have)).await?;
        let Connection { reader, writer } = &mut self.conn;
        let mut receipt = (self.version >= HAS_RECEIVED).then(|| Receipt::new(writer));
        for (index, file) in (0u32..).zip(&begin.files) {
            let path = dir.join(&file.name);
            receive_file(reader, index, &path, file.size, receipt.as_mut()).await?;
        }
        match self.conn.reader.message().await? {
            Message::SeedEnd => {}
            got => {
                let got = Incoming::Message(got).name();
                return Err(WireError::Unexpected { got, want: "SeedEnd" }.into());
            }
        }
        let synced = File::open(&dir).await;
        synced.map_err(disk(&dir))?.sync_all().await.map_err(disk(&dir))?;
        let status = self.status_again(settled).await?;
        self.keep_stranded(&status).await?;
        let node = self.sidecar.node.own_client().await?.on(&status);
        let until = begin.point.position.sequence;
        let adopt = Adopt::following(
            follow(self.source.clone(), self.epoch, begin.point, until),
            Hlc(begin.stamp),
        );
        // What was staged belongs to the database that goes.
        self.inbound.restart_at(begin.point)?;
        let mut adopting = std::pin::pin!(node.seed(&dir, adopt));
        loop {
            tokio::select! {
                done = &mut adopting => break done?,
                () = tokio::time::sleep(PING_EVERY) => self.conn.writer.message(&Message::Ping).await?,
            }
        }
        // The note speaks of a directory that is the database now.
        let _ = fs::remove_file(&note).await;
        let status = self.brought_to(begin.point).await?;
        self.conn.writer.message(&Message::SeedDone).await?;
        Ok(status)
    }

    /// A seed replaces the log of an old primary: what that alone holds goes to the ledger first.
    pub(super) async fn keep_stranded(&self, status: &Status) -> Result<(), SessionError> {
        let Some(end) = unfollowed(status, &self.source) else { return Ok(()) };
        let fork =
            match self.history.rejoin(&status.history, end.sequence, status.position.sequence) {
                Continuation::From(_) => return Ok(()),
                Continuation::Rewind { fork, .. } => Some(fork),
                // The source does not know this log; the record knows how far it was followed.
                Continuation::Seed => self.sidecar.service.view().record().and_then(|record| {
                    let left = record.forks.iter().filter(|fork| fork.source == self.sidecar.shard);
                    left.map(|fork| fork.at).next_back()
                }),
            };
        let lost = match fork {
            Some(fork) if fork.sequence >= end.sequence => return Ok(()),
            Some(fork) => {
                self.strand(fork, status).await.map_or_else(Some, |stranded| stranded.untold)
            }
            None => Some("nobody knows how far it was followed".to_owned()),
        };
        if let Some(why) = lost {
            tracing::error!(source = %self.source, %end, "a seed replaces the database of an old primary: {why}; what only it acknowledged cannot be listed beyond that");
        }
        Ok(())
    }
}

/// Tells the source how much was written, so that it sends more.
pub(super) struct Receipt<'a> {
    pub(super) writer: &'a mut Writer<WriteHalf<Socket>>,
    received: u64,
    told: u64,
}

impl<'a> Receipt<'a> {
    pub(super) fn new(writer: &'a mut Writer<WriteHalf<Socket>>) -> Self {
        Self { writer, received: 0, told: 0 }
    }

    async fn add(&mut self, bytes: u64) -> Result<(), WireError> {
        self.received += bytes;
        if self.received - self.told >= RECEIPT_EVERY {
            self.told = self.received;
            self.writer.message(&Message::Received(self.received)).await?;
        }
        Ok(())
    }
}

/// Receives one file to its end and answers its hash, which the source has sent and was compared.
pub(super) async fn receive_file(
    reader: &mut Reader<ReadHalf<Socket>>,
    index: u32,
    path: &Path,
    size: u64,
    mut receipt: Option<&mut Receipt<'_>>,
) -> Result<[u8; 32], SessionError> {
    let mut file = File::options()
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .open(path)
        .await
        .map_err(disk(path))?;
    let mut at = file.seek(SeekFrom::End(0)).await.map_err(disk(path))?;
    loop {
        match reader.incoming().await? {
            Incoming::Chunk { file: of, offset, bytes } => {
                if of != index || offset != at || at + bytes.len() as u64 > size {
                    return Err(SessionError::Refused(format!(
                        "a piece of file {of} at {offset} came where file {index} at {at} of {size} was expected"
                    )));
                }
                file.write_all(&bytes).await.map_err(disk(path))?;
                at += bytes.len() as u64;
                if let Some(receipt) = &mut receipt {
                    receipt.add(bytes.len() as u64).await?;
                }
            }
            Incoming::Message(Message::FileDone { file: of, hash }) if of == index => {
                file.flush().await.map_err(disk(path))?;
                file.sync_all().await.map_err(disk(path))?;
                if at != size || hash_of(&mut file).await.map_err(disk(path))? != hash {
                    drop(file);
                    fs::remove_file(path).await.map_err(disk(path))?;
                    return Err(SessionError::Refused(format!(
                        "{} arrived damaged and was removed: it is sent again",
                        path.display()
                    )));
                }
                return Ok(hash);
            }
            Incoming::Message(Message::Ping) => {}
            got => {
                let want = "a piece of a file";
                return Err(WireError::Unexpected { got: got.name(), want }.into());
            }
        }
    }
}

async fn hash_of(file: &mut File) -> std::io::Result<[u8; 32]> {
    file.rewind().await?;
    let (mut hasher, mut buf) = (blake3::Hasher::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buf).await? {
            0 => return Ok(*hasher.finalize().as_bytes()),
            got => drop(hasher.update(&buf[..got])),
        }
    }
}

/// Names are of files in one directory, and nothing that a database directory has of its own.
fn check(begin: &SeedBegin) -> Result<(), String> {
    if begin.files.len() > FILES_MAX {
        return Err(format!(
            "a checkpoint of {} files is more than {FILES_MAX}",
            begin.files.len()
        ));
    }
    for file in &begin.files {
        let mut parts = Path::new(&file.name).components();
        let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
        if !plain
            || file.name.contains('/')
            || [crate::identity::FILE, Adopt::FILE].contains(&&*file.name)
        {
            return Err(format!("`{}` is no name for a file of a checkpoint", file.name));
        }
    }
    Ok(())
}

/// What is there of this checkpoint already; anything else is removed.
async fn resume(dir: &Path, note: &PathBuf, begin: &SeedBegin) -> std::io::Result<Vec<u64>> {
    let noted = fs::read_to_string(note).await.unwrap_or_default();
    let id = format!("{:032x}", begin.id);
    if noted != id {
        if fs::try_exists(dir).await? {
            fs::remove_dir_all(dir).await?;
        }
        fs::create_dir_all(dir).await?;
        fs::write(note, &id).await?;
    }
    fs::create_dir_all(dir).await?;
    let mut have = Vec::with_capacity(begin.files.len());
    for file in &begin.files {
        let path = dir.join(&file.name);
        let len = fs::metadata(&path).await.map(|m| m.len()).unwrap_or(0);
        if len > file.size {
            fs::remove_file(&path).await?;
        }
        have.push(if len > file.size { 0 } else { len });
    }
    Ok(have)
}

pub(super) fn disk(path: &Path) -> impl Fn(std::io::Error) -> SessionError {
    let path = path.to_owned();
    move |error| {
        SessionError::Refused(format!(
            "cannot write {}: {error}; the node keeps the database that it has",
            path.display()
        ))
    }
}
