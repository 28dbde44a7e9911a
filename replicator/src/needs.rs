//! What a sidecar needs, said before it is missing: a spool for an outage at today's rate, and the time
//! that seeding a follower again would take.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ops::units::{Size, Span};
use topology::members::Needs;

use crate::sidecar::Sidecar;
use crate::spool::LogRate;

/// How often it is reckoned.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often the node is asked how much it holds.
const MEASURE_EVERY: Duration = Duration::from_secs(60);
/// How long it may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How much a look at a seed that is under way counts.
const NEW: f64 = 0.25;

/// What it is reckoned from.
#[derive(Clone, Copy, Debug, Default)]
struct Facts {
    /// Bytes of log a second.
    log_rate: u64,
    /// The outage to be ready for.
    outage: Duration,
    /// The most that the spool may take.
    budget: u64,
    /// What it takes.
    used: u64,
    /// What is free on its volume.
    free: u64,
    /// What has to stay free.
    reserve: u64,
    /// What a seed moves.
    seed_bytes: u64,
    /// What may be sent a second.
    bandwidth: Option<u64>,
}

fn reckon(facts: Facts) -> Needs {
    let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let times = |rate: u64, ms: u64| {
        u64::try_from(u128::from(rate) * u128::from(ms) / 1000).unwrap_or(u64::MAX)
    };
    let room = facts.used.saturating_add(facts.free.saturating_sub(facts.reserve));
    let may = facts.budget.min(room);
    let lasts = |rate: u64| {
        let ms = u128::from(may) * 1000 / u128::from(rate);
        u64::try_from(ms).unwrap_or(u64::MAX)
    };
    Needs {
        log_bytes_per_second: facts.log_rate,
        outage_ms: millis(facts.outage),
        spool_bytes: times(facts.log_rate, millis(facts.outage)),
        spool_budget: facts.budget,
        spool_room: room,
        lasts_ms: (facts.log_rate > 0).then(|| lasts(facts.log_rate)),
        seed_bytes: facts.seed_bytes,
        bandwidth: facts.bandwidth,
    }
}

/// What is lacking, and what to do.
pub fn sentence(needs: &Needs) -> String {
    let span = |ms| Span(Duration::from_millis(ms)).about();
    let lacks = if needs.spool_bytes > needs.spool_budget {
        format!("spool-budget is {}: raise it", Size(needs.spool_budget).about())
    } else {
        let room = Size(needs.spool_room).about();
        format!("its volume has {room} for it: make it larger, or lower spool-free")
    };
    format!(
        "an outage of {} would take {} of the spool at {} a second, as in the busiest hour of the last day, and {lacks}; as it is, followers are lost after {}",
        span(needs.outage_ms),
        Size(needs.spool_bytes).about(),
        Size(needs.log_bytes_per_second).about(),
        needs.lasts_ms.map_or("ever".to_owned(), span)
    )
}

/// How fast each follower was seeded, as seen from what was sent.
#[derive(Debug, Default)]
struct SeedRates {
    rates: BTreeMap<String, f64>,
    sent: BTreeMap<String, u64>,
}

impl SeedRates {
    /// A follower that is being seeded has been sent so much by now.
    fn look(&mut self, follower: &str, seeding: bool, sent: u64, since: Duration) {
        let before = self.sent.insert(follower.to_owned(), sent);
        let moved = before.and_then(|before| sent.checked_sub(before)).unwrap_or(0);
        if !seeding || moved == 0 {
            return;
        }
        let rate = moved as f64 / since.as_secs_f64().max(0.001);
        let held = self.rates.entry(follower.to_owned()).or_insert(rate);
        *held += (rate - *held) * NEW;
    }

    fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.rates.retain(|follower, _| keep(follower));
        self.sent.retain(|follower, _| keep(follower));
    }

    /// Bytes a second that a seed of this follower would go at: as it went, or as the limit says.
    fn of(&self, follower: &str, limit: Option<u64>) -> Option<u64> {
        let measured = self.rates.get(follower).map(|rate| *rate as u64);
        match (measured, limit) {
            (Some(rate), Some(limit)) => Some(rate.min(limit)),
            (rate, limit) => rate.or(limit),
        }
    }
}

