//! Faults on request: a debug build asks the environment whether to go wrong here.
//!
//! `GODWIT_FAILPOINTS=applier-drop:every=1000,spool-full` makes `hit("applier-drop")` true at each
//! thousandth call and `hit("spool-full")` at every call. In a release build `hit` is `false` and
//! nothing is read.

/// Whether the fault of this name should happen now.
#[cfg(debug_assertions)]
pub fn hit(name: &str) -> bool {
    use std::sync::LazyLock;
    static POINTS: LazyLock<points::Points> = LazyLock::new(|| {
        points::Points::parse(&std::env::var("GODWIT_FAILPOINTS").unwrap_or_default())
    });
    POINTS.hit(name)
}

/// Whether the fault of this name should happen now: never in a release build.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn hit(_name: &str) -> bool {
    false
}

#[cfg(debug_assertions)]
mod points {
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// The faults asked for: how often each happens, and its calls so far.
    #[derive(Debug)]
    pub(super) struct Points(BTreeMap<String, (u64, AtomicU64)>);

    impl Points {
        pub(super) fn parse(text: &str) -> Self {
            let point = |part: &str| {
                let (name, every) = part.split_once(":every=").unwrap_or((part, "1"));
                let every = every.parse().ok().filter(|n| *n > 0);
                let Some(every) = every else {
                    panic!("GODWIT_FAILPOINTS: `{part}` should be NAME or NAME:every=COUNT");
                };
                (name.to_owned(), (every, AtomicU64::new(0)))
            };
            Self(text.split(',').map(str::trim).filter(|p| !p.is_empty()).map(point).collect())
        }

        pub(super) fn hit(&self, name: &str) -> bool {
            let Some((every, calls)) = self.0.get(name) else { return false };
            (calls.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(*every)
        }
    }

    #[test]
    fn each_nth_call_is_hit() {
        let points = Points::parse("always, third:every=3");
        let hits = |name| (0..6).filter(|_| points.hit(name)).count();
        assert_eq!((hits("always"), hits("third"), hits("other")), (6, 2, 0));
    }
}
