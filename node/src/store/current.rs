//! The handle through which everyone finds the store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

use super::Store;

/// Where the open store is, if there is one now. Cheap to clone.
///
/// Whoever loads it keeps it for one batch of work only: a swap waits until nobody holds it.
#[derive(Clone, Debug, Default)]
pub struct Current(Arc<ArcSwapOption<Store>>);

impl Current {
    /// A handle to this store.
    pub fn new(store: Arc<Store>) -> Self {
        Self(Arc::new(ArcSwapOption::new(Some(store))))
    }

    /// The shared cell itself, as workers hold it.
    pub fn handle(&self) -> Arc<ArcSwapOption<Store>> {
        self.0.clone()
    }

    /// The store; `None` while the database is being swapped or opened again.
    pub fn load(&self) -> Option<Arc<Store>> {
        self.0.load_full()
    }

    /// Everyone finds this store from now on.
    pub fn set(&self, store: Arc<Store>) {
        self.0.store(Some(store));
    }

    /// Takes the store away and waits until nobody else holds it; gives it back where somebody
    /// still does after `patience`, with the handle as it was.
    pub fn take(&self, patience: Duration) -> Option<Store> {
        let mut store = self.0.swap(None)?;
        let deadline = Instant::now() + patience;
        loop {
            store = match Arc::try_unwrap(store) {
                Ok(store) => return Some(store),
                Err(shared) => shared,
            };
            if Instant::now() >= deadline {
                self.set(store);
                return None;
            }
            // Holders let go at the end of a batch; there is nothing to be notified by.
            #[allow(clippy::disallowed_methods)]
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
