//! The life of a connection: connect, say hello, carry commands, break, wait, again.

use std::future::poll_fn;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Buf;
use rand::Rng;
use resp::Version;
use resp::reply::Reply;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Backend;
use super::io::Input;
use crate::thread::Thread;

/// Between two attempts to connect, doubled from the first to the last, with jitter.
const BACKOFF_MIN: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// An answer to the hello is not longer.
const HELLO_BYTES_MAX: usize = 64 << 10;
/// The kernel gives a silent peer up after this.
const USER_TIMEOUT: Duration = Duration::from_secs(15);

/// Keeps a connection up until it is retired or the thread ends.
pub(crate) async fn run(backend: Rc<Backend>, thread: Rc<Thread>) {
    let mut backoff = BACKOFF_MIN;
    let mut said = false;
    while !backend.is_retired() {
        let limit = thread.shared.config.connect_timeout;
        let connected = tokio::time::timeout(limit, connect(&backend, &thread)).await;
        let connected =
            connected.unwrap_or_else(|_| Err(format!("no answer within {} ms", limit.as_millis())));
        match connected {
            Ok((mut stream, mut input)) => {
                if !backend.up(Instant::now()) {
                    return;
                }
                tracing::debug!(address = %backend.address, "connected to the node");
                (backoff, said) = (BACKOFF_MIN, false);
                thread.shared.stats.connected.inc();
                thread.wake_held();
                let why = poll_fn(|cx| backend.poll(&thread, &mut stream, &mut input, cx)).await;
                thread.shared.stats.connected.dec();
                let waiting = backend.broken(&thread, &why);
                waiting.iter().for_each(|client| client.wake());
                if backend.is_retired() {
                    return;
                }
                thread.shared.stats.reconnects.inc();
                tracing::warn!(address = %backend.address, %why, "the connection to the node broke; connecting again");
            }
            // Once for each outage; metrics have the rest.
            Err(why) if !said && !backend.is_retired() => {
                tracing::warn!(address = %backend.address, %why, "cannot reach the node; commands for it wait");
                said = true;
            }
            Err(_) => {}
        }
        let jitter = rand::rng().random_range(0.5..1.0);
        tokio::time::sleep(backoff.mul_f64(jitter)).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

async fn connect(backend: &Backend, thread: &Thread) -> Result<(TcpStream, Input), String> {
    let text = |why: std::io::Error| why.to_string();
    let mut stream = TcpStream::connect(&*backend.address).await.map_err(text)?;
    stream.set_nodelay(true).map_err(text)?;
    let socket = SockRef::from(&stream);
    let alive = TcpKeepalive::new()
        .with_time(Duration::from_secs(5))
        .with_interval(Duration::from_secs(2))
        .with_retries(3);
    socket.set_tcp_keepalive(&alive).map_err(text)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT)).map_err(text)?;
    let mut hello = Vec::new();
    let mut answers = 0;
    if backend.version == Version::V3 {
        resp::command::write(&mut hello, &[b"HELLO", b"3"]);
        answers += 1;
    }
    if backend.standby {
        resp::command::write(&mut hello, &[b"READONLY"]);
        answers += 1;
    }
    if thread.has_service() {
        resp::command::write(&mut hello, &[b"GODWIT.HOLD"]);
        answers += 1;
    }
    stream.write_all(&hello).await.map_err(text)?;
    let mut input = Input::default();
    while answers > 0 {
        if let Some((reply, length)) = Reply::parse(&input.bytes).map_err(|e| e.to_string())? {
            if let Some(error) = reply.as_error() {
                return Err(format!("the node refused the connection: {error}"));
            }
            input.bytes.advance(length);
            answers -= 1;
            continue;
        }
        if input.bytes.len() > HELLO_BYTES_MAX {
            return Err("the node's answer to the hello is too long".to_owned());
        }
        if stream.read_buf(&mut input.bytes).await.map_err(text)? == 0 {
            return Err("the node closed the connection".to_owned());
        }
    }
    Ok((stream, input))
}
