//! The sidecar never hurts its node: while the node's commands are slow, seeds and what followers
//! have to catch up go slower. The end of the log goes as before.

use std::sync::Arc;
use std::time::Duration;

use crate::sidecar::Sidecar;

/// How often the bound is looked at.
const EVERY: Duration = Duration::from_millis(500);
/// By how much the bound rises in that time while the node is well.
const RISE: f64 = 1.25;
/// From this rate on there is no bound: nothing is sent faster.
const UNBOUNDED: f64 = (4_u64 << 30) as f64;

/// Bounds bulk until shutdown.
pub async fn keep_bounding(sidecar: Arc<Sidecar>) {
    let config = &sidecar.config.link;
    let mut bound = Bound { rate: None, min: config.bulk_rate_min as f64 };
    let mut sent = sidecar.link.bulk_sent();
    let alive = sidecar.node.alive();
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = sidecar.shutdown.cancelled() => return,
        }
        let now = sidecar.link.bulk_sent();
        let rate = (now - sent) as f64 / EVERY.as_secs_f64();
        sent = now;
        let p99_us = alive.borrow().as_ref().and_then(|status| status.p99_us);
        let slow = p99_us.is_some_and(|p99| u128::from(p99) > config.node_p99_max.as_micros());
        let before = bound.rate;
        bound.look(slow, rate);
        if bound.rate == before {
            continue;
        }
        let bytes = bound.rate.map(|rate| rate as u64);
        sidecar.link.bound_bulk(bytes);
        sidecar
            .metrics
            .bulk_bound_bytes
            .set(bytes.map_or(0, |b| i64::try_from(b).unwrap_or(i64::MAX)));
        if before.is_none() {
            let p99_ms = p99_us.unwrap_or_default() / 1000;
            tracing::info!(p99_ms, "the node is slow: seeds and catching up are slowed down");
        } else if bound.rate.is_none() {
            tracing::info!("the node is well: seeds and catching up go at full speed again");
        }
    }
}

/// Halved while the node is slow, and risen step by step when it is well again.
#[derive(Debug)]
struct Bound {
    /// Bytes a second; `None`: none.
    rate: Option<f64>,
    min: f64,
}

impl Bound {
    /// `rate`: bytes a second that went as bulk just now.
    fn look(&mut self, slow: bool, rate: f64) {
        self.rate = match (slow, self.rate) {
            // Without bulk it is not we who slow the node down.
            (true, None) if rate == 0.0 => None,
            (true, held) => {
                Some((held.unwrap_or(rate).min(rate.max(self.min)) / 2.0).max(self.min))
            }
            (false, None) => None,
            (false, Some(held)) => Some(held * RISE).filter(|held| *held < UNBOUNDED),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bulk_halves_while_the_node_is_slow_and_comes_back() {
        let mut bound = Bound { rate: None, min: 1e6 };
        bound.look(true, 0.0);
        assert_eq!(bound.rate, None, "nothing to slow down");
        bound.look(true, 100e6);
        assert_eq!(bound.rate, Some(50e6));
        bound.look(true, 50e6);
        assert_eq!(bound.rate, Some(25e6));
        (0..20).for_each(|_| bound.look(true, 1e6));
        assert_eq!(bound.rate, Some(1e6), "never below the least");
        bound.look(false, 1e6);
        assert_eq!(bound.rate, Some(1.25e6));
        (0..60).for_each(|_| bound.look(false, 1e6));
        assert_eq!(bound.rate, None);
    }
}
