//! What is on its way to a follower and not acknowledged.

use std::collections::VecDeque;

use wal::Sequence;

/// One frame on its way.
#[derive(Clone, Copy, Debug)]
struct Sent {
    end: Sequence,
    bytes: u64,
    file: u64,
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
        self.sent.push_back(Sent { end, bytes, file });
        self.bytes += bytes;
    }

    /// The follower has staged up to here; the answer is the log file that holds its position.
    pub(super) fn staged(&mut self, end: Sequence) -> Option<u64> {
        let mut file = None;
        while let Some(first) = self.sent.front().filter(|first| first.end <= end) {
            self.bytes -= first.bytes;
            file = Some(first.file);
            self.sent.pop_front();
        }
        file
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
        assert_eq!(window.staged(Sequence(15)), Some(1));
        assert!(window.is_open());
        assert_eq!(window.staged(Sequence(20)), Some(2));
        assert_eq!(window.bytes(), 0);
    }
}
