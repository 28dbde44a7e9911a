//! One direction of one connection: reads chunks, and writes them as the toxics of the moment say.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::toxic::{Attributes, Stream, Toxic};

/// Chunks that may be under way in one direction (Toxiproxy's latency toxic buffers as many).
const CHUNKS_MAX: usize = 1024;
/// Bytes read at once.
const CHUNK_BYTES: usize = 32 * 1024;

/// The toxics of a proxy as a link sees them change.
pub type Toxics = watch::Receiver<Arc<Vec<Toxic>>>;

/// How a connection ends; shared by both of its directions.
#[derive(Clone, Default)]
pub struct End {
    /// Close both sides.
    pub close: CancellationToken,
    /// Close them with a reset.
    pub reset: CancellationToken,
}

/// A chunk and the moment it may leave.
struct Chunk {
    due: Instant,
    bytes: Bytes,
}

/// Runs one direction until it ends.
pub async fn run(
    from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    way: Stream,
    toxics: Toxics,
    end: End,
) {
    let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
    let reader = read(from, sender, Dice::new(way, toxics.clone()));
    let writer = write(&mut to, receiver, Dice::new(way, toxics), &end);
    tokio::select! {
        () = end.close.cancelled() => {}
        ((), ()) = async { tokio::join!(reader, writer) } => {}
    }
    if end.reset.is_cancelled() {
        // A socket that lingers for no time is closed with a reset, if no end was sent before.
        let _ = to.as_ref().set_zero_linger();
        to.forget();
    }
}

async fn read(mut from: OwnedReadHalf, sender: mpsc::Sender<Chunk>, mut dice: Dice) {
    let mut buffer = BytesMut::with_capacity(CHUNK_BYTES);
    while let Ok(1..) = from.read_buf(&mut buffer).await {
        let delay: u64 = dice.active().iter().map(latency_of).sum();
        let due = Instant::now() + Duration::from_millis(delay);
        if sender.send(Chunk { due, bytes: buffer.split().freeze() }).await.is_err() {
            return;
        }
        buffer.reserve(CHUNK_BYTES);
    }
}

fn latency_of(toxic: &Toxic) -> u64 {
    match toxic.attributes {
        Attributes::Latency { latency, jitter: 0 } => latency,
        Attributes::Latency { latency, jitter } => {
            (latency + rand::random_range(0..=2 * jitter)).saturating_sub(jitter)
        }
        _ => 0,
    }
}

async fn write(
    to: &mut OwnedWriteHalf,
    mut chunks: mpsc::Receiver<Chunk>,
    mut dice: Dice,
    end: &End,
) {
    let mut changes = dice.toxics.clone();
    // Bytes that each limit has let through.
    let mut passed: HashMap<String, u64> = HashMap::new();
    let mut was_dead = false;
    loop {
        let active = dice.active();
        let dead = active.iter().find_map(|t| match t.attributes {
            Attributes::Timeout { timeout } => Some(timeout),
            _ => None,
        });
        if was_dead && dead.is_none() {
            // What was dropped cannot be had again, so the connection is of no use any more.
            break;
        }
        let closes_at =
            dead.filter(|ms| *ms > 0).map(|ms| Instant::now() + Duration::from_millis(ms));
        was_dead |= dead.is_some();
        let chunk = tokio::select! {
            chunk = chunks.recv() => chunk,
            changed = changes.changed() => if changed.is_ok() { continue } else { break },
            () = at(closes_at) => break,
        };
        let Some(chunk) = chunk else {
            let active = dice.active();
            let slow = active.iter().find_map(|t| match t.attributes {
                Attributes::SlowClose { delay } => Some(delay),
                _ => None,
            });
            tokio::time::sleep(Duration::from_millis(slow.unwrap_or(0))).await;
            break;
        };
        if dead.is_some() {
            if closes_at.is_some() {
                // Dropping must not put the end off.
                at(closes_at).await;
                break;
            }
            continue;
        }
        tokio::time::sleep_until(chunk.due).await;
        if !deliver(to, &chunk.bytes, &dice.active(), &mut passed, end).await {
            break;
        }
    }
    end.close.cancel();
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Writes a chunk; `false`: the connection is over.
async fn deliver(
    to: &mut OwnedWriteHalf,
    bytes: &[u8],
    active: &[Toxic],
    passed: &mut HashMap<String, u64>,
    end: &End,
) -> bool {
    let mut piece = bytes.len();
    let mut pause = Duration::ZERO;
    let mut rate = None;
    let mut allowed = bytes.len();
    for toxic in active {
        match toxic.attributes {
            Attributes::ResetPeer { timeout } => {
                tokio::time::sleep(Duration::from_millis(timeout)).await;
                end.reset.cancel();
                return false;
            }
            Attributes::Slicer { average_size, size_variation, delay } => {
                let spread = rand::random_range(0..=2 * size_variation);
                let size = (average_size + spread).saturating_sub(size_variation);
                piece = usize::try_from(size).unwrap_or(usize::MAX).clamp(1, piece);
                pause = Duration::from_micros(delay);
            }
            Attributes::Bandwidth { rate: kilobytes } => rate = Some(kilobytes.max(1) * 1000),
            Attributes::LimitData { bytes: limit } => {
                let so_far = passed.entry(toxic.name.clone()).or_default();
                let left = usize::try_from(limit.saturating_sub(*so_far)).unwrap_or(usize::MAX);
                allowed = allowed.min(left);
                *so_far += allowed as u64;
            }
            _ => {}
        }
    }
    for part in bytes.get(..allowed).unwrap_or_default().chunks(piece.max(1)) {
        if let Some(rate) = rate {
            let micros = part.len() as u64 * 1_000_000 / rate;
            tokio::time::sleep(Duration::from_micros(micros)).await;
        }
        if to.write_all(part).await.is_err() {
            return false;
        }
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
    allowed == bytes.len()
}

/// Which toxics act on this connection: each is drawn once, by its toxicity.
struct Dice {
    way: Stream,
    toxics: Toxics,
    drawn: HashMap<String, bool>,
}

impl Dice {
    fn new(way: Stream, toxics: Toxics) -> Self {
        Self { way, toxics, drawn: HashMap::new() }
    }

    fn active(&mut self) -> Vec<Toxic> {
        let all = Arc::clone(&self.toxics.borrow());
        self.drawn.retain(|name, _| all.iter().any(|t| t.name == *name));
        all.iter()
            .filter(|t| t.stream == self.way)
            .filter(|t| {
                let draw = || rand::random_range(0.0..1.0) < t.toxicity;
                *self.drawn.entry(t.name.clone()).or_insert_with(draw)
            })
            .cloned()
            .collect()
    }
}
