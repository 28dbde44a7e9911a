//! Hashing and sending, beside a thread that reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use stream::Writer;
use stream::conn::PING_EVERY;
use stream::export::{Export, send, send_chunk};
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;

use super::ExportError;
use super::files::Listing;
use super::pace::Pace;

/// Chunks that are read and compressed ahead of the socket.
const AHEAD: usize = 4;
/// SST files are compressed already, mostly; more effort than zstd's default finds little.
const LEVEL: i32 = 3;

/// Sets its flag when it is dropped, so that a reading thread ends when nobody waits for it.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Hashes all files, and tells the snapshotter every second how far that is.
pub(super) async fn hash<W: AsyncWrite + Unpin>(
    writer: &mut Writer<W>,
    listing: Arc<Listing>,
    rate: u64,
) -> Result<Vec<[u8; 32]>, ExportError> {
    let (done, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let _stop_on_drop = StopOnDrop(stop.clone());
    let total = listing.total();
    let counted = done.clone();
    let mut hashing = tokio::task::spawn_blocking(move || listing.hash(rate, &counted, &stop));
    let mut tick = tokio::time::interval(PING_EVERY);
    loop {
        tokio::select! {
            hashes = &mut hashing => return hashes.map_err(|_| reader_died())?,
            _ = tick.tick() => {
                let done = done.load(Ordering::Relaxed);
                send(writer, &Export::Hashing { done, total }).await?;
            }
        }
    }
}

/// What the reading thread hands over.
enum Piece {
    Chunk(u32, Vec<u8>),
    End(u32),
}

/// Sends the wanted files, compressed; returns how many bytes that took.
pub(super) async fn files<W: AsyncWrite + Unpin>(
    writer: &mut Writer<W>,
    listing: Arc<Listing>,
    wanted: Vec<u32>,
    rate: u64,
    counter: &AtomicU64,
) -> Result<u64, ExportError> {
    let (pieces, mut ready) = mpsc::channel(AHEAD);
    let reading = tokio::task::spawn_blocking(move || read_all(&listing, &wanted, rate, &pieces));
    let mut sent = 0;
    while let Some(piece) = ready.recv().await {
        match piece {
            Piece::Chunk(file, bytes) => {
                send_chunk(writer, file, &bytes).await?;
                sent += bytes.len() as u64;
                counter.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            }
            Piece::End(file) => send(writer, &Export::FileDone { file }).await?,
        }
    }
    reading.await.map_err(|_| reader_died())??;
    Ok(sent)
}

/// Reads and compresses each file; ends early when nobody takes the pieces any more.
fn read_all(
    listing: &Listing,
    wanted: &[u32],
    rate: u64,
    pieces: &mpsc::Sender<Piece>,
) -> Result<(), ExportError> {
    let mut pace = Pace::new(rate);
    for &file in wanted {
        let mut failed = None;
        listing.read(file as usize, &mut pace, &mut |bytes| match zstd::bulk::compress(
            bytes, LEVEL,
        ) {
            Ok(bytes) => pieces.blocking_send(Piece::Chunk(file, bytes)).is_ok(),
            Err(why) => {
                failed = Some(why);
                false
            }
        })?;
        if let Some(why) = failed {
            return Err(ExportError::Refused(format!("a piece could not be compressed: {why}")));
        }
        if pieces.blocking_send(Piece::End(file)).is_err() {
            break;
        }
    }
    Ok(())
}

fn reader_died() -> ExportError {
    ExportError::Refused("the thread that reads the checkpoint died: look at the log".to_owned())
}
