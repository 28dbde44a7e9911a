//! Random entries of a collection: one pass over it, however many are wanted.

use rand::seq::{IteratorRandom, SliceRandom};

use super::Fail;
use crate::worker::{Head, Key, View};

/// The entries that were drawn.
pub(super) struct Picks {
    /// Subkey and value.
    pub(super) entries: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The most entries that one command draws with repetition; a client can ask again.
const REPEATED_MAX: u64 = 1 << 20;

/// How many entries there are, without fields that have expired and are still counted: looking is
/// needed only where there can be such.
pub(super) fn live(view: &mut View<'_>, key: Key<'_>, head: &Head) -> Result<u64, Fail> {
    if !head.at.may_have_expired(view.now_ms) {
        return Ok(head.at.size);
    }
    let mut fields = view.entries(key, head.at.version)?;
    let mut count = 0;
    while fields.step()?.is_some() {
        count += 1;
    }
    Ok(count)
}

/// `count` different entries, or all; a negative count draws so many, perhaps repeated.
pub(super) fn picks(
    view: &mut View<'_>,
    key: Key<'_>,
    head: &Head,
    count: i64,
) -> Result<Picks, Fail> {
    let wanted = count.unsigned_abs();
    if count < 0 && wanted > REPEATED_MAX {
        return Err(Fail::text("ERR value is out of range"));
    }
    let size = live(view, key, head)?;
    if size == 0 {
        return Ok(Picks { entries: Vec::new() });
    }
    let rng = &mut rand::rng();
    // Which entries, by their index, sorted; an index comes as often as it was drawn.
    let mut indices: Vec<u64> = match count < 0 {
        true => (0..wanted).map(|_| rand::random_range(0..size)).collect(),
        false if wanted >= size => (0..size).collect(),
        false => (0..size).choose_multiple(rng, wanted as usize),
    };
    indices.sort_unstable();
    let mut entries = Vec::with_capacity(indices.len());
    let mut all = view.entries(key, head.at.version)?;
    let mut at = 0;
    let mut wanted = indices.into_iter().peekable();
    while wanted.peek().is_some()
        && let Some((subkey, value)) = all.step()?
    {
        while wanted.next_if_eq(&at).is_some() {
            entries.push((subkey.to_vec(), value.to_vec()));
        }
        at += 1;
    }
    entries.shuffle(rng);
    Ok(Picks { entries })
}
