//! Who has said something lately, as this tool's own clock has it.
//!
//! A member writes its key at each beat. The key of one that has died stays until it ends by itself, so
//! that it is there says little; that it has not changed for two beats says that nobody is at it. Wall clocks say
//! nothing here: another machine's may be off. Nobody's right to write depends on it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use topology::ServiceView;
use topology::record::UnixMs;
use topology::service::MEMBER_BEAT;

/// Who says nothing for longer is not waited for.
pub(crate) const SILENT_MAX: Duration = MEMBER_BEAT.saturating_mul(2);

/// When each proxy's key was last seen to change.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard(BTreeMap<String, (UnixMs, Instant)>);

impl Heard {
    /// Takes note of what the keys say at this moment.
    pub(crate) fn look(&mut self, view: &ServiceView, now: Instant) {
        self.0.retain(|id, _| view.proxies.contains_key(id));
        for (id, proxy) in &view.proxies {
            let held = self.0.entry(id.clone()).or_insert((proxy.at, now));
            if held.0 != proxy.at {
                *held = (proxy.at, now);
            }
        }
    }

    /// For how long this proxy has said nothing, at the least.
    pub(crate) fn silence(&self, id: &str, now: Instant) -> Duration {
        self.0.get(id).map_or(Duration::ZERO, |(_, since)| now.saturating_duration_since(*since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use topology::Epoch;
    use topology::members::ProxyMember;

    fn view(at: &[(&str, u64)]) -> ServiceView {
        let proxy = |(id, at): &(&str, u64)| {
            let member = ProxyMember {
                id: (*id).to_owned(),
                cluster: "a".to_owned(),
                client: "127.0.0.1:1".to_owned(),
                metrics: None,
                pid: 1,
                version: "0".to_owned(),
                epoch: Epoch(1),
                holding: None,
                hold_ms: None,
                zone: None,
                reads: None,
                sees: BTreeMap::new(),
                at: UnixMs(*at),
            };
            ((*id).to_owned(), member)
        };
        ServiceView { proxies: at.iter().map(proxy).collect(), ..ServiceView::default() }
    }

    #[test]
    fn silence_is_counted_from_the_last_change_whatever_the_clocks_say() {
        let began = Instant::now();
        let after = |seconds| began + Duration::from_secs(seconds);
        let mut heard = Heard::default();
        heard.look(&view(&[("p", 9_000_000), ("q", 1)]), began);
        heard.look(&view(&[("p", 9_000_000), ("q", 2)]), after(1));
        assert_eq!(heard.silence("p", after(3)), Duration::from_secs(3));
        assert_eq!(heard.silence("q", after(3)), Duration::from_secs(2));
        assert_eq!(heard.silence("r", after(3)), Duration::ZERO, "nobody knows it");
        // A clock that was set back is a change as well.
        heard.look(&view(&[("p", 5)]), after(4));
        assert_eq!(heard.silence("p", after(4)), Duration::ZERO);
        heard.look(&view(&[("p", 5), ("q", 2)]), after(5));
        assert_eq!(heard.silence("q", after(5)), Duration::ZERO, "it came anew");
    }
}
