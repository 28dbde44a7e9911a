//! Until when a primary that cannot be reached may write: by its lease, and by what others have promised it
//! while the registry was silent to it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use topology::promises::{Silence, silence};
use topology::{Epoch, ServiceView, ShardName};

/// Added to what is waited out here: a clock of another machine may run a little slower.
pub(crate) const MARGIN: Duration = Duration::from_millis(100);
/// The part of a promise by which that clock may be slower.
const DRIFT_PART: u32 = 50;

/// What was seen of promises, and when: they end by the clock of this process.
#[derive(Debug, Default)]
pub(crate) struct Promised {
    ends: BTreeMap<(ShardName, ShardName), Instant>,
}

impl Promised {
    /// When what this primary was promised has ended: with the first of those whom it must all ask. `None`:
    /// it asks nobody.
    ///
    /// # Errors
    /// None of these has said yet that it gives no promises any more.
    pub(crate) fn ends(
        &mut self,
        view: &ServiceView,
        primary: &ShardName,
        epoch: Epoch,
    ) -> Result<Option<Instant>, BTreeSet<ShardName>> {
        let ends = match silence(view, primary, epoch) {
            Silence::Lease => return Ok(None),
            Silence::Unknown(of) => return Err(of),
            Silence::Ends(ends) => ends,
        };
        let now = Instant::now();
        let ends = ends.into_iter().map(|(promiser, left)| {
            // It was told before now, so it ends before this. What is told later is not longer.
            let margin = if left.is_zero() { Duration::ZERO } else { MARGIN + left / DRIFT_PART };
            let end = now + left + margin;
            *self.ends.entry((primary.clone(), promiser)).or_insert(end)
        });
        Ok(ends.min())
    }
}

/// In words, for who waits.
pub(crate) fn unknown(primary: &ShardName, of: &BTreeSet<ShardName>) -> String {
    if of.is_empty() {
        return format!(
            "{primary} named nobody who could take over when it last reached the registry: end its process, and its sidecar reads its log"
        );
    }
    let of: Vec<_> = of.iter().map(ToString::to_string).collect();
    format!(
        "{primary} may write on by the promises of {}, and none of them has said yet that it gives none any more (one is enough; or end the process of {primary}, and its sidecar reads its log)",
        of.join(", ")
    )
}
