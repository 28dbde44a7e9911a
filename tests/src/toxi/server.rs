//! The whole server in a thread of its own, for as long as its handle lives.

use std::io;
use std::net::SocketAddr;
use std::thread::JoinHandle;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::api;

/// A running server.
pub struct Server {
    /// Where its API answers.
    pub address: SocketAddr,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts one on this address (port 0: any free one).
    pub fn start(listen: &str) -> io::Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind(listen))?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("toxiproxy".to_owned()).spawn(move || {
            let serve = axum::serve(listener, api::router(api::Proxies::default()));
            runtime.block_on(async {
                tokio::select! {
                    _ = serve.into_future() => {}
                    () = stopped.cancelled() => {}
                }
            });
            // Its connections end with the runtime.
            runtime.shutdown_background();
        })?;
        Ok(Self { address, stop, thread: Some(thread) })
    }

    /// Waits until it ends (never, unless it fails).
    pub fn join(mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