/// Reckons until shutdown; says so once where something is lacking.
pub async fn keep_reckoning(sidecar: Arc<Sidecar>) {
    let mut rate = LogRate::open(sidecar.spool.root());
    let (mut seeds, mut seed_bytes) = (SeedRates::default(), 0);
    let (mut looked, mut asked) = (Instant::now(), None::<Instant>);
    let mut short = false;
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = sidecar.shutdown.cancelled() => return,
        }
        if asked.is_none_or(|asked| asked.elapsed() > MEASURE_EVERY)
            && let Some(bytes) = held(&sidecar).await
        {
            (seed_bytes, asked) = (bytes, Some(Instant::now()));
        }
        let since = std::mem::replace(&mut looked, Instant::now()).elapsed();
        let files = sidecar.spool.current().map(|database| sidecar.spool.files(&database));
        rate.look(&files.unwrap_or_default(), ops::clock::unix_ms(), since);
        let limit = sidecar.config.link.bandwidth;
        let gauge = |gauge: &ops::metrics::Gauge| u64::try_from(gauge.get()).unwrap_or(0);
        let needs = reckon(Facts {
            log_rate: rate.busiest(),
            outage: sidecar.config.outage,
            budget: sidecar.config.budget.bytes,
            used: gauge(&sidecar.metrics.spool_bytes),
            free: gauge(&sidecar.metrics.free_bytes),
            reserve: sidecar.config.budget.free,
            seed_bytes,
            bandwidth: limit,
        });
        sidecar.board.count(|notes| {
            seeds.retain(|follower| notes.streams.contains_key(follower));
            for (follower, status) in &mut notes.streams {
                seeds.look(follower, status.state == "seeding", status.seed_bytes, since);
                status.peer.seed_rate = seeds.of(follower, limit);
                status.peer.reseed_ms = status.peer.seed_rate.map(|rate| {
                    let ms = u128::from(seed_bytes) * 1000 / u128::from(rate.max(1));
                    u64::try_from(ms).unwrap_or(u64::MAX)
                });
            }
            notes.needs = Some(needs);
        });
        sidecar.metrics.needs(&needs);
        let now_short = needs.is_short();
        if now_short && !short {
            tracing::warn!("{}", sentence(&needs));
        }
        short = now_short;
    }
}

/// What the node holds, if it says so.
async fn held(sidecar: &Sidecar) -> Option<u64> {
    let ask = async {
        let slots = sidecar.node.known().borrow().as_ref()?.slots.clone();
        let client = sidecar.node.client().await.ok()?;
        Some(client.measure(&slots).await.ok()?.all_bytes)
    };
    tokio::time::timeout(ANSWER_WITHIN, ask).await.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1_000_000_000;

    fn facts() -> Facts {
        Facts {
            log_rate: 10_000_000,
            outage: Duration::from_secs(6 * 3600),
            budget: 300 * GB,
            used: GB,
            free: 500 * GB,
            reserve: GB,
            seed_bytes: 7,
            bandwidth: Some(9),
        }
    }

    #[test]
    fn six_hours_at_ten_megabytes_a_second_are_216_gigabytes() {
        let needs = reckon(facts());
        assert_eq!(
            (needs.spool_bytes, needs.spool_room, needs.seed_bytes),
            (216 * GB, 500 * GB, 7)
        );
        assert_eq!((needs.lasts_ms, needs.bandwidth), (Some(30_000_000), Some(9)));
        assert!(!needs.is_short());
        let little = reckon(Facts { budget: 100 * GB, ..facts() });
        assert!(little.is_short() && sentence(&little).contains("spool-budget"), "{little:?}");
        assert_eq!(little.lasts_ms, Some(10_000_000));
        let full = reckon(Facts { free: 100 * GB, ..facts() });
        assert!(full.is_short() && sentence(&full).contains("volume"), "{}", sentence(&full));
    }

    #[test]
    fn nothing_written_needs_nothing() {
        let needs = reckon(Facts { log_rate: 0, ..facts() });
        assert_eq!((needs.spool_bytes, needs.lasts_ms, needs.is_short()), (0, None, false));
    }

    #[test]
    fn a_seed_goes_as_it_went_or_as_it_may() {
        let mut rates = SeedRates::default();
        assert_eq!(rates.of("b/0", None), None);
        assert_eq!(rates.of("b/0", Some(5)), Some(5));
        let second = Duration::from_secs(1);
        rates.look("b/0", true, 1000, second);
        rates.look("b/0", true, 3000, second);
        rates.look("b/0", false, 9000, second);
        assert_eq!(rates.of("b/0", None), Some(2000));
        assert_eq!(rates.of("b/0", Some(500)), Some(500));
        rates.retain(|_| false);
        assert_eq!(rates.of("b/0", None), None);
    }
}
