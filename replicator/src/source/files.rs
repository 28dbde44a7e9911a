//! Files on their way to a follower: of a seed, or of a load.

use std::path::Path;

use ops::tls::Socket;
use stream::{Message, Reader, Writer};
use tokio::io::{AsyncReadExt, AsyncSeekExt, ReadHalf, WriteHalf};

use super::session::{SessionError, other, unexpected};

/// Bytes of a file in one packet.
const CHUNK: usize = 256 << 10;

/// What of a seed may be on its way: a connection that is cut has to send no more than that again.
pub(super) struct Credit<'a> {
    reader: &'a mut Reader<ReadHalf<Socket>>,
    limit: u64,
    sent: u64,
    received: u64,
    /// Files of a slice that the target says are whole.
    pub(super) whole: u32,
}

impl<'a> Credit<'a> {
    pub(super) fn new(reader: &'a mut Reader<ReadHalf<Socket>>, limit: u64) -> Self {
        Self { reader, limit, sent: 0, received: 0, whole: 0 }
    }

    /// Waits until there is room for so many bytes more.
    async fn take(&mut self, bytes: u64) -> Result<(), SessionError> {
        while self.sent - self.received + bytes > self.limit {
            match self.reader.message().await? {
                // More than was sent it cannot have.
                Message::Received(bytes) => {
                    self.received = self.received.max(bytes).min(self.sent);
                }
                Message::SliceHave { files, .. } => self.whole = self.whole.max(files),
                got => return Err(unexpected(got, "Received").into()),
            }
        }
        self.sent += bytes;
        Ok(())
    }
}

/// Sends files, one after the other.
pub(super) struct Files<'a> {
    pub(super) writer: &'a mut Writer<WriteHalf<Socket>>,
    /// `None`: as many bytes as the connection takes.
    pub(super) credit: Option<Credit<'a>>,
    /// Is told of each piece that was sent.
    pub(super) sent: &'a (dyn Fn(u64) + Sync),
}

impl Files<'_> {
    /// Sends a file from `from` on; the hash is of all of it.
    pub(super) async fn send(
        &mut self,
        index: u32,
        path: &Path,
        from: u64,
        size: u64,
    ) -> Result<(), SessionError> {
        let failed =
            |error: std::io::Error| other(&format!("cannot read {}: {error}", path.display()));
        let mut file = tokio::fs::File::open(path).await.map_err(failed)?;
        let mut hasher = blake3::Hasher::new();
        let mut buf = vec![0; CHUNK];
        let mut at = 0;
        file.rewind().await.map_err(failed)?;
        while at < size {
            let want = CHUNK.min(usize::try_from(size - at).unwrap_or(CHUNK));
            let got = file.read(&mut buf[..want]).await.map_err(failed)?;
            if got == 0 {
                return Err(other(&format!("{} is shorter than it was", path.display())));
            }
            hasher.update(&buf[..got]);
            let end = at + got as u64;
            if end > from {
                let skip = usize::try_from(from.saturating_sub(at)).unwrap_or(0);
                let bytes = (got - skip) as u64;
                if let Some(credit) = &mut self.credit {
                    credit.take(bytes).await?;
                }
                // Counted before it goes: what is cut off was sent too.
                (self.sent)(bytes);
                self.writer.chunk(index, at + skip as u64, &buf[skip..got]).await?;
            }
            at = end;
        }
        let hash = *hasher.finalize().as_bytes();
        self.writer.message(&Message::FileDone { file: index, hash }).await?;
        Ok(())
    }
}
