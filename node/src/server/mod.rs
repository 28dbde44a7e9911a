//! The listener of clients: one acceptor, and I/O threads that read, parse, hand over and answer.
//!
//! Start with [`Server`]; `io` is an I/O thread, `connection` a connection's loop, `input` what
//! turns bytes into requests, `ring` what puts answers back in order, `session` what a connection
//! has said of itself. The other files hold the commands that I/O threads answer by themselves.

mod access;
mod acl;
mod auth;
mod broker;
mod client;
mod cluster;
mod commands;
mod config;
mod connection;
mod hello;
mod help;
mod herald;
mod info;
mod input;
mod io;
mod latency;
mod lifecycle;
mod memory;
mod monitor;
mod pause;
mod probe;
mod pubsub;
mod redact;
mod ring;
mod saving;
mod scripting;
mod seldom;
mod session;
mod slowlog;
mod spares;
mod specs;
mod stream;
mod tracking;
mod transaction;

use std::io::Result;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ops::tls::{Tls, TlsFiles};
use tokio::net::TcpListener;

use crate::command::{Args, Fail, Spec};
use crate::settings;

pub(crate) use cluster::{count_keys, get_keys};
pub(crate) use config::Kept;
pub(crate) use hello::REDIS_VERSION;
pub(crate) use help::help;
pub(crate) use memory::memory;
pub(crate) use saving::fail as save_failed;
pub use session::{Facts, SessionHandler, Shared};
pub(crate) use slowlog::is_slow;
pub(crate) use specs::{CONNECTION, PUBSUB, SERVER, TRANSACTIONS};

/// The most I/O threads that a node can have.
pub const IO_THREADS_MAX: usize = 64;

/// Where clients connect.
pub struct Listeners {
    /// Without TLS.
    pub plain: Option<TcpListener>,
    /// With TLS.
    pub tls: Option<(TcpListener, Tls)>,
}

/// A socket, who is at its other end, and what TLS it speaks.
type Accepted = (tokio::net::TcpStream, SocketAddr, Option<Arc<rustls::ServerConfig>>);

impl Listeners {
    /// Which files TLS uses, and the port that it is spoken at.
    pub fn tls_facts(&self) -> Result<Option<(TlsFiles, u16)>> {
        let facts = |(listener, tls): &(TcpListener, Tls)| {
            Ok((tls.files().clone(), listener.local_addr()?.port()))
        };
        self.tls.as_ref().map(facts).transpose()
    }

    async fn accept(&self) -> Result<Accepted> {
        let plain = async {
            match &self.plain {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        let sealed = async {
            match &self.tls {
                Some((listener, _)) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = plain => accepted.map(|(stream, peer)| (stream, peer, None)),
            accepted = sealed => {
                let config = self.tls.as_ref().map(|(_, tls)| tls.config());
                accepted.map(|(stream, peer)| (stream, peer, config))
            }
        }
    }
}

/// Accepts clients until shutdown, then lets their answers out.
pub struct Server {
    listeners: Listeners,
    shared: Arc<Shared>,
    threads: Vec<io::IoThread>,
}

impl Server {
    /// Starts `io_threads` threads; nothing is accepted before [`Server::run`].
    pub fn new(listeners: Listeners, io_threads: usize, shared: Arc<Shared>) -> Result<Self> {
        assert!((1..=IO_THREADS_MAX).contains(&io_threads), "the configuration bounds the threads");
        scripting::serve(&shared);
        let start = |index| io::IoThread::start(index, shared.clone());
        let threads = (0..io_threads).map(start).collect::<Result<_>>()?;
        Ok(Self { listeners, shared, threads })
    }

    /// Accepts until shutdown is requested; returns when the I/O threads have ended.
    pub async fn run(self) -> Result<()> {
        let shutdown = self.shared.shutdown.clone();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = self.listeners.accept() => match accepted {
                    Ok(accepted) => self.place(accepted),
                    Err(error) => {
                        // Out of file descriptors, most likely: give clients time to leave.
                        tracing::warn!("cannot accept a client: {error}; trying again");
                        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    }
                },
            }
        }
        let threads = self.threads;
        let ended = tokio::task::spawn_blocking(move || {
            threads.into_iter().for_each(io::IoThread::join);
        });
        ended.await.map_err(std::io::Error::other)
    }

    /// Hands a socket to the I/O thread with the fewest.
    fn place(&self, (stream, peer, tls): Accepted) {
        // Under TLS nothing can be said before hands are shaken.
        let refuse = |why: &str| {
            if tls.is_none() {
                let _ = stream.try_write(why.as_bytes());
            }
        };
        let shared = &self.shared;
        shared.stats.connections_received.fetch_add(1, Ordering::Relaxed);
        if shared.clients.len() >= settings::CLIENTS_MAX.get() as usize {
            shared.stats.connections_rejected.fetch_add(1, Ordering::Relaxed);
            refuse("-ERR max number of clients reached\r\n");
            return;
        }
        if settings::PROTECTED.get()
            && !peer.ip().to_canonical().is_loopback()
            && shared.users.needs_no_password()
        {
            shared.stats.connections_rejected.fetch_add(1, Ordering::Relaxed);
            refuse(PROTECTED);
            return;
        }
        let fewest = self.threads.iter().min_by_key(|thread| thread.connections());
        let thread = fewest.expect("there is at least one I/O thread");
        match stream.into_std() {
            Ok(stream) => thread.take((stream, peer, tls)),
            Err(error) => tracing::warn!("cannot hand over client {peer}: {error}"),
        }
    }
}

/// What a client from elsewhere is told while `protected-mode` is on and nobody needs a password.
const PROTECTED: &str = "-DENIED This node runs in protected mode because protected mode is enabled and no password is set for the default user. In this mode connections are only accepted from the loopback interface. Either set a password (CONFIG SET requirepass), or disable protected mode from the same host by CONFIG SET protected-mode no followed by CONFIG REWRITE.\r\n";

/// What Redis says to so many arguments.
fn wrong_number(spec: &Spec) -> Fail {
    Fail::text(format!("ERR wrong number of arguments for '{}' command", spec.name))
}

/// What Redis says where a subcommand is known, and its arguments make no sense.
fn unknown_subcommand_syntax(args: &Args<'_>) -> Fail {
    let name = String::from_utf8_lossy(args.at(0)).to_uppercase();
    let sub = String::from_utf8_lossy(args.get(1).unwrap_or_default());
    Fail::text(format!(
        "ERR unknown subcommand or wrong number of arguments for '{sub}'. Try {name} HELP."
    ))
}
