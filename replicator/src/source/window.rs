//! What is on its way to a follower and not acknowledged.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use wal::Sequence;

/// One frame on its way.
#[derive(Clone, Copy, Debug)]
struct Sent {
    end: Sequence,
    bytes: u64,
    file: u64,
    at: Instant,
}

/// What an acknowledgement was of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Staged {
    /// The log file that holds the follower's position.
    pub(super) file: u64,
    /// How long ago the last frame of it was sent.
    pub(super) after: Duration,
}

/// The frames that the follower has not staged, and how many bytes they may be.
#[derive(Debug)]
pub(super) struct Window {
    limit: u64,
    sent: VecDeque<Sent>,
    bytes: u64,
}

impl Window {
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, sent: VecDeque::new(), bytes: 0 }
    }

    /// Whether a frame may be sent. One always may: a batch can be larger than the window.
    pub(super) fn is_open(&self) -> bool {
        self.bytes < self.limit
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn sent(&mut self, end: Sequence, bytes: u64, file: u64) {
        self.sent.push_back(Sent { end, bytes, file, at: Instant::now() });
        self.bytes += bytes;
    }

    /// The follower has staged up to here.
    pub(super) fn staged(&mut self, end: Sequence) -> Option<Staged> {
        let mut staged = None;
        while let Some(first) = self.sent.front().filter(|first| first.end <= end) {
            self.bytes -= first.bytes;
            staged = Some(Staged { file: first.file, after: first.at.elapsed() });
            self.sent.pop_front();
        }
        staged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_opens_as_frames_are_acknowledged() {
        let mut window = Window::new(100);
        window.sent(Sequence(10), 60, 1);
        assert!(window.is_open());
        window.sent(Sequence(20), 60, 2);
        assert!(!window.is_open());
        assert_eq!(window.staged(Sequence(9)), None);
        assert_eq!(window.staged(Sequence(15)).map(|staged| staged.file), Some(1));
        assert!(window.is_open());
        assert_eq!(window.staged(Sequence(20)).map(|staged| staged.file), Some(2));
        assert_eq!(window.bytes(), 0);
    }
}
