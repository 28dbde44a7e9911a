//! The admin listener: control commands over a Unix socket or loopback.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use admin::{ARGUMENT_BYTES_MAX, Address};
use anyhow::{Context, bail};
use bytes::BytesMut;
use ops::shutdown::Shutdown;
use resp::command::{Limits, Parser};
use resp::reply::Writer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::Semaphore;

use super::Control;

/// Connections at a time; more wait to be accepted.
const CONNECTIONS_MAX: usize = 64;

/// A bound listener.
#[derive(Debug)]
pub struct Listener {
    address: Address,
    socket: Socket,
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
    /// Binds; only the owner of the process may open a Unix socket.
    pub async fn bind(address: &Address) -> anyhow::Result<Self> {
        match address {
            Address::Unix(path) => {
                let listener = bind_unix(path).await?;
                let socket = Socket::Unix { listener, _file: RemoveAtEnd(path.clone()) };
                Ok(Self { address: address.clone(), socket })
            }
            Address::Loopback(_) => {
                let listener = ops::http::bind("control commands", &address.to_string()).await?;
                let address = Address::Loopback(listener.local_addr()?);
                Ok(Self { address, socket: Socket::Tcp(listener) })
            }
        }
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
                        tokio::spawn(connection(stream, control.clone(), shutdown.clone(), place))
                    }),
                    () = stopped => return,
                },
                Socket::Tcp(listener) => tokio::select! {
                    accepted = listener.accept() => accepted.map(|(stream, _)| {
                        tokio::spawn(connection(stream, control.clone(), shutdown.clone(), place))
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

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    control: Control,
    shutdown: Shutdown,
    _place: tokio::sync::OwnedSemaphorePermit,
) {
    tokio::select! {
        ended = converse(stream, control) => if let Err(why) = ended {
            tracing::debug!("a control connection ended: {why}");
        },
        () = shutdown.cancelled() => {}
    }
}

/// Commands of one connection are carried out one after the other, in order.
async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    control: Control,
) -> io::Result<()> {
    let limits = Limits {
        bulk_bytes: ARGUMENT_BYTES_MAX,
        command_bytes: ARGUMENT_BYTES_MAX + (16 << 20),
        ..Limits::default()
    };
    let mut buffer = BytesMut::with_capacity(64 << 10);
    let mut parser = Parser::new();
    let mut args = Vec::new();
    loop {
        let taken = match parser.next(&mut buffer, &limits, &mut args) {
            Ok(taken) => taken,
            Err(why) => {
                let mut out = Vec::new();
                Writer::new(&mut out, resp::Version::V2).error(&format!("ERR {why}"));
                return stream.write_all(&out).await;
            }
        };
        let Some(taken) = taken else {
            buffer.reserve(16 << 10);
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
            continue;
        };
        let command = buffer.split_to(taken).freeze();
        if args.is_empty() {
            continue;
        }
        let (control, ranges) = (control.clone(), std::mem::take(&mut args));
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
