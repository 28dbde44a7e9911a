//! What a script or a function says of itself: Redis's flags.

/// A set of flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ScriptFlags(u8);

impl ScriptFlags {
    /// It writes nothing.
    pub(crate) const NO_WRITES: Self = Self(1);
    /// It may write when memory is short; memory is never that short here.
    const ALLOW_OOM: Self = Self(2);
    /// It may run on a standby that lost its primary.
    const ALLOW_STALE: Self = Self(4);
    /// It does not run in a cluster.
    pub(crate) const NO_CLUSTER: Self = Self(8);
    /// It may touch keys of several slots.
    pub(crate) const ALLOW_CROSS_SLOT: Self = Self(16);

    const NAMES: [(Self, &'static str); 5] = [
        (Self::NO_WRITES, "no-writes"),
        (Self::ALLOW_OOM, "allow-oom"),
        (Self::ALLOW_STALE, "allow-stale"),
        (Self::NO_CLUSTER, "no-cluster"),
        (Self::ALLOW_CROSS_SLOT, "allow-cross-slot-keys"),
    ];

    /// The flag of this name.
    pub(super) fn named(name: &[u8]) -> Option<Self> {
        let found = Self::NAMES.iter().find(|(_, known)| known.as_bytes() == name);
        found.map(|(flag, _)| *flag)
    }

    /// Both.
    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether it has all of these.
    pub(crate) const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Their names.
    pub(crate) fn names(self) -> impl Iterator<Item = &'static str> + Clone {
        Self::NAMES.into_iter().filter(move |(flag, _)| self.has(*flag)).map(|(_, name)| name)
    }
}
