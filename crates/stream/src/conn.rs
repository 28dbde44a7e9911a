//! Packets over a socket, or over anything like one. Every read and write has a deadline.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};

use wal::Position;

use crate::codec;
use crate::link::{Class, Link};
use crate::message::{Incoming, Message};
use crate::wire::{self, HEADER, Packet, WireError};

/// A peer that is alive says something at least this often.
pub const PING_EVERY: Duration = Duration::from_secs(1);
/// How long a peer may say nothing, or take nothing, before the connection is given up, where
/// nothing else is configured.
pub const SILENCE_MAX: Duration = Duration::from_secs(8);
/// Packets up to this size are copied together before they are written.
const TOGETHER_MAX: usize = 16 << 10;
/// Reads ask for this much at a time.
const READ: usize = 256 << 10;

/// Both halves of a connection.
#[derive(Debug)]
pub struct Connection<S> {
    /// What comes in.
    pub reader: Reader<ReadHalf<S>>,
    /// What goes out.
    pub writer: Writer<WriteHalf<S>>,
}

/// Makes a connection of a socket.
pub fn split<S: AsyncRead + AsyncWrite>(socket: S) -> Connection<S> {
    let (read, write) = tokio::io::split(socket);
    Connection { reader: Reader::new(read), writer: Writer::new(write) }
}

/// Reads packets. `read` may be dropped and called again: nothing is lost.
#[derive(Debug)]
pub struct Reader<R> {
    io: R,
    buf: BytesMut,
    deadline: Duration,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// A reader that gives up after [`SILENCE_MAX`] without a byte.
    pub fn new(io: R) -> Self {
        Self { io, buf: BytesMut::new(), deadline: SILENCE_MAX }
    }

    /// Gives up after this long without a byte instead.
    pub fn set_deadline(&mut self, deadline: Duration) {
        self.deadline = deadline;
    }

    /// What it reads from, with what was read and not asked for thrown away.
    pub fn into_inner(self) -> R {
        self.io
    }

    /// The next packet; `None` when the peer has closed between two of them.
    pub async fn read(&mut self) -> Result<Option<Packet>, WireError> {
        loop {
            if let Some(packet) = wire::take(&mut self.buf)? {
                return Ok(Some(packet));
            }
            self.buf.reserve(READ);
            let read = tokio::time::timeout(self.deadline, self.io.read_buf(&mut self.buf));
            let got = read.await.map_err(|_| WireError::Deadline("send", self.deadline))??;
            if got == 0 {
                return if self.buf.is_empty() { Ok(None) } else { Err(WireError::Closed) };
            }
        }
    }

    /// The next packet of a stream; a closed connection is an error here.
    pub async fn incoming(&mut self) -> Result<Incoming, WireError> {
        Incoming::of(self.read().await?.ok_or(WireError::Closed)?)
    }

    /// The next message; anything else has no place.
    pub async fn message(&mut self) -> Result<Message, WireError> {
        loop {
            match self.incoming().await? {
                Incoming::Message(Message::Ping) => {}
                Incoming::Message(Message::Refusal { sentence }) => {
                    return Err(WireError::Refused(sentence));
                }
                Incoming::Message(Message::NotYet { sentence }) => {
                    return Err(WireError::NotYet(sentence));
                }
                Incoming::Message(message) => return Ok(message),
                other => {
                    return Err(WireError::Unexpected { got: other.name(), want: "a message" });
                }
            }
        }
    }

    /// The next packet, which must be of this kind and hold this type.
    pub async fn expect<T: DeserializeOwned>(
        &mut self,
        kind: u8,
        want: &'static str,
    ) -> Result<T, WireError> {
        let packet = self.read().await?.ok_or(WireError::Closed)?;
        if packet.kind != kind {
            return Err(WireError::Unexpected {
                got: format!("a packet of kind {}", packet.kind),
                want,
            });
        }
        codec::decode(&packet.body)
    }
}

/// Writes packets. A `send` that was dropped half-way leaves the connection useless.
#[derive(Debug)]
pub struct Writer<W> {
    io: W,
    deadline: Duration,
    sent: u64,
    busy: Duration,
    link: Option<(Link, Class)>,
    /// A small packet as a whole.
    whole: Vec<u8>,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    /// A writer that gives up when the peer takes nothing for [`SILENCE_MAX`].
    pub fn new(io: W) -> Self {
        Self {
            io,
            deadline: SILENCE_MAX,
            sent: 0,
            busy: Duration::ZERO,
            link: None,
            whole: Vec::new(),
        }
    }

