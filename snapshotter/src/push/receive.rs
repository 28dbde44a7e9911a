//! What comes of one shard, into the repository: segments, and pieces that it lacks.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;

use anyhow::{Context, bail};
use futures_util::stream::{FuturesOrdered, FuturesUnordered, StreamExt};
use ops::progress::Progress;
use store::repository::piece::Known;
use store::repository::{FileEntry, LogSegment, PIECE_BYTES, Packed, Piece, Repository, What};
use store::{ObjectId, StoreError};
use stream::conn::PING_EVERY;
use stream::export::{self, Arrived, End, Export, ExportFile, SegmentHead};
use tokio::sync::{Semaphore, mpsc};
use wal::segment::SegmentHeader;

use super::session::Session;

/// Pieces of one shard that are being stored, or wait for it.
const PUTS: usize = 2;
/// Questions to the store at a time, about pieces of one shard.
const FINDS: usize = store::bucket::CONCURRENT_MAX;

const _: () = assert!(PIECE_BYTES == export::PIECE_BYTES);

/// Where things go; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) repository: Repository,
    pub(super) known: Arc<Known>,
    /// Pieces of all shards that are unpacked and stored at a time: each takes memory three times.
    pub(super) puts: Arc<Semaphore>,
    pub(super) progress: Progress,
}

/// What came besides pieces.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Packed bytes that came over the network.
    pub(super) sent: u64,
    /// Files that came from nowhere but the store.
    pub(super) reused: usize,
    /// What the node says that it holds.
    pub(super) digest: Option<admin::Digest>,
}

impl Place {
    /// Stores the segments up to the end.
    pub(super) async fn log(
        &self,
        session: &mut Session,
        tally: &mut Tally,
    ) -> anyhow::Result<(Vec<LogSegment>, End)> {
        let mut segments = Vec::new();
        loop {
            // Before it is read: what was read is in memory.
            let put = session.meanwhile(self.puts.acquire()).await?;
            let _put = put.expect("nobody closes it");
            let head = match session.next().await? {
                Arrived::Message(Export::Segment(head)) => *head,
                Arrived::Message(Export::End(end)) => return Ok((segments, *end)),
                other => return Err(other.unexpected("a segment").into()),
            };
            let bytes = match session.next().await? {
                Arrived::Segment(bytes) if bytes.len() <= export::SEGMENT_BYTES_MAX => bytes,
                other => return Err(other.unexpected("a segment's bytes").into()),
            };
            tally.sent += bytes.len() as u64;
            self.progress.expect(bytes.len() as u64);
            let segment = self.segment(head, bytes.to_vec()).await?;
            self.progress.moved(segment.bytes, segment.bytes);
            segments.push(segment);
        }
    }

    async fn segment(&self, head: SegmentHead, bytes: Vec<u8>) -> anyhow::Result<LogSegment> {
        let (said, _) = SegmentHeader::decode(&bytes).context("a segment that does not read")?;
        if (said.start, said.chain) != (head.start, head.chain_before) {
            bail!("a segment begins at {}, and was said to begin at {}", said.start, head.start);
        }
        let SegmentHead { start, end, chain_before, chain, log_chain, stamp, epoch } = head;
        let (blake3, size) = (self.repository.id_of(&bytes), bytes.len() as u32);
        let found = self.repository.find_named(&self.known, blake3, size).await?;
        let piece = match found {
            Some(piece) => piece,
            None => {
                let packed = Packed { blake3, size, is_zstd: false, body: bytes };
                self.repository.put_named(&self.known, What::Segment, packed).await?.0
            }
        };
        let (bytes, copy) = (u64::from(size), piece.copy);
        Ok(LogSegment {
            start,
            end,
            chain_before,
            chain,
            log_chain,
            stamp,
            epoch,
            bytes,
            blake3,
            copy,
        })
    }

    /// Stores what the repository lacks of these files.
    pub(super) async fn files(
        &self,
        session: &mut Session,
        files: &[ExportFile],
        tally: &mut Tally,
    ) -> anyhow::Result<Vec<FileEntry>> {
        let mut pieces = Pieces::of(files)?;
        session.meanwhile(pieces.find(self)).await??;
        let wanted = pieces.wanted();
        self.progress.expect(pieces.lacking());
        session.say(&Export::Want(wanted)).await?;
        let sent_before = tally.sent;
        let came = self.pieces(session, &mut pieces, tally).await?;
        tracing::debug!(pieces = came, bytes = tally.sent - sent_before, "received");
        pieces.entries(files, tally)
    }

