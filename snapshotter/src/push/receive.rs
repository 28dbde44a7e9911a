//! What comes of one shard, into the repository: segments, and pieces that it lacks.

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

use super::pieces::Pieces;
use super::session::Session;

/// Pieces of one shard that are being stored, or wait for it.
const PUTS: usize = 2;

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
    pub(super) async fn find<N>(
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
