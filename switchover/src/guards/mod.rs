//! What is looked at before a switch. Each guard says what it saw, whether it lets the switch pass or
//! not; of a failover some only say it, since there may be nothing better to go to.

mod agreement;
mod hosts;
mod members;
mod past;
mod stake;
mod streams;

use std::time::Duration;

use serde::Serialize;
use topology::record::Cause;
use topology::{Record, ServiceView, ShardName};

use crate::args::{Accept, Guards};

pub(crate) use hosts::{behind_or_silent, written};
pub(crate) use members::no_standby;
pub(crate) use past::Past;
pub(crate) use streams::{behind, held};

/// A guard's verdict.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// What was looked at.
    pub guard: &'static str,
    /// Whether it lets the operation pass.
    pub pass: bool,
    /// What it saw.
    pub detail: String,
}

impl Verdict {
    /// Passes unless there are problems.
    pub(crate) fn of(guard: &'static str, problems: Vec<String>, well: impl Into<String>) -> Self {
        match problems.is_empty() {
            true => Self { guard, pass: true, detail: well.into() },
            false => Self { guard, pass: false, detail: problems.join("; ") },
        }
    }

    /// Only says what it saw.
    pub(crate) fn said(self) -> Self {
        match self.pass {
            true => self,
            false => {
                Self { pass: true, detail: format!("(does not refuse) {}", self.detail), ..self }
            }
        }
    }
}

/// Asks those guards of a switch that can be asked before its target is in the record: nobody waits hours
/// for a seed to be refused for what could be seen before.
pub(crate) fn before_a_seed(
    view: &ServiceView,
    record: &Record,
    pairs: &[(ShardName, ShardName)],
    timeout: Duration,
    limits: &Guards,
) -> Vec<Verdict> {
    vec![
        members::set_back(view, record),
        members::free(view, record, Cause::Switchover),
        members::primaries(view, record, &record.primaries),
        members::proxies(view, record),
        members::holds(view, timeout),
        hosts::clocks(view, limits),
        agreement::settings(view, pairs, limits),
        // Users may come with what is seeded; the switch asks again.
        agreement::users(view, pairs, limits).said(),
    ]
}

/// In words, why the guards refuse; empty if none does.
pub(crate) fn reasons(verdicts: &[Verdict]) -> String {
    let refusals = verdicts.iter().filter(|verdict| !verdict.pass);
    refusals.map(|v| format!("{}: {}", v.guard, v.detail)).collect::<Vec<_>>().join("; ")
}

/// What is asked for.
pub(crate) struct Asked<'a> {
    /// Planned or not.
    pub(crate) cause: Cause,
    /// The cluster that is to take over.
    pub(crate) to: &'a str,
    /// The primaries that move.
    pub(crate) moves: &'a [ShardName],
    /// Which losses are accepted.
    pub(crate) accept: Accept,
    /// The freeze's deadline, from its beginning.
    pub(crate) timeout: Duration,
}

/// Asks all guards.
pub(crate) fn ask(
    view: &ServiceView,
    record: &Record,
    past: &Past,
    pairs: &[(ShardName, ShardName)],
    asked: &Asked<'_>,
    limits: &Guards,
) -> Vec<Verdict> {
    let mut found = vec![
        members::set_back(view, record),
        members::free(view, record, asked.cause),
        members::elsewhere(asked.moves, asked.to),
    ];
    let planned = asked.cause == Cause::Switchover;
    if planned {
        found.push(members::primaries(view, record, asked.moves));
        found.push(streams::streams(view, pairs));
        found.push(streams::lag(view, pairs, limits));
        found.push(streams::timelines(view, pairs));
    }
    found.push(members::standbys(view, pairs));
    let rest = [
        members::proxies(view, record),
        members::holds(view, asked.timeout),
        hosts::disks(view, pairs, limits),
        hosts::clocks(view, limits),
        agreement::settings(view, pairs, limits),
        agreement::users(view, pairs, limits),
        past::snapshot(view, limits),
        past::interval(past, limits),
    ];
    found.extend(rest.into_iter().map(|v| if planned { v } else { v.said() }));
    if !planned {
        found.push(stake::at_stake(view, asked.moves, pairs, asked.accept));
    }
    found
}
