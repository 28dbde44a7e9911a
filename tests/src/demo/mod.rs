//! The tour that `make demo` shows: load, seed, follow, switch, go back, crash, fail over.
//!
//! Every number on the screen and in `report.json` is measured in this run by clients, by the
//! checker, or read from the programs' own counters.
//!
//! - [`tour`]: the steps in order. [`lag`]: how far the standby is behind, as a client sees it.
//! - [`report`]: what was measured. [`screen`]: how it is shown.

pub mod lag;
pub mod report;
pub mod screen;
pub mod tour;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::clouds::Plan;
use crate::etcd::Etcd;

/// Runs the tour in this directory, which is emptied first; `false` if a promise was broken. The
/// registry is a directory there, or an etcd of its own.
pub fn run(dir: &Path, bytes_min: u64, on_etcd: bool) -> Result<bool> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("cannot empty {}", dir.display()))?;
    }
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let path = dir.join("report.json");
    let etcd = on_etcd.then(Etcd::start);
    let mut plan = Plan::two_clouds(dir);
    plan.registry = etcd.as_ref().map(Etcd::address);
    let mut tour = tour::Tour::begin(plan, bytes_min)?;
    let walked = tour.walk();
    tour.finish(&path)?;
    walked?;
    Ok(tour.report.is_good())
}
