//! The admin listeners: control commands over a Unix socket or loopback, and over TCP for tools on
//! other machines.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use admin::{ARGUMENT_BYTES_MAX, Address, Endpoint};
use anyhow::{Context, bail};
use bytes::BytesMut;
use ops::shutdown::Shutdown;
use resp::command::{Limits, Parser};
use resp::reply::Writer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::Control;
use super::guard::{Guard, KNOWN_WITHIN, Login};

/// Connections at a time; more wait to be accepted.
const CONNECTIONS_MAX: usize = 64;

/// The longest argument of who is not known yet, in bytes: a name or a password.
const UNKNOWN_BYTES_MAX: usize = 1 << 10;

/// A bound listener.
pub struct Listener {
    address: Address,
    socket: Socket,
    guard: Arc<Guard>,
}

#[derive(Debug)]
enum Socket {
    Unix { listener: UnixListener, _file: RemoveAtEnd },
    Tcp(TcpListener),
}

/// A socket's file outlives it otherwise.
#[derive(Debug)]
struct RemoveAtEnd(PathBuf);

impl Drop for RemoveAtEnd {
    fn drop(&mut self) {
        // A file that is left is replaced at the next start.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listener {
    /// Binds; only the owner of the process may open a Unix socket. `guard` lets in who comes by
    /// TCP.
    pub(crate) async fn bind(address: &Address, guard: Guard) -> anyhow::Result<Self> {
        const WHAT: &str = "control commands";
        let guard = Arc::new(guard);
        let (address, socket) = match address {
            Address::Unix(path) => {
                let listener = bind_unix(path).await?;
                let socket = Socket::Unix { listener, _file: RemoveAtEnd(path.clone()) };
                (address.clone(), socket)
            }
            Address::Loopback(to) => {
                let listener = ops::http::bind(WHAT, &to.to_string()).await?;
                (Address::Loopback(listener.local_addr()?), Socket::Tcp(listener))
            }
            Address::Tls(to) | Address::Plain(to) => {
                let listener = ops::http::bind(WHAT, &to.to_string()).await?;
                let port = listener.local_addr()?.port();
                let bound = Endpoint { host: to.host.clone(), port };
                let is_tls = matches!(address, Address::Tls(_));
                let address = if is_tls { Address::Tls(bound) } else { Address::Plain(bound) };
                (address, Socket::Tcp(listener))
            }
        };
        Ok(Self { address, socket, guard })
    }

    /// Where it is, with the port that was chosen.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Answers until shutdown.
    pub async fn serve(self, control: Control, shutdown: Shutdown) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let stopped = shutdown.cancelled();
            let served = match &self.socket {
                Socket::Unix { listener, .. } => tokio::select! {
                    accepted = listener.accept() => accepted.map(|(stream, _)| {
                        let talk = converse(stream, control.clone(), None, String::new());
                        drop(tokio::spawn(until_shutdown(talk, shutdown.clone(), place)));
                    }),
                    () = stopped => return,
                },
                Socket::Tcp(listener) => tokio::select! {
                    accepted = listener.accept() => accepted.map(|(stream, from)| {
                        let talk = receive(stream, from, control.clone(), self.guard.clone());
                        drop(tokio::spawn(until_shutdown(talk, shutdown.clone(), place)));
                    }),
                    () = stopped => return,
                },
            };
            if let Err(why) = served {
                tracing::warn!("accepting a control connection failed: {why}");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}

async fn bind_unix(path: &Path) -> anyhow::Result<UnixListener> {
    let shown = path.display();
    if let Ok(found) = std::fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            bail!(
                "cannot listen for control commands at {shown}: a file is there that is no socket"
            );
        }
        if UnixStream::connect(path).await.is_ok() {
            bail!("cannot listen for control commands at {shown}: another process listens there");
        }
        std::fs::remove_file(path).with_context(|| format!("removing the old socket {shown}"))?;
    }
    // Bound under another name, so that nobody can open it before it is closed to others.
    let hidden = path.with_extension("binding");
    let _ = std::fs::remove_file(&hidden);
    let listener = UnixListener::bind(&hidden).with_context(|| {
        format!("cannot listen for control commands at {shown} (a path may have about 100 bytes)")
    })?;
    std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(0o600))
        .and_then(|()| std::fs::rename(&hidden, path))
        .with_context(|| format!("cannot make the control socket {shown}"))?;
    Ok(listener)
}

async fn until_shutdown(
    talk: impl Future<Output = io::Result<()>>,
    shutdown: Shutdown,
    _place: tokio::sync::OwnedSemaphorePermit,
) {
    tokio::select! {
        ended = talk => if let Err(why) = ended {
            tracing::debug!("a control connection ended: {why}");
        },
        () = shutdown.cancelled() => {}
    }
}

async fn receive(
    stream: TcpStream,
    from: SocketAddr,
    control: Control,
    guard: Arc<Guard>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match guard.receive(stream).await {
        Ok((socket, login)) => converse(socket, control, login, from.to_string()).await,
        Err(why) => {
            tracing::warn!("a control connection from {from} was refused: {why}");
            Ok(())
        }
    }
}

/// Commands of one connection are carried out one after the other, in order. With a `login` the
/// first of them must say it.
async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    control: Control,
    mut login: Option<&Login>,
    from: String,
) -> io::Result<()> {
    let known = Limits {
        bulk_bytes: ARGUMENT_BYTES_MAX,
        command_bytes: ARGUMENT_BYTES_MAX + (16 << 20),
        ..Limits::default()
    };
    let unknown = Limits {
        bulk_bytes: UNKNOWN_BYTES_MAX,
        command_bytes: 4 * UNKNOWN_BYTES_MAX,
        ..Limits::default()
    };
    let deadline = Instant::now() + KNOWN_WITHIN;
    let mut buffer = BytesMut::with_capacity(16 << 10);
    let mut parser = Parser::new();
    let mut args = Vec::new();
    loop {
        let limits = if login.is_some() { &unknown } else { &known };
        let taken = match parser.next(&mut buffer, limits, &mut args) {
            Ok(taken) => taken,
            Err(why) => return stream.write_all(&error(&format!("ERR {why}"))).await,
        };
        let Some(taken) = taken else {
            buffer.reserve(16 << 10);
            let read = stream.read_buf(&mut buffer);
            let got = match login {
                None => read.await?,
                Some(_) => tokio::time::timeout_at(deadline, read).await??,
            };
            if got == 0 {
                return Ok(());
            }
            continue;
        };
        let command = buffer.split_to(taken).freeze();
        if args.is_empty() {
            continue;
        }
        let ranges = std::mem::take(&mut args);
        if let Some(asked) = login.take() {
            let args: Vec<&[u8]> = ranges.iter().map(|range| &command[range.clone()]).collect();
            if let Err(why) = asked.check(&args) {
                tracing::warn!("a control connection from {from} was refused: {why}");
                return stream.write_all(&error(&why.to_string())).await;
            }
            stream.write_all(b"+OK\r\n").await?;
            continue;
        }
        let control = control.clone();
        let answered = tokio::task::spawn_blocking(move || {
            let args: Vec<&[u8]> = ranges.iter().map(|range| &command[range.clone()]).collect();
            let mut out = Vec::new();
            control.answer(&args, &mut out);
            out
        });
        let out = answered.await.map_err(io::Error::other)?;
        stream.write_all(&out).await?;
    }
}

fn error(line: &str) -> Vec<u8> {
    let mut out = Vec::new();
    Writer::new(&mut out, resp::Version::V2).error(line);
    out
}
