//! Connections to other sidecars and from them, and from snapshotters: TCP, and TLS on it unless it
//! was turned off. Who is at the other end is said by its certificate.

use std::sync::Once;
use std::time::Duration;

use ops::tls::{Mutual, Peer, PeerName, Socket};
use socket2::SockRef;
use stream::wire::MAGIC;
use stream::{Hello, Message, Purpose, names};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};
use topology::ShardName;

/// How long a connection may take to come about.
const DIAL_WITHIN: Duration = Duration::from_secs(3);
/// How long shaking hands may take, and how long a caller may take to say who it is.
pub const HELLO_WITHIN: Duration = Duration::from_secs(5);
/// The first byte of TLS: a handshake record (RFC 8446, 5.1).
const TLS_RECORD: u8 = 22;
/// What is read of a caller that is about to be told that it is wrong here.
const UNREAD_BYTES_MAX: usize = 64 << 10;
/// How long it may take to listen.
const UNREAD_WITHIN: Duration = Duration::from_secs(1);

/// How connections are made. Clones share it.
#[derive(Clone, Debug)]
pub struct Transport {
    service: String,
    tls: Option<Mutual>,
    socket_buffer: Option<u32>,
}

impl Transport {
    /// For sidecars of this service; `socket_buffer`: bytes of the kernel's buffers.
    pub fn new(service: &str, tls: Option<Mutual>, socket_buffer: Option<u32>) -> Self {
        Self { service: service.to_owned(), tls, socket_buffer }
    }

    /// What TLS is made with, if it is spoken.
    pub fn tls(&self) -> Option<&Mutual> {
        self.tls.as_ref()
    }

    /// Dials the sidecar of this shard.
    ///
    /// # Errors
    /// Nobody answers there, or it is not who it should be: in a sentence.
    pub async fn dial(&self, address: &str, shard: &ShardName) -> Result<Socket, String> {
        let dial = tokio::time::timeout(DIAL_WITHIN, self.connect(address));
        let socket = dial
            .await
            .map_err(|_| format!("no connection to {address} within {DIAL_WITHIN:?}"))?
            .map_err(|error| format!("cannot connect to {address}: {error}"))?;
        socket.set_nodelay(true).map_err(|error| format!("no socket to {address}: {error}"))?;
        let Some(tls) = &self.tls else { return Ok(Socket::plain(socket)) };
        let name = self.name_of(shard)?;
        tls.connect(socket, &name, HELLO_WITHIN).await.map_err(|error| error.to_string())
    }

    async fn connect(&self, address: &str) -> std::io::Result<TcpStream> {
        let mut last = None;
        for to in tokio::net::lookup_host(address).await? {
            let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            // Before it connects: how far the window may open is said then.
            size_buffers(&socket, self.socket_buffer);
            match socket.connect(to).await {
                Ok(connected) => return Ok(connected),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| std::io::Error::other("the name has no address")))
    }

    /// Takes a caller in.
    ///
    /// # Errors
    /// It does not speak as we do, or shows no good certificate: in a sentence, which it was told
    /// as far as it can understand.
    pub async fn answer(&self, socket: TcpStream) -> Result<Socket, String> {
        socket.set_nodelay(true).map_err(|error| error.to_string())?;
        let mut first = [0];
        match tokio::time::timeout(HELLO_WITHIN, socket.peek(&mut first)).await {
            Ok(Ok(1)) => {}
            Ok(Ok(_)) => return Err("it hung up before it said a word".to_owned()),
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err(format!("it said nothing within {HELLO_WITHIN:?}")),
        }
        match &self.tls {
            None if first[0] == TLS_RECORD => Err(turn_away(socket, "it speaks TLS and this sidecar does not: give this one a certificate (tls-ca, tls-cert, tls-key), or turn TLS off on both sides").await),
            None => Ok(Socket::plain(socket)),
            Some(_) if first[0] == MAGIC[0] => Err(turn_away(socket, "this sidecar speaks TLS and the caller does not: give the caller a certificate (tls-ca, tls-cert, tls-key)").await),
            Some(tls) => tls.accept(socket, HELLO_WITHIN).await.map_err(|error| error.to_string()),
        }
    }

    /// Whether a caller is who it says it is.
    ///
    /// # Errors
    /// Its certificate has another name: in a sentence, for the caller too.
    pub fn believe(&self, peer: Option<&Peer>, hello: &Hello) -> Result<(), String> {
        let Some(tls) = &self.tls else { return Ok(()) };
        let peer = peer.ok_or("it showed no certificate")?;
        let own = match hello.purpose {
            Purpose::Export => name(&names::of_snapshotter(&self.service))?,
            Purpose::Stream | Purpose::Promise => {
                let shard = hello.from.parse().map_err(|error| format!("{error}"))?;
                self.name_of(&shard)?
            }
        };
        let names: Vec<_> = std::iter::once(own).chain(tls.also().iter().cloned()).collect();
        peer.is_one_of(&names).map_err(|error| error.to_string())
    }

    fn name_of(&self, shard: &ShardName) -> Result<PeerName, String> {
        name(&names::of_shard(&self.service, &shard.cluster, shard.shard))
    }
}

fn name(text: &str) -> Result<PeerName, String> {
    PeerName::new(text).map_err(|error| error.to_string())
}

/// Asks the kernel for buffers of this size, and says so if it gives less.
pub fn size_buffers<'a>(socket: impl Into<SockRef<'a>>, bytes: Option<u32>) {
    static SAID: Once = Once::new();
    let Some(bytes) = bytes else { return };
    let (socket, wanted) = (socket.into(), bytes as usize);
    let set = socket.set_send_buffer_size(wanted).and(socket.set_recv_buffer_size(wanted));
    // The kernel doubles what it was asked for, and shows it doubled (socket(7)).
    let got = set.and(socket.send_buffer_size()).unwrap_or(0) / 2;
    let got = got.min(socket.recv_buffer_size().unwrap_or(0) / 2);
    if got < wanted {
        SAID.call_once(|| {
            tracing::warn!(wanted, got, "the kernel gives smaller socket buffers than --socket-buffer asks for: raise net.core.wmem_max and net.core.rmem_max");
        });
    }
}

/// Tells a caller in plain words that it is wrong here; the answer is what was said. A caller that
/// speaks TLS takes them for a sign that this is none.
async fn turn_away(socket: TcpStream, sentence: &str) -> String {
    let mut conn = stream::split(socket);
    conn.writer.set_deadline(UNREAD_WITHIN);
    // It may be gone.
    let _ = conn.writer.message(&Message::Refusal { sentence: sentence.to_owned() }).await;
    conn.writer.close().await;
    // What it sent must be read: a socket closed over unread bytes takes our word back.
    let mut rest = conn.reader.into_inner().take(UNREAD_BYTES_MAX as u64);
    let mut unread = Vec::new();
    let _ = tokio::time::timeout(UNREAD_WITHIN, rest.read_to_end(&mut unread)).await;
    sentence.to_owned()
}
