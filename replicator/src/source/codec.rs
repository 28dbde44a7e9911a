//! Which packing each frame gets: chosen from what each of them was measured to save and to cost, and
//! from how fast the link was measured to be.
//!
//! - While something waits (the log is ahead of us, or the link is full), what counts is speed: the
//!   time that a byte of the log takes to pack or to send, whichever is longer, since both go on at
//!   once. A slow link calls for more effort, a fast one for none.
//! - While nothing waits, what counts is bytes: the smallest packing whose processor time stays within
//!   its share (`compress-cpu`).
//!
//! Now and then a frame is packed in another way than the best, so that what is known of it is true.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use wal::Chain;
use wal::frame::{FrameBuilder, FrameHeader, Packing};

use crate::metrics::Meters;

/// Frames smaller than this say little about a packing.
const TELLING_BYTES: usize = 4 << 10;
/// A packing is tried after so many frames without it that would have told something.
const STALE: u32 = 400;
/// What is not better by this share is not worth more of the processor, or of the link.
const WORTH: f64 = 0.03;
/// How much a new measurement counts.
const NEW: f64 = 0.125;
/// How long the rate of the log is measured.
const RATE_OVER: Duration = Duration::from_secs(1);

/// What the connection knows and who packs should: clones of an `Arc` are shared by both.
#[derive(Debug, Default)]
pub(super) struct LinkView {
    /// Bytes a second that the link takes; 0: not known, it was never full.
    rate: AtomicU64,
    /// How long a frame may gather batches, in microseconds.
    gather_us: AtomicU64,
}

impl LinkView {
    pub(super) fn set_rate(&self, bytes: u64) {
        self.rate.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn set_gather(&self, time: Duration) {
        self.gather_us.store(u64::try_from(time.as_micros()).unwrap_or(0), Ordering::Relaxed);
    }

    pub(super) fn gather(&self) -> Duration {
        Duration::from_micros(self.gather_us.load(Ordering::Relaxed))
    }

    fn rate(&self) -> f64 {
        match self.rate.load(Ordering::Relaxed) {
            0 => f64::INFINITY,
            rate => rate as f64,
        }
    }
}

/// What is known of a packing.
#[derive(Clone, Copy, Debug)]
struct Known {
    packing: Packing,
    /// Bytes packed for one that is not.
    ratio: f64,
    /// Nanoseconds of processor for one byte that is not packed.
    nanos: f64,
    /// Telling frames since it was measured.
    age: u32,
    /// The first measurement takes the guess's place.
    guessed: bool,
}

const fn guess(packing: Packing, ratio: f64, nanos: f64) -> Known {
    Known { packing, ratio, nanos, age: 0, guessed: true }
}

/// Chooses packings for one stream.
#[derive(Debug)]
pub(super) struct Adaptive {
    known: [Known; 5],
    cpu_share: f64,
    counting: Instant,
    counted: usize,
    /// Bytes a second of the log, not packed.
    log_rate: f64,
}

impl Adaptive {
    pub(super) fn new(cpu_share: f64) -> Self {
        // What records like JSON come to; measured from the first frames on.
        let known = [
            guess(Packing::None, 1.0, 0.1),
            guess(Packing::Lz4, 0.6, 2.0),
            guess(Packing::Zstd(1), 0.45, 4.0),
            guess(Packing::Zstd(3), 0.42, 7.0),
            guess(Packing::Zstd(6), 0.39, 20.0),
        ];
        Self { known, cpu_share, counting: Instant::now(), counted: 0, log_rate: 0.0 }
    }

    /// The packing for a frame of so many bytes. `pressed`: something waits for it to be gone.
    fn choose(&self, bytes: usize, link: f64, pressed: bool) -> Packing {
        let best = self.best(link, pressed);
        if bytes >= TELLING_BYTES {
            let affordable = |k: &&Known| k.age > STALE && k.nanos <= 4.0 * best.nanos.max(4.0);
            if let Some(stale) = self.known.iter().filter(affordable).max_by_key(|k| k.age) {
                return stale.packing;
            }
        }
        best.packing
    }

    fn best(&self, link: f64, pressed: bool) -> Known {
        let limit =
            if pressed { f64::INFINITY } else { self.cpu_share * 1e9 / self.log_rate.max(1.0) };
        let speed = |k: &Known| k.nanos.max(k.ratio * 1e9 / link);
        let cost = |k: &Known| if pressed { speed(k) } else { k.ratio };
        let within =
            || self.known.iter().filter(|k| k.nanos <= limit || k.packing == Packing::None);
        let least = within().map(cost).fold(f64::INFINITY, f64::min);
        let alike = || within().filter(|k| cost(k) <= least * (1.0 + WORTH));
        // Of those that are as good, the fewest bytes; of those that are alike in that, the least work.
        let fewest = alike().map(|k| k.ratio).fold(f64::INFINITY, f64::min);
        let fewest = alike().filter(|k| k.ratio <= fewest * (1.0 + WORTH));
        let best = fewest.min_by(|a, b| a.nanos.total_cmp(&b.nanos));
        *best.unwrap_or(&self.known[0])
    }

