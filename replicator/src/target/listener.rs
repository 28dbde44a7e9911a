//! The listener: the first message says whether a source or a snapshotter calls.

use std::sync::Arc;
use std::time::Duration;

use stream::{Hello, Message, Purpose};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::session;
use crate::export::Exported;
use crate::sidecar::Sidecar;
use crate::transport::HELLO_WITHIN;

/// Connections at a time; a caller beyond it waits in the system's queue.
const CONNECTIONS_MAX: usize = 128;

/// Serves connections until shutdown.
pub async fn listen(listener: TcpListener, sidecar: Arc<Sidecar>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accept = async {
            let place = places.clone().acquire_owned().await;
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            accepted = accept => accepted,
            () = sidecar.shutdown.cancelled() => return,
        };
        let socket = match accepted {
            Ok((socket, _)) => socket,
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let sidecar = sidecar.clone();
        tokio::spawn(async move {
            let _place = place;
            let shutdown = sidecar.shutdown.clone();
            tokio::select! {
                () = serve(socket, sidecar) => {}
                () = shutdown.cancelled() => {}
            }
        });
    }
}

async fn serve(socket: TcpStream, sidecar: Arc<Sidecar>) {
    let peer = socket.peer_addr().map(|a| a.to_string()).unwrap_or_default();
    let socket = match sidecar.transport.answer(socket).await {
        Ok(socket) => socket,
        Err(why) => {
            tracing::warn!(peer, "a connection was refused: {why}");
            return;
        }
    };
    let certificate = socket.peer();
    let mut conn = stream::split(socket);
    conn.reader.set_deadline(HELLO_WITHIN);
    let hello: Hello = match conn.reader.message().await {
        Ok(Message::Hello(hello)) => *hello,
        Ok(_) => return,
        Err(error) => {
            tracing::info!(peer, "a connection that did not introduce itself: {error}");
            return;
        }
    };
    conn.reader.set_deadline(stream::conn::SILENCE_MAX);
    if let Err(sentence) = sidecar.transport.believe(certificate.as_ref(), &hello) {
        tracing::warn!(peer, from = hello.from, "a connection was refused: {sentence}");
        // It may be gone: it will dial again and be told then.
        let _ = conn.writer.message(&Message::Refusal { sentence }).await;
        conn.writer.close().await;
        return;
    }
    match hello.purpose {
        Purpose::Export => {
            match Box::pin(crate::export::serve(conn, &hello, &sidecar.exports)).await {
                Ok(Exported::Asked) => {
                    tracing::info!(
                        from = hello.from,
                        "said whether the log since its snapshot is here"
                    );
                }
                Ok(Exported::Sent { log, bytes }) => {
                    tracing::info!(from = hello.from, log, bytes, "exported a snapshot");
                }
                Err(error) => tracing::warn!(from = hello.from, "an export ended early: {error}"),
            }
        }
        Purpose::Promise => {
            let from = hello.from.clone();
            if let Err(error) = Box::pin(crate::promises::serve(conn, hello, sidecar)).await {
                tracing::debug!(from, "the connection for promises ended: {error}");
            }
        }
        Purpose::Stream => Box::pin(session::serve(conn, hello, sidecar)).await,
    }
}
