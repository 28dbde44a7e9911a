//! A clean end: one token that every task watches.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A request to stop, shared by all tasks of a process. Clones are the same request.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// A request that nothing has made yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A request that SIGTERM or SIGINT makes. A second signal ends the process at once, for
    /// whoever does not want to wait; a storage process loses nothing by that.
    pub fn on_signals() -> std::io::Result<Self> {
        let (mut term, mut int) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let shutdown = Self::new();
        let request = shutdown.clone();
        tokio::spawn(async move {
            for first in [true, false] {
                let name = tokio::select! {
                    _ = term.recv() => "SIGTERM",
                    _ = int.recv() => "SIGINT",
                };
                if first {
                    tracing::info!("{name}: stopping");
                    request.request();
                } else {
                    tracing::warn!("{name} again: ending at once");
                    std::process::exit(130);
                }
            }
        });
        Ok(shutdown)
    }

    /// Asks everyone to stop.
    pub fn request(&self) {
        self.0.cancel();
    }

    /// Whether someone asked.
    pub fn is_requested(&self) -> bool {
        self.0.is_cancelled()
    }

    /// The token, for what takes one.
    pub fn token(&self) -> CancellationToken {
        self.0.clone()
    }

    /// Resolves once someone asks.
    pub fn cancelled(&self) -> WaitForCancellationFutureOwned {
        self.0.clone().cancelled_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_clone_hears_of_it() {
        let shutdown = Shutdown::new();
        let waiter = tokio::spawn(shutdown.clone().cancelled());
        assert!(!shutdown.is_requested());
        shutdown.request();
        waiter.await.unwrap();
        assert!(shutdown.is_requested() && shutdown.token().is_cancelled());
    }
}