    /// A frame was packed: `bytes` of the log into `packed`, with this much of the processor.
    fn note(&mut self, packing: Packing, bytes: usize, packed: usize, took: Duration) {
        self.counted += bytes;
        let over = self.counting.elapsed();
        if over >= RATE_OVER {
            self.log_rate = self.counted as f64 / over.as_secs_f64();
            (self.counting, self.counted) = (Instant::now(), 0);
        }
        if bytes < TELLING_BYTES {
            return;
        }
        for known in &mut self.known {
            known.age = known.age.saturating_add(1);
            if known.packing == packing {
                let ratio = packed as f64 / bytes as f64;
                let nanos = took.as_nanos() as f64 / bytes as f64;
                let weight = if known.guessed { 1.0 } else { NEW };
                known.ratio += (ratio - known.ratio) * weight;
                known.nanos += (nanos - known.nanos) * weight;
                (known.age, known.guessed) = (0, false);
            }
        }
    }
}

/// Packs the frames of one stream.
#[derive(Debug)]
pub(super) struct Packer {
    adaptive: Adaptive,
    meters: Meters,
}

impl Packer {
    pub(super) fn new(cpu_share: f64, meters: Meters) -> Self {
        Self { adaptive: Adaptive::new(cpu_share), meters }
    }

    /// The frame of what was pushed; `None` if nothing was.
    pub(super) fn pack(
        &mut self,
        builder: &mut FrameBuilder,
        log_chain: Chain,
        link: &LinkView,
        pressed: bool,
    ) -> Option<Vec<u8>> {
        let bytes = builder.raw_len();
        let packing = self.adaptive.choose(bytes, link.rate(), pressed);
        let begun = processor();
        let frame = builder.finish(packing, log_chain)?;
        let took = processor().saturating_sub(begun);
        self.adaptive.note(packing, bytes, frame.len() - FrameHeader::LEN, took);
        self.meters.packed(packing, bytes as u64, took);
        Some(frame)
    }
}

/// What this thread has had of the processor.
fn processor() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: usize = 256 << 10;

    /// A machine on which each packing has this ratio and these nanoseconds for a byte.
    fn settle(truth: [(f64, f64); 5], link: f64, pressed: bool, log_rate: f64) -> Packing {
        let mut adaptive = Adaptive::new(0.05);
        for _ in 0..4000 {
            adaptive.log_rate = log_rate;
            let packing = adaptive.choose(FRAME, link, pressed);
            let at = adaptive.known.iter().position(|k| k.packing == packing).unwrap();
            let (ratio, nanos) = truth[at];
            let took = Duration::from_nanos((nanos * FRAME as f64) as u64);
            adaptive.note(packing, FRAME, (ratio * FRAME as f64) as usize, took);
        }
        adaptive.log_rate = log_rate;
        adaptive.best(link, pressed).packing
    }

    const TEXT: [(f64, f64); 5] = [(1.0, 0.1), (0.6, 1.5), (0.45, 3.0), (0.40, 6.0), (0.35, 15.0)];
    const NOISE: [(f64, f64); 5] = [(1.0, 0.1), (1.0, 0.5), (1.0, 1.0), (1.0, 2.0), (1.0, 9.0)];

    #[test]
    fn what_is_pressed_goes_as_fast_as_link_and_processor_allow() {
        for (link, want) in [
            (f64::INFINITY, Packing::None),
            (5e9, Packing::None),
            // 3 ns for a byte to pack or 0.45/150e6 s = 3 ns to send.
            (150e6, Packing::Zstd(1)),
            (12e6, Packing::Zstd(6)),
        ] {
            assert_eq!(settle(TEXT, link, true, 1e6), want, "{link}");
        }
        assert_eq!(settle(NOISE, 12e6, true, 1e6), Packing::None, "nothing is gained");
    }

    #[test]
    fn what_is_level_costs_few_bytes_within_its_share_of_the_processor() {
        // 5 % of a second for so many bytes of the log.
        for (log_rate, want) in [
            (1e6, Packing::Zstd(6)),
            (7e6, Packing::Zstd(3)),
            (30e6, Packing::Lz4),
            (1e9, Packing::None),
        ] {
            assert_eq!(settle(TEXT, f64::INFINITY, false, log_rate), want, "{log_rate}");
        }
        assert_eq!(settle(NOISE, f64::INFINITY, false, 1e6), Packing::None);
    }
}
