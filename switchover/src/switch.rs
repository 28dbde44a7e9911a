//! `run` and `failover`.

use std::time::{Duration, Instant};

use ops::exit::Exit;
use ops::units::Span;
use topology::record::Cause;

use crate::args::{Accept, How, Scope};
use crate::claim::Patience;
use crate::hooks;
use crate::operation::{Limits, Operation};
use crate::plan::{Plan, moving};
use crate::report::{Report, ms};
use crate::tool::Tool;

/// The deadline of a planned switch's freeze, where none was asked for.
const TIMEOUT: Span = Span::secs(10);
/// Besides lease and drains, for the rest of what a failover does under its freeze.
const FAILOVER_SLACK: Duration = Duration::from_secs(10);

/// The deadline of a freeze.
pub(crate) fn timeout(tool: &Tool, cause: Cause, lease_ms: u64) -> Duration {
    let config = &tool.config;
    match (config.timeout, cause) {
        (Some(asked), _) => asked.duration(),
        (None, Cause::Switchover) => TIMEOUT.duration(),
        (None, Cause::Failover) => {
            Duration::from_millis(lease_ms) + config.drain_wait * 2 + FAILOVER_SLACK
        }
    }
}

/// A report of an operation that these guards let pass, or the closed report of their refusal.
async fn checked(
    tool: &Tool,
    operation: &str,
    (cause, to, accept): (Cause, &str, Accept),
    scope: &Scope,
    yes: bool,
) -> anyhow::Result<Result<Report, Report>> {
    let plan = Plan::of(tool, cause, (to, scope), accept).await?;
    let (_, record, _) = tool.view()?;
    let mut report = Report {
        operation: operation.to_owned(),
        from: plan.from.clone(),
        to: to.to_owned(),
        ..Report::default()
    };
    report.epoch = Some(record.epoch.0);
    report.moves = plan.moves.iter().map(ToString::to_string).collect();
    let refuse = |mut report: Report, exit, why: String| {
        report.close(exit, Some(why));
        Ok(Err(report))
    };
    if plan.refused || tool.dry_run || !yes || cause == Cause::Failover {
        eprint!("{}", plan.text());
    }
    if plan.refused {
        let why = format!("refused, nothing was changed: {}", plan.reasons());
        return refuse(report, Exit::Refused, why);
    }
    if tool.dry_run {
        return refuse(report, Exit::Done, "a dry run: nothing was changed".to_owned());
    }
    let agreed = yes || tool.confirm(&format!("{operation} to `{to}`?")).unwrap_or(false);
    if !agreed {
        let why = "nothing was changed: say --yes to do it".to_owned();
        return refuse(report, Exit::Refused, why);
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
pub(crate) async fn run(tool: &Tool, to: &str, scope: &Scope, how: &How) -> anyhow::Result<Exit> {
    let report = planned(tool, "switchover", (to, scope), how, |_| {}).await?;
    finish(tool, &report)
}

/// A planned switchover; `about` adds to its report.
pub(crate) async fn planned(
    tool: &Tool,
    operation: &str,
    (to, scope): (&str, &Scope),
    how: &How,
    about: impl FnOnce(&mut Report),
) -> anyhow::Result<Report> {
    let began = Instant::now();
    let what = (Cause::Switchover, to, Accept::NOTHING);
    let mut report = match checked(tool, operation, what, scope, how.yes).await? {
        Ok(report) => report,
        Err(refused) => return Ok(refused),
    };
    about(&mut report);
    tool.progress(format!(
        "{operation} {} -> {to}: guards passed ({} ms)",
        report.from,
        ms(began.elapsed())
    ));
    let limits = Limits { drain_wait: tool.config.drain_wait, accept: Accept::NOTHING };
    go(tool, report, (Cause::Switchover, scope), limits, how).await
}

/// Does what was checked, with the service claimed.
async fn go(
    tool: &Tool,
    report: Report,
    (cause, scope): (Cause, &Scope),
    limits: Limits,
    how: &How,
) -> anyhow::Result<Report> {
    let name = report.operation.clone();
    let work = Box::pin(with_claim(tool, report, (cause, scope), limits, how));
    tool.claimed(&name, Patience::None, work).await
}

async fn with_claim(
    tool: &Tool,
    report: Report,
    (cause, scope): (Cause, &Scope),
    limits: Limits,
    how: &How,
) -> anyhow::Result<Report> {
    let (_, record, _) = tool.view()?;
    let timeout = timeout(tool, cause, record.lease_ms);
    if let Err(veto) = hooks::before(tool, &report).await {
        let mut report = report;
        report.close(veto.exit, Some(veto.to_string()));
        return Ok(report);
    }
    let moves = moving(&record, &report.to, scope)?;
    let operation = Operation::begin(tool, report, (cause, moves), timeout, limits).await?;
    let report = operation.drive(how.no_wait_reverse).await;
    hooks::after(tool, &report).await;
    Ok(report)
}

/// Asks the guards about a failover that no person is asked about; `Err`: the report of their refusal.
pub(crate) async fn failover_checked(
    tool: &Tool,
    (to, scope): (&str, &Scope),
    accept: Accept,
) -> anyhow::Result<Result<Report, Report>> {
    checked(tool, "failover", (Cause::Failover, to, accept), scope, true).await
}

/// Does what was checked, with the service claimed by the caller.
pub(crate) async fn failover_claimed(
    tool: &Tool,
    report: Report,
    scope: &Scope,
    accept: Accept,
) -> anyhow::Result<Report> {
    let limits = Limits { drain_wait: tool.config.drain_wait, accept };
    let how = How { yes: true, no_wait_reverse: true };
    with_claim(tool, report, (Cause::Failover, scope), limits, &how).await
}

/// `failover`.
pub(crate) async fn failover(
    tool: &Tool,
    (to, scope): (&str, &Scope),
    accept: Accept,
    how: &How,
) -> anyhow::Result<Exit> {
    let what = (Cause::Failover, to, accept);
    let report = match checked(tool, "failover", what, scope, how.yes).await? {
        Ok(report) => report,
        Err(refused) => return finish(tool, &refused),
    };
    let limits = Limits { drain_wait: tool.config.drain_wait, accept };
    let report = go(tool, report, (Cause::Failover, scope), limits, how).await?;
    finish(tool, &report)
}
