//! `resume` and `cancel`: an operation whose tool died, from any machine.

use ops::exit::Exit;
use ops::units::Span;
use serde_json::{Value, json};
use topology::record::{Cause, Freeze};
use topology::service::Cancelled;
use topology::{FreezeId, Record, Revision};

use crate::args::After;
use crate::operation::{Limits, Operation, was_committed};
use crate::plan::active;
use crate::report::Report;
use crate::switch::finish;
use crate::tool::Tool;

/// `resume`: the record says how far it came; the journal only what it was called.
pub(crate) async fn resume(
    tool: &Tool,
    accept_loss: bool,
    drain_wait: Span,
    after: &After,
) -> anyhow::Result<Exit> {
    let (_, record, revision) = tool.view()?;
    let journals = tool.service.journals().await?;
    let limits = Limits { drain_wait: drain_wait.duration(), accept_loss };
    if let Some(freeze) = record.freeze().cloned() {
        let journal = journals.iter().find(|(op, _)| *op == freeze.id.to_string());
        let accepted = journal.is_some_and(|(_, about)| about["accept-loss"] == json!(true));
        let limits = Limits { accept_loss: accept_loss || accepted, ..limits };
        let report = report(journal.map(|(_, about)| about), &freeze, &active(&record));
        tool.progress(format!(
            "the freeze {} to `{}` is under way: going on",
            freeze.id, freeze.to
        ));
        let operation = Operation::adopt(tool, report, (record, revision), freeze, limits).await?;
        return finish(tool, &operation.drive(after).await);
    }
    let open = |(_, about): &&(String, Value)| {
        ["running", "incomplete", "unknown"].iter().any(|state| about["state"] == json!(state))
    };
    let Some((op, about)) = journals.iter().rev().find(open) else {
        let text =
            "nothing to resume: no freeze is under way, and every journaled operation has ended";
        let json =
            json!({"operation": "resume", "message": text, "epoch": record.epoch, "exit": 0});
        return tool.result(text, &json).map(|()| Exit::Done);
    };
    ended(tool, (record, revision), op, about, limits, after).await
}

/// The operation's freeze is over, and its journal does not say how.
async fn ended(
    tool: &Tool,
    (record, revision): (Record, Revision),
    op: &str,
    about: &Value,
    limits: Limits,
    after: &After,
) -> anyhow::Result<Exit> {
    let id = FreezeId::try_from(op.to_owned())
        .map_err(|why| anyhow::anyhow!("a journal is named `{op}`: {why}"))?;
    let to = about["to"].as_str().unwrap_or_default().to_owned();
    let forks = record.forks.iter().find(|fork| fork.freeze == id);
    // The journal and the forks have what is left to know of the freeze.
    let now = topology::record::UnixMs::now();
    let cause = if about["operation"] == "failover" { Cause::Failover } else { Cause::Switchover };
    let freeze = Freeze { id, cause, shards: Vec::new(), to, deadline: now, since: now };
    let mut report = report(Some(about), &freeze, about["from"].as_str().unwrap_or_default());
    if !was_committed(&record, id) {
        report.epoch = Some(record.epoch.0);
        let message = format!(
            "it was rolled back: its freeze ended without a commit, and {} is active at epoch {}",
            active(&record),
            record.epoch
        );
        report.close(Exit::RolledBack, Some(message));
        let mut closed = about.clone();
        closed["state"] = json!(report.outcome);
        tool.service.put_journal(op, &closed).await?;
        return finish(tool, &report);
    }
    let later = forks.is_some_and(|fork| fork.epoch < record.epoch);
    tool.progress(match later {
        true => "it was committed, and others came after it; waiting for the present record",
        false => "it was committed: waiting for its members",
    });
    let operation = Operation::adopt(tool, report, (record, revision), freeze, limits).await?;
    finish(tool, &operation.finish(after).await)
}

fn report(about: Option<&Value>, freeze: &Freeze, from: &str) -> Report {
    let named = about.and_then(|about| about["operation"].as_str());
    let by_cause = match freeze.cause {
        Cause::Switchover => "switchover",
        Cause::Failover => "failover",
    };
    Report {
        operation: named.unwrap_or(by_cause).to_owned(),
        from: from.to_owned(),
        to: freeze.to.clone(),
        freeze: Some(freeze.id.to_string()),
        ..Report::default()
    }
}

/// `cancel`.
pub(crate) async fn cancel(tool: &Tool) -> anyhow::Result<Exit> {
    let (_, record, _) = tool.view()?;
    let (text, epoch) = match record.freeze() {
        None => ("no freeze is under way; nothing was changed".to_owned(), record.epoch),
        Some(freeze) => match tool.service.cancel(freeze.id).await? {
            Cancelled::Ended(now) => (
                format!("the freeze is over: {} is active at epoch {}", active(&now), now.epoch),
                now.epoch,
            ),
            Cancelled::WasOver(now) => (
                format!(
                    "the freeze was over already: {} is active at epoch {}",
                    active(&now),
                    now.epoch
                ),
                now.epoch,
            ),
        },
    };
    let json = json!({"operation": "cancel", "message": text, "epoch": epoch, "exit": 0});
    tool.result(&text, &json).map(|()| Exit::Done)
}