    /// Answers offers and stores pieces until all was said; how many came.
    async fn pieces(
        &self,
        session: &mut Session,
        pieces: &mut Pieces,
        tally: &mut Tally,
    ) -> anyhow::Result<u64> {
        let stream::Connection { reader, writer } = &mut session.conn;
        let (hears, mut heard) = mpsc::channel(1);
        let mut listening = pin!(export::listen(reader, hears));
        let (mut finds, mut puts) = (FuturesOrdered::new(), FuturesUnordered::new());
        let mut tick = tokio::time::interval(PING_EVERY);
        let (mut done, mut came) = (false, 0);
        while !done || !finds.is_empty() || !puts.is_empty() {
            let takes = !done && puts.len() < PUTS;
            tokio::select! {
                biased;
                _ = tick.tick() => export::send(writer, &Export::Ping).await?,
                Some(found) = finds.next(), if !finds.is_empty() => {
                    let (number, hash, found): (u32, ObjectId, Result<Option<Piece>, _>) = found;
                    let found: Option<Piece> = found?;
                    export::send(writer, &Export::Take { take: found.is_none() }).await?;
                    match found {
                        Some(piece) => self.progress.moved(u64::from(pieces.here(number, piece)), 0),
                        None => pieces.ask(number, hash),
                    }
                }
                Some(put) = puts.next(), if !puts.is_empty() => {
                    let put: anyhow::Result<(u32, Piece)> = put;
                    let (number, stored) = put?;
                    let size = pieces.here(number, stored);
                    self.progress.moved(u64::from(size), 0);
                }
                Some(arrived) = heard.recv(), if takes => match arrived {
                    Arrived::Message(Export::Offer { piece, hash }) => {
                        if finds.len() > export::OFFERS_MAX {
                            bail!("the sidecar offers more than it may");
                        }
                        let (hash, size) = (ObjectId(hash), pieces.offered(piece)?);
                        finds.push_back(self.find(piece, hash, size));
                    }
                    Arrived::Piece { piece, size, is_zstd, bytes } => {
                        let blake3 = pieces.expected(piece, size)?;
                        came += 1;
                        tally.sent += bytes.len() as u64;
                        self.progress.moved(0, bytes.len() as u64);
                        let packed = Packed { blake3, size, is_zstd, body: bytes.to_vec() };
                        puts.push(self.put(piece, packed));
                    }
                    Arrived::Message(Export::Digest(json)) => {
                        let digest = serde_json::from_str(&json);
                        tally.digest = Some(digest.context("a digest that does not read")?);
                    }
                    Arrived::Message(Export::Done) => done = true,
                    other => return Err(other.unexpected("a piece").into()),
                },
                why = &mut listening, if takes => return Err(why.into()),
            }
        }
        Ok(came)
    }

    /// Asks the store for a piece, which its caller has numbered.
    async fn find<N>(
        &self,
        number: N,
        hash: ObjectId,
        size: u32,
    ) -> (N, ObjectId, Result<Option<Piece>, StoreError>) {
        (number, hash, self.repository.find_named(&self.known, hash, size).await)
    }

    async fn put(&self, number: u32, packed: Packed) -> anyhow::Result<(u32, Piece)> {
        let _put = self.puts.acquire().await.expect("nobody closes it");
        let put = self.repository.put_named(&self.known, What::Piece, packed).await;
        put.map(|(piece, _)| (number, piece)).context("storing a piece")
    }
}

/// What the sidecar still says when no files are sent.
pub(super) async fn rest(session: &mut Session, tally: &mut Tally) -> anyhow::Result<()> {
    loop {
        match session.next().await? {
            Arrived::Message(Export::Digest(json)) => {
                let digest = serde_json::from_str(&json).context("a digest that does not read")?;
                tally.digest = Some(digest);
            }
            Arrived::Message(Export::Done) => return Ok(()),
            other => return Err(other.unexpected("the end").into()),
        }
    }
}

