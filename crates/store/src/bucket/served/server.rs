//! The end that answers.

use std::future::Future;
use std::sync::Arc;

use stream::{Connection, Reader, WireError, Writer};
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio::sync::Semaphore;

use super::super::{Bucket, Put};
use super::{ANSWER, ASK, Answer, Ask, FORMAT, OBJECT_BYTES_MAX, PART, PART_BYTES, SILENCE_MAX};
use crate::StoreError;

/// What may be put, beyond that nothing is overwritten.
pub trait Guard: Sync {
    /// Whose snapshots are taken: in words, if this is another service.
    ///
    /// # Errors
    /// In words.
    fn knows(&self, service: &str) -> Result<(), String>;

    /// Whether this may be put there.
    ///
    /// # Errors
    /// In words.
    fn may_put(&self, name: &str, bytes: &[u8]) -> impl Future<Output = Result<(), String>> + Send;

    /// This was put there, and is new.
    fn was_put(&self, name: &str);
}

/// Memory for objects on their way, shared by all connections.
#[derive(Clone, Debug)]
pub struct Room(Arc<Semaphore>);

impl Room {
    /// In MiB.
    const UNIT: u64 = 1 << 20;

    /// For so many bytes; the greatest object fits in any case.
    pub fn new(bytes: u64) -> Self {
        Self(Arc::new(Semaphore::new(units(bytes.max(OBJECT_BYTES_MAX)) as usize)))
    }
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(Room::UNIT).max(1)).unwrap_or(u32::MAX)
}

/// Answers one connection until it ends.
///
/// # Errors
/// The connection failed, or did not keep to the protocol.
pub async fn answer<S, G>(
    conn: Connection<S>,
    bucket: &Bucket,
    guard: &G,
    room: &Room,
) -> Result<(), WireError>
where
    S: AsyncRead + AsyncWrite + Send,
    G: Guard,
{
    let Connection { mut reader, mut writer } = conn;
    writer.set_deadline(SILENCE_MAX);
    reader.set_deadline(SILENCE_MAX);
    let begun = match reader.expect::<Ask>(ASK, "a greeting").await? {
        Ask::Begin { format, .. } if format != FORMAT => Err(format!(
            "this daemon speaks format {FORMAT} and the caller format {format}: use programs of one version"
        )),
        Ask::Begin { service, .. } => guard.knows(&service),
        _ => Err("a caller says first who it is".to_owned()),
    };
    if let Err(why) = begun {
        writer.value(ANSWER, &Answer::Refused(why)).await?;
        writer.close().await;
        return Ok(());
    }
    writer.value(ANSWER, &Answer::Begun).await?;
    // A push may have nothing to ask for long: its sidecars are at work.
    reader.set_deadline(std::time::Duration::from_secs(24 * 3600));
    loop {
        let Some(packet) = reader.read().await? else { return Ok(()) };
        if packet.kind != ASK {
            let got = format!("a packet of kind {}", packet.kind);
            return Err(WireError::Unexpected { got, want: "a request" });
        }
        match stream::codec::decode(&packet.body)? {
            Ask::Begin { .. } => {
                let got = "a second greeting".to_owned();
                return Err(WireError::Unexpected { got, want: "a request" });
            }
            Ask::Head { name } => {
                let answer = match bucket.head(&name).await {
                    Ok(size) => Answer::Size(size),
                    Err(why) => said(&why),
                };
                writer.value(ANSWER, &answer).await?;
            }
            Ask::Get { name, offset, max, whole } => {
                let max = max.min(OBJECT_BYTES_MAX);
                let _room = room.0.acquire_many(units(size_of(bucket, &name, max).await)).await;
                let found = match whole {
                    true => bucket.get(&name, max).await,
                    false => bucket.get_range(&name, offset, max).await,
                };
                give(&mut writer, found).await?;
            }
            Ask::PutNew { name, size } => {
                if size > OBJECT_BYTES_MAX {
                    let got = format!("an object of {size} bytes");
                    return Err(WireError::Unexpected { got, want: "a shorter one" });
                }
                let _room = room.0.acquire_many(units(size)).await;
                reader.set_deadline(SILENCE_MAX);
                let bytes = parts(&mut reader, size).await?;
                reader.set_deadline(std::time::Duration::from_secs(24 * 3600));
                let answer = put(bucket, guard, &name, bytes).await;
                writer.value(ANSWER, &answer).await?;
            }
        }
    }
}

async fn size_of(bucket: &Bucket, name: &str, max: u64) -> u64 {
    bucket.head(name).await.ok().flatten().unwrap_or_default().min(max)
}

async fn put(bucket: &Bucket, guard: &impl Guard, name: &str, bytes: Vec<u8>) -> Answer {
    if let Err(why) = guard.may_put(name, &bytes).await {
        return Answer::Refused(why);
    }
    match bucket.put_new(name, bytes).await {
        Ok(Put::New) => {
            guard.was_put(name);
            Answer::Put { new: true }
        }
        Ok(Put::Exists) => Answer::Put { new: false },
        Err(why) => said(&why),
    }
}

async fn give<S: AsyncRead + AsyncWrite>(
    writer: &mut Writer<WriteHalf<S>>,
    found: Result<Option<Vec<u8>>, StoreError>,
) -> Result<(), WireError> {
    match found {
        Ok(Some(bytes)) => {
            writer.value(ANSWER, &Answer::Bytes(Some(bytes.len() as u64))).await?;
            for part in bytes.chunks(PART_BYTES) {
                writer.packet(PART, &[part]).await?;
            }
            Ok(())
        }
        Ok(None) => writer.value(ANSWER, &Answer::Bytes(None)).await,
        Err(why) => writer.value(ANSWER, &said(&why)).await,
    }
}

fn said(why: &StoreError) -> Answer {
    Answer::Failed(why.to_string())
}

/// So many bytes, part by part.
pub(super) async fn parts<S: AsyncRead>(
    reader: &mut Reader<ReadHalf<S>>,
    size: u64,
) -> Result<Vec<u8>, WireError> {
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    // It grows with what comes: a length alone allocates nothing.
    let mut bytes = Vec::new();
    while bytes.len() < size {
        let packet = reader.read().await?.ok_or(WireError::Closed)?;
        let left = size - bytes.len();
        if packet.kind != PART || packet.body.is_empty() || packet.body.len() > left.min(PART_BYTES)
        {
            let got = format!("a packet of kind {}", packet.kind);
            return Err(WireError::Unexpected { got, want: "a part of an object" });
        }
        bytes.extend_from_slice(&packet.body);
    }
    Ok(bytes)
}
