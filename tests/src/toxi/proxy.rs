//! A proxy: a listener, an upstream, and the connections between.

use std::io;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::link::{self, End};
use super::toxic::{Stream, Toxic};

/// A proxy of the server.
pub struct Proxy {
    /// Its name.
    pub name: String,
    /// Where it listens; port 0 is replaced by the one that was given.
    pub listen: String,
    /// Where its connections go.
    pub upstream: String,
    toxics: watch::Sender<Arc<Vec<Toxic>>>,
    running: Option<Running>,
}

struct Running {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Proxy {
    /// A proxy that does not listen yet.
    pub fn new(name: String, listen: String, upstream: String) -> Self {
        Self { name, listen, upstream, toxics: watch::Sender::default(), running: None }
    }

    /// Whether it listens.
    pub fn enabled(&self) -> bool {
        self.running.is_some()
    }

    /// Its toxics.
    pub fn toxics(&self) -> Arc<Vec<Toxic>> {
        Arc::clone(&self.toxics.borrow())
    }

    /// Replaces its toxics; live connections follow.
    pub fn set_toxics(&self, toxics: Vec<Toxic>) {
        self.toxics.send_replace(Arc::new(toxics));
    }

    /// Listens.
    pub async fn start(&mut self) -> io::Result<()> {
        if self.running.is_some() {
            return Ok(());
        }
        let listener = TcpListener::bind(&self.listen).await?;
        self.listen = listener.local_addr()?.to_string();
        let running = Running { stop: CancellationToken::new(), tasks: TaskTracker::new() };
        let accept = accept(
            listener,
            self.upstream.clone(),
            self.toxics.subscribe(),
            running.stop.clone(),
            running.tasks.clone(),
        );
        running.tasks.spawn(accept);
        self.running = Some(running);
        Ok(())
    }

    /// Stops listening and closes every connection.
    pub async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop.cancel();
            running.tasks.close();
            running.tasks.wait().await;
        }
    }

    /// As the API shows it.
    pub fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "listen": self.listen,
            "upstream": self.upstream,
            "enabled": self.enabled(),
            "toxics": self.toxics().iter().map(Toxic::to_json).collect::<Vec<_>>(),
        })
    }
}

async fn accept(
    listener: TcpListener,
    upstream: String,
    toxics: link::Toxics,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    loop {
        let client = tokio::select! {
            () = stop.cancelled() => return,
            client = listener.accept() => client,
        };
        let Ok((client, _)) = client else { continue };
        let (upstream, toxics, stop) = (upstream.clone(), toxics.clone(), stop.child_token());
        tasks.spawn(async move {
            // The server is not there: the client sees its connection closed, as with Toxiproxy.
            let Ok(server) = TcpStream::connect(&upstream).await else { return };
            connection(client, server, toxics, stop).await;
        });
    }
}

async fn connection(
    client: TcpStream,
    server: TcpStream,
    toxics: link::Toxics,
    stop: CancellationToken,
) {
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let end = End { close: stop, reset: CancellationToken::new() };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let up = link::run(from_client, to_server, Stream::Upstream, toxics.clone(), end.clone());
    let down = link::run(from_server, to_client, Stream::Downstream, toxics, end);
    tokio::join!(up, down);
}
