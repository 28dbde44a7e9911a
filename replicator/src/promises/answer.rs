//! The other end of a road: has our node promise what a primary's sidecar asks for.

use std::sync::Arc;
use std::time::Duration;

use ops::tls::Socket;
use stream::conn::PING_EVERY;
use stream::message::{self, HAS_PROMISES};
use stream::{Connection, Hello, Message, Versions, Welcome, WireError};
use topology::{Epoch, ShardName};

use crate::sidecar::Sidecar;

/// Serves a primary's sidecar until the connection ends. The registry is not asked: it may be silent, and
/// our node knows what it has seen.
pub(crate) async fn serve(
    mut conn: Connection<Socket>,
    hello: Hello,
    sidecar: Arc<Sidecar>,
) -> Result<(), WireError> {
    let patience = sidecar.config.link.peer_timeout;
    conn.reader.set_deadline(patience);
    conn.writer.set_deadline(patience);
    let (primary, version) = match admit(&hello, &sidecar) {
        Ok(admitted) => admitted,
        Err(sentence) => {
            tracing::info!(from = hello.from, "refused to give promises: {sentence}");
            conn.writer.message(&Message::Refusal { sentence }).await?;
            conn.writer.close().await;
            return Ok(());
        }
    };
    let welcome = Welcome {
        version,
        from: sidecar.shard.to_string(),
        slots: keyspace::SlotSet::default(),
        standings: Vec::new(),
    };
    conn.writer.message(&Message::Welcome(welcome)).await?;
    let Connection { mut reader, mut writer } = conn;
    let mut ping = tokio::time::interval(PING_EVERY);
    let mut node = None;
    loop {
        tokio::select! {
            message = reader.message() => match message? {
                Message::Promise { id, epoch, lease_ms } => {
                    let within = Duration::from_millis(lease_ms).min(patience);
                    let asked = give(&sidecar, &mut node, &primary, Epoch(epoch), lease_ms);
                    let given = match tokio::time::timeout(within, asked).await {
                        Ok(given) => given.map_err(|error| error.to_string()),
                        Err(_) => Err(format!("its node did not answer within {within:?}")),
                    };
                    let answer = match given {
                        Ok(()) => Message::Promised { id },
                        Err(reason) => {
                            // What the node would still answer is another question's.
                            node = None;
                            Message::NoPromise { id, reason }
                        }
                    };
                    writer.message(&answer).await?;
                }
                got => {
                    let got = message::Incoming::Message(got).name();
                    return Err(WireError::Unexpected { got, want: "a question for a promise" });
                }
            },
            _ = ping.tick() => writer.message(&Message::Ping).await?,
        }
    }
}

async fn give(
    sidecar: &Sidecar,
    node: &mut Option<admin::Client>,
    primary: &ShardName,
    epoch: Epoch,
    lease_ms: u64,
) -> Result<(), admin::Error> {
    let client = match node.as_ref().filter(|client| !client.is_closed()) {
        Some(client) => client.clone(),
        None => node.insert(sidecar.node.own_client().await?).clone(),
    };
    client.promise_give(primary, epoch, lease_ms).await
}

/// Who asks, and the version that both speak.
fn admit(hello: &Hello, sidecar: &Sidecar) -> Result<(ShardName, u8), String> {
    let (service, us) = (&sidecar.config.service, &sidecar.shard);
    if hello.service != *service || hello.to != us.to_string() {
        return Err(format!(
            "this is the sidecar of {us} of service `{service}`, not of {} of `{}`: its address is old",
            hello.to, hello.service
        ));
    }
    let version = Versions::OURS.agree(hello.versions)?;
    if version < HAS_PROMISES {
        return Err(
            "promises are of version 5 of the stream protocol: upgrade the caller".to_owned()
        );
    }
    let primary = hello.from.parse().map_err(|error| format!("{error}"))?;
    Ok((primary, version))
}
