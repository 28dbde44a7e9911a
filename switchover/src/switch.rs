//! `run` and `failover`.

use std::time::{Duration, Instant};

use ops::exit::Exit;
use ops::units::Span;
use topology::record::Cause;

use crate::args::{After, Guards, Switch};
use crate::operation::{Limits, Operation};
use crate::plan::Plan;
use crate::report::{Report, ms};
use crate::tool::Tool;

/// How a failover may go.
pub(crate) struct Failover {
    pub(crate) accept_loss: bool,
    pub(crate) drain_wait: Span,
    pub(crate) timeout: Option<Span>,
}

/// Besides lease and drains, for the rest of what a failover does under its freeze.
const FAILOVER_SLACK: Duration = Duration::from_secs(10);

/// A report of an operation that these guards let pass, or the closed report of their refusal.
fn checked(
    tool: &Tool,
    operation: &str,
    (cause, to): (Cause, &str),
    guards: &Guards,
    yes: bool,
) -> anyhow::Result<Result<Report, Report>> {
    let (view, record, _) = tool.view()?;
    let plan = Plan::of(cause, &view, &record, to, guards)?;
    let mut report = Report {
        operation: operation.to_owned(),
        from: plan.from.clone(),
        to: to.to_owned(),
        ..Report::default()
    };
    report.epoch = Some(record.epoch.0);
    if plan.refused || !yes {
        eprint!("{}", plan.text());
        let why = match plan.refused {
            true => format!("refused, nothing was changed: {}", plan.reasons()),
            false => "nothing was changed: say --yes to do it".to_owned(),
        };
        report.close(Exit::Refused, Some(why));
        return Ok(Err(report));
    }
    Ok(Ok(report))
}

/// Prints a report; its exit code.
pub(crate) fn finish(tool: &Tool, report: &Report) -> anyhow::Result<Exit> {
    tool.result(&report.text(), report)?;
    Ok([Exit::Done, Exit::Failed, Exit::Usage, Exit::Refused, Exit::RolledBack, Exit::Incomplete]
        .into_iter()
        .find(|exit| exit.code() == report.exit)
        .unwrap_or(Exit::Unknown))
}

/// `run`.
pub(crate) async fn run(tool: &Tool, to: &str, switch: &Switch) -> anyhow::Result<Exit> {
    let report = planned(tool, "switchover", to, switch, |_| {}).await?;
    finish(tool, &report)
}

/// A planned switchover; `about` adds to its report.
pub(crate) async fn planned(
    tool: &Tool,
    operation: &str,
    to: &str,
    switch: &Switch,
    about: impl FnOnce(&mut Report),
) -> anyhow::Result<Report> {
    let began = Instant::now();
    let guarded = checked(tool, operation, (Cause::Switchover, to), &switch.guards, switch.yes)?;
    let mut report = match guarded {
        Ok(report) => report,
        Err(refused) => return Ok(refused),
    };
    about(&mut report);
    tool.progress(format!(
        "{operation} {} -> {to}: guards passed ({} ms)",
        report.from,
        ms(began.elapsed())
    ));
    let limits = Limits { drain_wait: switch.timeout.duration(), accept_loss: false };
    let timeout = switch.timeout.duration();
    let operation = Operation::begin(tool, report, Cause::Switchover, timeout, limits).await?;
    Ok(operation.drive(&switch.after).await)
}

/// `failover`.
pub(crate) async fn failover(
    tool: &Tool,
    to: &str,
    yes: bool,
    how: &Failover,
    after: &After,
) -> anyhow::Result<Exit> {
    // Lag and streams of a cluster that failed are no reason to refuse.
    let guards = Guards { max_lag: Span(Duration::MAX) };
    let report = match checked(tool, "failover", (Cause::Failover, to), &guards, yes)? {
        Ok(report) => report,
        Err(refused) => return finish(tool, &refused),
    };
    let (_, record, _) = tool.view()?;
    let lease = Duration::from_millis(record.lease_ms);
    let drain_wait = how.drain_wait.duration();
    let timeout = how.timeout.map_or(lease + drain_wait * 2 + FAILOVER_SLACK, Span::duration);
    let limits = Limits { drain_wait, accept_loss: how.accept_loss };
    let operation = Operation::begin(tool, report, Cause::Failover, timeout, limits).await?;
    finish(tool, &operation.drive(after).await)
}
