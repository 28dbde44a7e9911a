//! Which compression: more of it while the link is what holds the stream back, none while the
//! processor is.

use wal::frame::Codec;

/// So many frames in a row must say the same before the codec changes.
const STEADY: u32 = 8;

#[derive(Debug, Default)]
pub(super) struct Adaptive {
    /// Frames in a row that waited for the link; negative: that the link waited for.
    pressure: i32,
    level: Level,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Level {
    None,
    #[default]
    Lz4,
    Zstd,
}

impl Adaptive {
    pub(super) fn codec(&self) -> Codec {
        match self.level {
            Level::None => Codec::None,
            Level::Lz4 => Codec::Lz4,
            Level::Zstd => Codec::Zstd,
        }
    }

    /// A frame was handed over. `link_full`: there was no room for it; `behind`: more of the log
    /// was waiting to be read.
    pub(super) fn sent(&mut self, link_full: bool, behind: bool) {
        self.pressure = match (link_full, behind) {
            (true, _) => self.pressure.max(0) + 1,
            (false, true) => self.pressure.min(0) - 1,
            // Level with the log: neither holds anything back.
            (false, false) => 0,
        };
        if self.pressure.unsigned_abs() < STEADY {
            if self.pressure == 0 && self.level == Level::None {
                self.level = Level::Lz4;
            }
            return;
        }
        self.level = match (self.pressure > 0, self.level) {
            (true, Level::None) => Level::Lz4,
            (true, _) => Level::Zstd,
            (false, Level::Zstd) => Level::Lz4,
            (false, _) => Level::None,
        };
        self.pressure = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_link_compresses_more_and_a_busy_processor_less() {
        let mut codec = Adaptive::default();
        let mut say = |full, behind, times| {
            (0..times).for_each(|_| codec.sent(full, behind));
            codec.codec()
        };
        assert_eq!(say(false, false, 20), Codec::Lz4);
        assert_eq!(say(true, true, 8), Codec::Zstd);
        assert_eq!(say(false, true, 8), Codec::Lz4);
        assert_eq!(say(false, true, 8), Codec::None);
        assert_eq!(say(false, false, 1), Codec::Lz4);
    }
}
