//! Where SCAN's pages ended, by number: Redis's cursors are numbers, and our order is by key.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Positions that are remembered; the oldest go first.
const POSITIONS_MAX: usize = 4096;
/// Bytes of keys that are remembered.
const BYTES_MAX: usize = 64 << 20;
/// Cursors stay below 2^53, what every language's numbers hold, with 14 bits for the slot.
const TOKEN_BITS: u32 = 38;

/// Remembers where pages ended. A cursor that was forgotten begins again: at its slot, or at the
/// start of its collection; entries may come twice, as SCAN allows, and none is missed.
#[derive(Debug)]
pub struct Positions(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    next: u64,
    kept: VecDeque<(u64, Box<[u8]>)>,
    bytes: usize,
}

impl Default for Positions {
    fn default() -> Self {
        // Another process's cursors should not mean anything here.
        let next = rand::random::<u64>() >> (64 - TOKEN_BITS + 1);
        Self(Mutex::new(Inner { next, kept: VecDeque::new(), bytes: 0 }))
    }
}

impl Positions {
    /// Remembers a position; its number is not 0.
    pub fn keep(&self, position: &[u8]) -> u64 {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.next = (inner.next + 1) & ((1 << TOKEN_BITS) - 1);
        inner.next = inner.next.max(1);
        let token = inner.next;
        inner.bytes += position.len();
        inner.kept.push_back((token, position.into()));
        while inner.kept.len() > POSITIONS_MAX || inner.bytes > BYTES_MAX {
            let Some((_, old)) = inner.kept.pop_front() else { break };
            inner.bytes -= old.len();
        }
        token
    }

    /// The position of this number, if it is remembered.
    pub fn find(&self, token: u64) -> Option<Box<[u8]>> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.kept.iter().rev().find(|(kept, _)| *kept == token).map(|(_, p)| p.clone())
    }
}
