//! The way out of a sidecar, shared by all its connections: a bound on bytes a second, and who goes
//! first under it.
//!
//! What is *live* (frames at the end of the log) goes before what is *bulk* (seeds, and frames of a
//! follower that is far behind). Bulk is never starved: while both wait, it gets one byte in eight,
//! so that a seed ends. Within each kind connections take turns, piece by piece. Bulk can be bounded
//! further by itself, for the time that the node is busy.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Which turn bytes take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The end of the log: somebody's lag.
    Live,
    /// Seeds and what a follower has to catch up.
    Bulk,
}

/// How many bytes go live for one of bulk while both wait, less one.
const LIVE_WEIGHT: f64 = 7.0;
/// What may go at once after a pause, as time at the rate.
const BURST: Duration = Duration::from_millis(20);
/// The least wait: timers are not finer.
const WAIT_MIN: Duration = Duration::from_millis(1);
/// The longest wait before it is looked again whether the bound has changed.
const WAIT_MAX: Duration = Duration::from_millis(100);
/// Pieces under a bound are what goes in this time, so that turns change often.
const TURN: Duration = Duration::from_millis(10);
/// A piece is no smaller than this, whatever the bound.
const PIECE_MIN: usize = 4 << 10;

/// The way out. Clones share it.
#[derive(Clone, Debug)]
pub struct Link(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Whether anything is bounded now: without a bound nobody takes a lock.
    bounded: AtomicBool,
    bulk_sent: AtomicU64,
    turns: Mutex<Turns>,
    /// Who waits of each kind, in order; one of each waits for room.
    live: tokio::sync::Mutex<()>,
    bulk: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Turns {
    all: Option<Bucket>,
    bulk: Option<Bucket>,
    live_waits: bool,
    bulk_waits: bool,
    /// Bytes that went, each kind's by its weight; only the difference counts.
    live_went: f64,
    bulk_went: f64,
}

/// A token bucket that may go into debt: whoever finds it not empty goes.
#[derive(Debug)]
struct Bucket {
    rate: f64,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn new(rate: u64) -> Self {
        Self { rate: rate.max(1) as f64, tokens: 0.0, at: Instant::now() }
    }

    /// How long until it is not empty.
    fn wait(&mut self) -> Duration {
        let now = Instant::now();
        let came = now.saturating_duration_since(self.at).as_secs_f64() * self.rate;
        self.at = now;
        self.tokens = (self.tokens + came).min(self.rate * BURST.as_secs_f64());
        Duration::from_secs_f64((-self.tokens / self.rate).max(0.0))
    }
}

impl Turns {
    /// How long this kind has to wait; none: it may go.
    fn wait(&mut self, class: Class) -> Option<Duration> {
        let all = self.all.as_mut().map_or(Duration::ZERO, Bucket::wait);
        let own = match class {
            Class::Live => Duration::ZERO,
            Class::Bulk => self.bulk.as_mut().map_or(Duration::ZERO, Bucket::wait),
        };
        let wait = all.max(own);
        if !wait.is_zero() {
            return Some(wait);
        }
        let (other_waits, behind) = match class {
            Class::Live => {
                // Bulk that is held back by its own bound waits for that, and holds nobody up.
                let free = self.bulk.as_mut().is_none_or(|bulk| bulk.wait().is_zero());
                (self.bulk_waits && free, self.live_went > self.bulk_went)
            }
            Class::Bulk => (self.live_waits, self.bulk_went >= self.live_went),
        };
        // The other one's turn; it is about to wake.
        (other_waits && behind && self.all.is_some()).then_some(WAIT_MIN)
    }

    fn go(&mut self, class: Class, bytes: usize) {
        let bytes = bytes as f64;
        if let Some(all) = &mut self.all {
            all.tokens -= bytes;
        }
        // Who comes back after a time without waiting has saved nothing up.
        match class {
            Class::Live => {
                self.live_went += bytes / LIVE_WEIGHT;
                if !self.bulk_waits {
                    self.bulk_went = self.bulk_went.max(self.live_went);
                }
            }
            Class::Bulk => {
                if let Some(bulk) = &mut self.bulk {
                    bulk.tokens -= bytes;
                }
                self.bulk_went += bytes;
                if !self.live_waits {
                    self.live_went = self.live_went.max(self.bulk_went);
                }
            }
        }
    }
}

impl Link {
    /// A way out of this many bytes a second; `None`: as many as the network takes.
    pub fn new(rate: Option<u64>) -> Self {
        Self(Arc::new(Shared {
            bounded: AtomicBool::new(rate.is_some()),
            bulk_sent: AtomicU64::new(0),
            turns: Mutex::new(Turns {
                all: rate.map(Bucket::new),
                bulk: None,
                live_waits: false,
                bulk_waits: false,
                live_went: 0.0,
                bulk_went: 0.0,
            }),
            live: tokio::sync::Mutex::new(()),
            bulk: tokio::sync::Mutex::new(()),
        }))
    }

    /// Bounds bulk to this many bytes a second beside the bound on all; `None`: no more.
    pub fn bound_bulk(&self, rate: Option<u64>) {
        let mut turns = self.turns();
        turns.bulk = rate.map(Bucket::new);
        self.0.bounded.store(turns.all.is_some() || turns.bulk.is_some(), Ordering::Release);
    }

    /// Bytes that went as bulk so far.
    pub fn bulk_sent(&self) -> u64 {
        self.0.bulk_sent.load(Ordering::Relaxed)
    }

    /// The most bytes of this class to ask for at a time.
    pub fn piece(&self, class: Class) -> usize {
        if !self.0.bounded.load(Ordering::Acquire) {
            return usize::MAX;
        }
        let turns = self.turns();
        let own = turns.bulk.as_ref().filter(|_| class == Class::Bulk);
        let buckets = [turns.all.as_ref(), own].into_iter().flatten();
        let rate = buckets.map(|bucket| bucket.rate).fold(f64::INFINITY, f64::min);
        ((rate * TURN.as_secs_f64()) as usize).max(PIECE_MIN)
    }

    /// Waits until these bytes may go. Dropped before that, it is as if nobody had asked.
    pub async fn take(&self, class: Class, bytes: usize) {
        if class == Class::Bulk {
            self.0.bulk_sent.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        if !self.0.bounded.load(Ordering::Acquire) {
            return;
        }
        let _place = match class {
            Class::Live => self.0.live.lock().await,
            Class::Bulk => self.0.bulk.lock().await,
        };
        let _waiting = Waiting::of(self, class);
        loop {
            let wait = {
                let mut turns = self.turns();
                match turns.wait(class) {
                    None => {
                        turns.go(class, bytes);
                        return;
                    }
                    Some(wait) => wait,
                }
            };
            tokio::time::sleep(wait.clamp(WAIT_MIN, WAIT_MAX)).await;
        }
    }

    /// Counts bytes that do not wait: a few, without which the other end would give us up.
    pub fn count(&self, bytes: usize) {
        if self.0.bounded.load(Ordering::Acquire) {
            self.turns().go(Class::Live, bytes);
        }
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.0.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for(&self, class: Class, waits: bool) {
        let mut turns = self.turns();
        match class {
            Class::Live => turns.live_waits = waits,
            Class::Bulk => turns.bulk_waits = waits,
        }
    }
}

/// That somebody of a kind waits for room; one at a time, who holds the kind's place.
struct Waiting<'a>(&'a Link, Class);

impl<'a> Waiting<'a> {
    fn of(link: &'a Link, class: Class) -> Self {
        link.wait_for(class, true);
        Self(link, class)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.wait_for(self.1, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u64 = 4 << 20;
    const PIECE: usize = 16 << 10;

    /// Sends pieces until the time is over, and says how many bytes that came to.
    async fn flood(link: &Link, class: Class, within: Duration) -> u64 {
        let (begun, mut bytes) = (Instant::now(), 0);
        while begun.elapsed() < within {
            link.take(class, PIECE).await;
            bytes += PIECE as u64;
        }
        bytes
    }

    #[tokio::test]
    async fn no_more_goes_than_the_rate_and_live_goes_first() {
        let link = Link::new(Some(RATE));
        let within = Duration::from_millis(500);
        let (live, a, b) = tokio::join!(
            flood(&link, Class::Live, within),
            flood(&link, Class::Bulk, within),
            flood(&link, Class::Bulk, within)
        );
        let all = live + a + b;
        // The burst, and a piece of each that was on its way at the end.
        let most = RATE / 2 + RATE / 50 + 3 * PIECE as u64;
        assert!(all <= most, "{all} bytes went, {most} might have");
        assert!(live > 3 * (a + b), "live {live}, bulk {a} and {b}");
        assert!(a + b > all / 20, "a seed ends: live {live}, bulk {a} and {b}");
        assert!(a.abs_diff(b) <= 2 * PIECE as u64, "they take turns: {a} and {b}");
    }

    #[tokio::test]
    async fn a_live_frame_waits_for_one_piece_of_a_seed_and_no_more() {
        let link = Link::new(Some(RATE));
        let seed = link.clone();
        let seeding =
            tokio::spawn(async move { flood(&seed, Class::Bulk, Duration::from_secs(60)).await });
        let mut longest = Duration::ZERO;
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let begun = Instant::now();
            link.take(Class::Live, 300).await;
            longest = longest.max(begun.elapsed());
        }
        seeding.abort();
        // A piece takes 4 ms; a busy machine wakes tasks late.
        assert!(longest < Duration::from_millis(150), "{longest:?}");
    }

    #[tokio::test]
    async fn bulk_that_is_held_back_holds_nothing_live_up() {
        let link = Link::new(Some(64 * RATE));
        link.bound_bulk(Some(RATE / 16));
        let within = Duration::from_millis(300);
        let (live, bulk) =
            tokio::join!(flood(&link, Class::Live, within), flood(&link, Class::Bulk, within));
        assert!(live > 40 * bulk, "live {live}, bulk {bulk}");
    }

    #[tokio::test]
    async fn bulk_can_be_bounded_alone() {
        let link = Link::new(None);
        assert_eq!(link.piece(Class::Bulk), usize::MAX);
        link.bound_bulk(Some(RATE));
        assert_eq!(link.piece(Class::Bulk), 41_943);
        let within = Duration::from_millis(300);
        let begun = Instant::now();
        let bulk = flood(&link, Class::Bulk, within).await;
        let most = (begun.elapsed().as_secs_f64() * RATE as f64) as u64 + 2 * RATE / 50;
        assert!(bulk <= most, "{bulk} bytes, {most} might have gone");
        let begun = Instant::now();
        for _ in 0..1000 {
            link.take(Class::Live, 1 << 20).await;
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "live is not bounded");
        link.bound_bulk(None);
        assert_eq!(link.piece(Class::Bulk), usize::MAX);
        assert_eq!(link.bulk_sent(), bulk);
    }
}
