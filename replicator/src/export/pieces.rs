//! Sending pieces: a thread reads and hashes, another packs, and what the store has is not sent.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ops::background;
use stream::conn::PING_EVERY;
use stream::export::{Arrived, Export, OFFERS_MAX, listen, pinging, send, send_piece};
use stream::{Reader, Writer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use super::ExportError;
use super::files::Listing;
use super::pace::Pace;
use super::pack::pack;
use super::remember::Remembered;
use crate::archive::Limit;

/// Hashes are saved when there are so many new ones: of 2 GiB.
const SAVE_EVERY: usize = 256;

/// A piece that was read.
struct Plain {
    number: u32,
    bytes: Vec<u8>,
}

/// What the reading thread hands over.
enum Read {
    /// One that the snapshotter has asked for.
    Wanted(Plain),
    /// One that was not known, with its hash.
    New(Plain, [u8; 32]),
}

/// A piece that was packed.
struct Packed {
    number: u32,
    size: u32,
    is_zstd: bool,
    bytes: Vec<u8>,
}

/// What is needed to send pieces.
pub(super) struct Sending<'a> {
    pub(super) listing: Arc<Listing>,
    pub(super) remembered: Arc<Mutex<Remembered>>,
    /// The key that hashes are made with.
    pub(super) naming: Option<[u8; 32]>,
    /// Pieces with known hashes that are wanted.
    pub(super) wanted: Vec<u32>,
    /// Bytes a second that are read of the disk.
    pub(super) rate: u64,
    /// Bytes a second that are sent.
    pub(super) limit: Limit,
    pub(super) counter: &'a AtomicU64,
}

impl Sending<'_> {
    /// Sends what is wanted, offers what is not known; how many bytes that took.
    pub(super) async fn run<R, W>(
        self,
        reader: &mut Reader<R>,
        writer: &mut Writer<W>,
    ) -> Result<u64, ExportError>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let Self { listing, remembered, naming, wanted, rate, limit, counter } = self;
        let (reads, mut read) = mpsc::channel(1);
        let reading = background::spawn("export-read", move || {
            read_all(&listing, &remembered, naming.as_ref(), &wanted, rate, &reads)
        });
        // No more than OFFERS_MAX are on their way, so these queues never fill.
        let (to_pack, mut plain) = mpsc::channel::<Plain>(OFFERS_MAX);
        let (done, mut packed) = mpsc::channel(OFFERS_MAX);
        let packing = background::spawn("export-pack", move || {
            while let Some(Plain { number, bytes }) = plain.blocking_recv() {
                let size = bytes.len() as u32;
                let (is_zstd, bytes) = pack(bytes);
                if done.blocking_send(Packed { number, size, is_zstd, bytes }).is_err() {
                    return;
                }
            }
        });
        let (hears, mut heard) = mpsc::channel(OFFERS_MAX);
        let mut listening = pin!(listen(reader, hears));
        let mut tick = tokio::time::interval(PING_EVERY);
        let (mut offered, mut on_their_way, mut all_read, mut sent) =
            (VecDeque::new(), 0_usize, false, 0);
        let pack = |plain| to_pack.try_send(plain).map_err(|_| died("packs pieces"));
        while !all_read || on_their_way > 0 {
            tokio::select! {
                next = read.recv(), if !all_read && on_their_way < OFFERS_MAX => match next {
                    Some(Read::Wanted(plain)) => {
                        on_their_way += 1;
                        pack(plain)?;
                    }
                    Some(Read::New(plain, hash)) => {
                        on_their_way += 1;
                        send(writer, &Export::Offer { piece: plain.number, hash }).await?;
                        offered.push_back(plain);
                    }
                    None => all_read = true,
                },
                arrived = heard.recv() => match arrived {
                    Some(Arrived::Message(Export::Take { take })) => {
                        let plain = offered.pop_front().ok_or_else(|| {
                            ExportError::Refused("an answer came to no offer".to_owned())
                        })?;
                        if take { pack(plain)? } else { on_their_way -= 1 }
                    }
                    Some(other) => return Err(other.unexpected("an answer to an offer").into()),
                    None => return Err(died("listens")),
                },
                why = &mut listening => return Err(why.into()),
                piece = packed.recv() => {
                    let piece = piece.ok_or_else(|| died("packs pieces"))?;
                    on_their_way -= 1;
                    pinging(writer, limit.take(piece.bytes.len())).await?;
                    let what = (piece.number, piece.size);
                    send_piece(writer, what, piece.is_zstd, &piece.bytes).await?;
                    sent += piece.bytes.len() as u64;
                    counter.fetch_add(piece.bytes.len() as u64, Ordering::Relaxed);
                }
                _ = tick.tick() => send(writer, &Export::Ping).await?,
            }
        }
        drop(to_pack);
        reading.await.map_err(|_| died("reads the checkpoint"))??;
        packing.await.map_err(|_| died("packs pieces"))?;
        Ok(sent)
    }
}

/// Reads what is wanted, and what is not known, which it hashes and remembers. Ends early when nobody
/// takes the pieces any more.
fn read_all(
    listing: &Listing,
    remembered: &Mutex<Remembered>,
    naming: Option<&[u8; 32]>,
    wanted: &[u32],
    rate: u64,
    reads: &mpsc::Sender<Read>,
) -> Result<(), ExportError> {
    let locked = || remembered.lock().unwrap_or_else(PoisonError::into_inner);
    let mut pace = Pace::new(rate);
    let (mut number, mut wanted) = (0_u32, wanted.iter().copied().peekable());
    let gone = AtomicBool::new(false);
    let hand = |read| gone.store(reads.blocking_send(read).is_err(), Ordering::Relaxed);
    for file in &listing.files {
        let count = u32::try_from(file.size.div_ceil(stream::export::PIECE_BYTES as u64))
            .map_err(|_| ExportError::Refused(format!("{} is too large", file.name)))?;
        let end = number.saturating_add(count);
        if file.hashes.is_some() && wanted.peek().is_none_or(|next| *next >= end) {
            number = end;
            continue;
        }
        let mut pieces = listing.open(file)?;
        let mut hashes = Vec::new();
        while number < end {
            if file.hashes.is_some() && wanted.next_if_eq(&number).is_none() {
                pieces.skip()?;
                number += 1;
                continue;
            }
            let Some(bytes) = pieces.next()? else { break };
            pace.took(bytes.len());
            let plain = |bytes| Plain { number, bytes };
            if file.hashes.is_some() {
                hand(Read::Wanted(plain(bytes)));
            } else {
                let hash = hash(naming, &bytes);
                hashes.push(hash);
                hand(Read::New(plain(bytes), hash));
            }
            if gone.load(Ordering::Relaxed) {
                locked().save();
                return Ok(());
            }
            number += 1;
        }
        if file.hashes.is_none()
            && file.is_table()
            && locked().insert(&file.name, file.print, hashes) >= SAVE_EVERY
        {
            locked().save();
        }
    }
    locked().retain(&listing.names());
    locked().save();
    Ok(())
}

fn hash(naming: Option<&[u8; 32]>, bytes: &[u8]) -> [u8; 32] {
    match naming {
        Some(key) => *blake3::keyed_hash(key, bytes).as_bytes(),
        None => *blake3::hash(bytes).as_bytes(),
    }
}

fn died(what: &str) -> ExportError {
    ExportError::Refused(format!("the thread that {what} died: look at the log"))
}
