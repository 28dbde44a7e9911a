//! The connection to one shard's sidecar: what is asked, and what is believed of the answers.

use std::time::Duration;

use anyhow::{Context, bail};
use ops::tls::{Mutual, PeerName, Socket};
use stream::export::{self, Arrived, Begun, Export, Open, Ready, pinging, send};
use stream::{Connection, Hello, Message, Purpose, Versions, names};
use tokio::net::TcpStream;

use super::discover::Target;

/// How long to wait for the sidecar to take the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A sidecar that exports.
pub(crate) struct Session {
    pub(crate) conn: Connection<Socket>,
}

impl Session {
    /// Connects, and says what is wanted.
    pub(crate) async fn open(
        target: &Target,
        service: &str,
        open: Open,
        tls: Option<&Mutual>,
    ) -> anyhow::Result<Self> {
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(&target.address));
        let socket = connecting
            .await
            .map_err(|_| anyhow::anyhow!("no connection within {CONNECT_TIMEOUT:?}"))
            .and_then(|socket| socket.context("cannot be reached"))?;
        let socket = match tls {
            None => Socket::plain(socket),
            Some(tls) => {
                let shard = &target.shard;
                let name = names::of_shard(service, &shard.cluster, shard.shard);
                tls.connect(socket, &PeerName::new(&name)?, CONNECT_TIMEOUT).await?
            }
        };
        let mut conn = stream::split(socket);
        conn.reader.set_deadline(export::SILENCE_MAX);
        conn.writer.set_deadline(export::SILENCE_MAX);
        let hello = Hello {
            purpose: Purpose::Export,
            versions: Versions::OURS,
            service: service.to_owned(),
            from: format!("snapshotter {}", open.snapshot),
            to: target.shard.to_string(),
            slots: target.slots.clone(),
            history: wal::History::default(),
            epoch: 0,
            families: stream::message::families(),
            encoding: stream::message::ENCODING,
        };
        conn.writer.message(&Message::Hello(Box::new(hello))).await?;
        send(&mut conn.writer, &Export::Open(Box::new(open))).await?;
        Ok(Self { conn })
    }

    /// The next packet.
    pub(super) async fn next(&mut self) -> anyhow::Result<Arrived> {
        Ok(export::next(&mut self.conn.reader).await?)
    }

    /// Sends a message.
    pub(super) async fn say(&mut self, message: &Export) -> anyhow::Result<()> {
        Ok(send(&mut self.conn.writer, message).await?)
    }

    /// Works on something else, and says meanwhile that we are alive.
    pub(super) async fn meanwhile<T>(
        &mut self,
        work: impl Future<Output = T>,
    ) -> anyhow::Result<T> {
        Ok(pinging(&mut self.conn.writer, work).await?)
    }

    /// What each way would take.
    pub(crate) async fn ready(&mut self) -> anyhow::Result<Ready> {
        match self.next().await? {
            Arrived::Message(Export::Ready(ready)) => Ok(*ready),
            other => Err(other.unexpected("Ready").into()),
        }
    }

    /// Begins; if the log cannot be the way after all, with files, and why.
    pub(super) async fn begin(
        &mut self,
        target: &Target,
        service: &str,
        log: bool,
    ) -> anyhow::Result<(Begun, Option<String>)> {
        self.say(&Export::Begin { log }).await?;
        let mut refused = None;
        loop {
            match self.next().await? {
                Arrived::Message(Export::Begun(begun)) => {
                    check(&begun, target, service)?;
                    return Ok((*begun, refused));
                }
                Arrived::Message(Export::NoLog { why }) if log && refused.is_none() => {
                    refused = Some(why);
                    self.say(&Export::Begin { log: false }).await?;
                }
                other => return Err(other.unexpected("Begun").into()),
            }
        }
    }
}

/// Believes nothing that is not as it was asked for.
fn check(begun: &Begun, target: &Target, service: &str) -> anyhow::Result<()> {
    if begun.service != service || begun.shard != target.shard.to_string() {
        bail!("it has a checkpoint of {} of service `{}`", begun.shard, begun.service);
    }
    if begun.slots != target.slots {
        bail!(
            "its node holds the slots {}, and the record says {}: finish the change of slots first",
            begun.slots,
            target.slots
        );
    }
    if begun.files.len() > export::FILES_MAX {
        bail!("its checkpoint has {} files", begun.files.len());
    }
    for file in &begun.files {
        let hashes = file.hashes.as_ref().map_or(file.pieces(), |hashes| hashes.len() as u64);
        if hashes != file.pieces() {
            bail!("its list of files says {hashes} hashes of {}", file.name);
        }
    }
    let pieces = begun.files.iter().try_fold(0_u64, |sum, file| sum.checked_add(file.pieces()));
    if pieces.is_none_or(|pieces| pieces > u64::from(u32::MAX)) {
        bail!("the sizes of its files do not add up");
    }
    Ok(())
}
