//! Lag as a client would see it: a write acknowledged by the active cloud, and the moment at which
//! the standby's node shows it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use keyspace::{Slot, SlotSet};

use crate::client::Client;
use crate::clouds::Cloud;
use crate::wait;

/// How long between two looks at the standby.
const LOOK: Duration = Duration::from_micros(200);
/// How long until a probe counts as this late and is given up.
const LATE_MAX: Duration = Duration::from_secs(10);

/// Samples of lag, in milliseconds.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// One more, in milliseconds.
    pub fn add(&mut self, ms: f64) {
        self.0.push(ms);
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The value that this share of the samples does not exceed; 0 for none.
    pub fn percentile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let at = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(at.saturating_sub(1)).copied().unwrap_or(0.0)
    }
}

/// Writes probes through a proxy for a while and looks for each on its standby node.
pub fn sample(
    proxy: &str,
    standby: &Cloud,
    span: Duration,
    pause: Duration,
    mut show: impl FnMut(&Samples),
) -> Result<Samples> {
    let mut writer = Client::connect(proxy)?;
    let mut nodes = Vec::new();
    for shard in &standby.shards {
        let mut node = Client::connect(&shard.node.client)?;
        node.call(&["READONLY"])?;
        nodes.push((shard.slots.parse::<SlotSet>()?, node));
    }
    let mut samples = Samples::default();
    let start = Instant::now();
    while start.elapsed() < span {
        let key = format!("probe:{}", samples.count());
        let value = format!("{:?}", start.elapsed());
        writer.call(&["SET", &key, &value])?;
        let acknowledged = Instant::now();
        let slot = Slot::of_key(key.as_bytes());
        let node = nodes.iter_mut().find(|(slots, _)| slots.contains(slot));
        let (_, node) = node.context("a slot that no standby node holds")?;
        while node.call(&["GET", &key])?.as_text() != Some(&value) {
            if acknowledged.elapsed() > LATE_MAX {
                break;
            }
            wait::pause(LOOK);
        }
        samples.0.push(acknowledged.elapsed().as_secs_f64() * 1e3);
        show(&samples);
        wait::pause(pause);
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_was_seen() {
        let samples = Samples((1..=100).map(f64::from).collect());
        assert_eq!(samples.percentile(0.5), 50.0);
        assert_eq!(samples.percentile(0.99), 99.0);
        assert_eq!(Samples::default().percentile(0.5), 0.0);
    }
}
