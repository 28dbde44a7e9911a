//! Counting requests: each costs money, so what makes them has a budget, which tests hold it to.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a request asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Bytes of an object.
    Get,
    /// To write one.
    Put,
    /// Whether there is one.
    Head,
    /// Which there are.
    List,
    /// To remove one.
    Delete,
}

impl Operation {
    /// All of them, in the order of [`Counts`].
    pub const ALL: [Self; 5] = [Self::Get, Self::Put, Self::Head, Self::List, Self::Delete];

    /// As a label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::Head => "head",
            Self::List => "list",
            Self::Delete => "delete",
        }
    }
}

/// How many requests of each kind were made. What the library behind a bucket tries again, and the
/// parts of a large file, are not counted apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([u64; 5]);

impl Counts {
    /// Of one kind.
    pub fn of(&self, operation: Operation) -> u64 {
        self.0[operation as usize]
    }

    /// Of all kinds.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

#[derive(Debug, Default)]
pub(super) struct Requests([AtomicU64; 5]);

impl Requests {
    pub(super) fn count(&self, operation: Operation) {
        self.0[operation as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Counts {
        Counts(std::array::from_fn(|n| self.0[n].load(Ordering::Relaxed)))
    }
}