    /// Gives up after this long instead.
    pub fn set_deadline(&mut self, deadline: Duration) {
        self.deadline = deadline;
    }

    /// From now on what is sent takes its turn on this way out, as of this class.
    pub fn set_link(&mut self, link: Link, class: Class) {
        self.link = Some((link, class));
    }

    /// What is sent from now on is of this class.
    pub fn set_class(&mut self, class: Class) {
        if let Some((_, of)) = &mut self.link {
            *of = class;
        }
    }

    /// How long sending has waited so far: for its turn, and until the socket took it.
    pub fn busy(&self) -> Duration {
        self.busy
    }

    /// Bytes sent so far, headers included.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Sends a control message.
    pub async fn message(&mut self, message: &Message) -> Result<(), WireError> {
        self.value(wire::MESSAGE, message).await
    }

    /// Sends a value in a packet of this kind.
    pub async fn value<T: Serialize>(&mut self, kind: u8, value: &T) -> Result<(), WireError> {
        let body = codec::encode(value)?;
        self.packet(kind, &[&body]).await
    }

    /// Sends a frame as it is.
    pub async fn frame(&mut self, frame: &[u8]) -> Result<(), WireError> {
        self.packet(wire::FRAME, &[frame]).await
    }

    /// Sends a piece of a file.
    pub async fn chunk(&mut self, file: u32, offset: u64, bytes: &[u8]) -> Result<(), WireError> {
        self.packet(wire::CHUNK, &[&file.to_le_bytes(), &offset.to_le_bytes(), bytes]).await
    }

    /// Sends exported records.
    pub async fn exported(&mut self, position: Position, batch: &[u8]) -> Result<(), WireError> {
        let (timeline, sequence) =
            (position.timeline.0.to_le_bytes(), position.sequence.0.to_le_bytes());
        self.packet(wire::EXPORTED, &[&timeline, &sequence, batch]).await
    }

    /// Sends a packet whose body is these parts, one after the other.
    pub async fn packet(&mut self, kind: u8, parts: &[&[u8]]) -> Result<(), WireError> {
        let header = wire::header(kind, parts)?;
        let begun = Instant::now();
        // Messages are few and small, and the peer gives up on who does not send any.
        let waits = ![wire::MESSAGE, wire::EXPORT].contains(&kind);
        let length = HEADER + parts.iter().map(|part| part.len()).sum::<usize>();
        if length <= TOGETHER_MAX {
            // One call of the system, and one record of TLS.
            let mut whole = std::mem::take(&mut self.whole);
            whole.clear();
            whole.extend_from_slice(&header);
            parts.iter().for_each(|part| whole.extend_from_slice(part));
            let passed = self.pass(&whole, waits).await;
            self.whole = whole;
            passed?;
        } else {
            self.pass(&header, waits).await?;
            for part in parts {
                self.pass(part, waits).await?;
            }
        }
        self.sent += length as u64;
        let flush = tokio::time::timeout(self.deadline, self.io.flush());
        flush.await.map_err(|_| WireError::Deadline("take what was sent", self.deadline))??;
        self.busy += begun.elapsed();
        Ok(())
    }

    /// Writes all, each piece when it is its turn.
    async fn pass(&mut self, bytes: &[u8], waits: bool) -> Result<(), WireError> {
        let Some((link, class)) = self.link.clone() else { return self.write(bytes).await };
        if !waits {
            link.count(bytes.len());
            return self.write(bytes).await;
        }
        for piece in bytes.chunks(link.piece(class)) {
            link.take(class, piece.len()).await;
            self.write(piece).await?;
        }
        Ok(())
    }

    /// Writes all; the deadline counts afresh whenever the peer takes something.
    async fn write(&mut self, mut bytes: &[u8]) -> Result<(), WireError> {
        while !bytes.is_empty() {
            let write = tokio::time::timeout(self.deadline, self.io.write(bytes));
            let taken = write
                .await
                .map_err(|_| WireError::Deadline("take what was sent", self.deadline))??;
            if taken == 0 {
                return Err(WireError::Closed);
            }
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    /// Ends the connection in order.
    pub async fn close(&mut self) {
        let _ = tokio::time::timeout(self.deadline, self.io.shutdown()).await;
    }
}
