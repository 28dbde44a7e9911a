//! What INFO says of commands and errors.

use super::super::session::Shared;
use super::line;
use crate::stats::{commands, errors};

pub(super) fn commandstats(_: &Shared, out: &mut String) {
    line!(out, "# Commandstats");
    for total in commands::totals() {
        let (usec, calls) = (total.nanos / 1000, total.calls);
        let per_call = if calls == 0 { 0.0 } else { total.nanos as f64 / 1000.0 / calls as f64 };
        line!(
            out,
            "cmdstat_{}:calls={calls},usec={usec},usec_per_call={per_call:.2},rejected_calls={},failed_calls={}",
            total.spec.name,
            total.rejected,
            total.failed
        );
    }
}

pub(super) fn errorstats(_: &Shared, out: &mut String) {
    line!(out, "# Errorstats");
    for (code, count) in errors::all() {
        line!(out, "errorstat_{code}:count={count}");
    }
}

pub(super) fn latencystats(shared: &Shared, out: &mut String) {
    line!(out, "# Latencystats");
    let percentiles = shared.parameters.percentiles.get();
    for total in commands::totals().iter().filter(|total| total.times.total() > 0) {
        let one = |percent: &f64| {
            let us = total.times.percentile(*percent) as f64 / 1000.0;
            format!("p{percent}={us:.3}")
        };
        let shown: Vec<_> = percentiles.iter().map(one).collect();
        line!(out, "latency_percentiles_usec_{}:{}", total.spec.name, shown.join(","));
    }
}
