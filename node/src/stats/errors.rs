//! Errors that clients were answered, by their code: INFO errorstats.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Codes beyond so many are counted only in the sum: scripts make up their own.
const CODES_MAX: usize = 128;

static TOTAL: AtomicU64 = AtomicU64::new(0);
static BY_CODE: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());

fn by_code() -> MutexGuard<'static, BTreeMap<String, u64>> {
    BY_CODE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts an error reply: `line` begins with its code.
pub(crate) fn count(line: &str) {
    TOTAL.fetch_add(1, Ordering::Relaxed);
    let code = line.split(' ').next().unwrap_or_default();
    let mut by_code = by_code();
    if let Some(count) = by_code.get_mut(code) {
        *count += 1;
    } else if by_code.len() < CODES_MAX {
        by_code.insert(code.to_owned(), 1);
    }
}

/// All of them.
pub(crate) fn total() -> u64 {
    TOTAL.load(Ordering::Relaxed)
}

/// Each code with its count.
pub(crate) fn all() -> Vec<(String, u64)> {
    by_code().iter().map(|(code, count)| (code.clone(), *count)).collect()
}

/// CONFIG RESETSTAT.
pub(crate) fn reset() {
    TOTAL.store(0, Ordering::Relaxed);
    by_code().clear();
}