/// The pieces of all files of a checkpoint, by number.
struct Pieces {
    all: Vec<Wanted>,
    /// Pieces that were asked for, with their hashes.
    asked: BTreeMap<u32, ObjectId>,
}

/// What is known of one.
struct Wanted {
    size: u32,
    hash: Option<ObjectId>,
    here: Option<Piece>,
    /// It was there before.
    reused: bool,
}

impl Pieces {
    fn of(files: &[ExportFile]) -> anyhow::Result<Self> {
        let mut all = Vec::new();
        for file in files {
            for n in 0..file.pieces() {
                let at = usize::try_from(n).context("a file's pieces")?;
                let hash = file.hashes.as_ref().and_then(|hashes| hashes.get(at)).copied();
                let size = file.piece_bytes(n) as u32;
                all.push(Wanted { size, hash: hash.map(ObjectId), here: None, reused: true });
            }
        }
        Ok(Self { all, asked: BTreeMap::new() })
    }

    /// Looks for those with known hashes.
    async fn find(&mut self, place: &Place) -> anyhow::Result<()> {
        let known = self.all.iter().enumerate();
        let known: Vec<_> =
            known.filter_map(|(n, piece)| Some((n, piece.hash?, piece.size))).collect();
        let asked = known.into_iter().map(|(n, hash, size)| place.find(n, hash, size));
        let found: Vec<_> =
            futures_util::stream::iter(asked).buffer_unordered(FINDS).collect().await;
        for found in found {
            let (n, _, found) = found;
            self.all[n].here = found?;
        }
        Ok(())
    }

    /// Those with known hashes that are not there: they are asked for.
    fn wanted(&mut self) -> Vec<u32> {
        let lacking = |(n, piece): (usize, &mut Wanted)| {
            let hash = piece.hash.filter(|_| piece.here.is_none())?;
            piece.reused = false;
            Some((n as u32, hash))
        };
        self.asked = self.all.iter_mut().enumerate().filter_map(lacking).collect();
        self.asked.keys().copied().collect()
    }

    /// Bytes that are asked for, or of which it is not known yet.
    fn lacking(&self) -> u64 {
        self.all.iter().filter(|piece| piece.here.is_none()).map(|p| u64::from(p.size)).sum()
    }

    /// The size of a piece that may be offered.
    fn offered(&self, number: u32) -> anyhow::Result<u32> {
        let piece = self.all.get(number as usize);
        let piece = piece.filter(|piece| piece.hash.is_none() && piece.here.is_none());
        piece.map(|piece| piece.size).context("the sidecar offers a piece that it may not")
    }

    fn ask(&mut self, number: u32, hash: ObjectId) {
        self.all[number as usize].reused = false;
        self.asked.insert(number, hash);
    }

    /// The hash of a piece that came, which was asked for.
    fn expected(&mut self, number: u32, size: u32) -> anyhow::Result<ObjectId> {
        let hash = self.asked.remove(&number).context("a piece came that was not asked for")?;
        if self.all[number as usize].size != size {
            bail!(
                "piece {number} has {size} bytes, and should have {}",
                self.all[number as usize].size
            );
        }
        Ok(hash)
    }

    /// It is there; its size.
    fn here(&mut self, number: u32, piece: Piece) -> u32 {
        self.all[number as usize].here = Some(piece);
        piece.size
    }

    fn entries(self, files: &[ExportFile], tally: &mut Tally) -> anyhow::Result<Vec<FileEntry>> {
        let mut all = self.all.into_iter();
        let mut entries = Vec::with_capacity(files.len());
        for file in files {
            let count = usize::try_from(file.pieces()).context("a file's pieces")?;
            let (mut pieces, mut reused) = (Vec::with_capacity(count), count > 0);
            for wanted in all.by_ref().take(count) {
                let piece = wanted.here.with_context(|| {
                    format!("the sidecar ended before all of {} had come", file.name)
                })?;
                reused &= wanted.reused;
                pieces.push(piece);
            }
            tally.reused += usize::from(reused);
            entries.push(FileEntry { name: file.name.parse()?, size: file.size, pieces });
        }
        Ok(entries)
    }
}
