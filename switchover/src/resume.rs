//! `resume`: an operation whose tool died, from any machine.

use ops::exit::Exit;
use serde_json::{Value, json};
use topology::record::{Cause, Freeze};
use topology::{FreezeId, Record, Revision};

use crate::args::Accept;
use crate::claim::Patience;
use crate::operation::{Limits, Operation, was_committed};
use crate::plan::active;
use crate::report::Report;
use crate::resize;
use crate::switch::finish;
use crate::tool::Tool;

/// `resume`: the record says how far it came; the journal only what it was called.
pub(crate) async fn resume(
    tool: &Tool,
    accept: Accept,
    no_wait_reverse: bool,
) -> anyhow::Result<Exit> {
    if tool.dry_run {
        return would(tool).await;
    }
    let work = Box::pin(go_on(tool, accept, no_wait_reverse));
    let (seen, record) = tool.claimed("resume", Patience::ForTheDead, work).await?;
    // A switch that a resize began has ended by now, or is still to come.
    if seen != Some(Exit::Unknown)
        && let Some(open) = resize::Open::find(tool).await?
    {
        return resize::resume(tool, open, no_wait_reverse).await;
    }
    if let Some(exit) = seen {
        return Ok(exit);
    }
    let text = "nothing to resume: no freeze is under way, and every journaled operation has ended";
    let json = json!({"operation": "resume", "message": text, "epoch": record.epoch, "exit": 0});
    tool.result(text, &json).map(|()| Exit::Done)
}

/// What there is to resume.
async fn would(tool: &Tool) -> anyhow::Result<Exit> {
    let (_, record, _) = tool.view()?;
    let journals = tool.service.journals().await?;
    let text = match (record.freeze(), journals.iter().rev().find(is_open)) {
        (Some(freeze), _) => format!(
            "would go on with the freeze {} to `{}`: it has not committed",
            freeze.id, freeze.to
        ),
        (None, Some((op, about))) => {
            format!("would see through {} {op} to {}", about["operation"], about["to"])
        }
        (None, None) => "nothing to resume".to_owned(),
    };
    let json = json!({"operation": "resume", "message": text, "epoch": record.epoch, "exit": 0});
    tool.result(&text, &json).map(|()| Exit::Done)
}

/// Whether a journal does not say how its operation ended.
pub(crate) fn is_open((_, about): &&(String, Value)) -> bool {
    ["running", "incomplete", "unknown"].iter().any(|state| about["state"] == json!(state))
}

/// Sees a switch through, if one is under way; how that ended, and the record before it.
async fn go_on(
    tool: &Tool,
    accept: Accept,
    no_wait_reverse: bool,
) -> anyhow::Result<(Option<Exit>, Record)> {
    // What was seen while the claim was waited for is old.
    let found = tool.service.read_record().await?;
    let Some((record, revision)) = found else {
        let (_, record, _) = tool.view()?;
        return Ok((Some(Exit::Failed), record));
    };
    let journals = tool.service.journals().await?;
    let limits = Limits { drain_wait: tool.config.drain_wait, accept };
    if let Some(freeze) = record.freeze().cloned() {
        let journal = journals.iter().find(|(op, _)| *op == freeze.id.to_string());
        let accepted = journal.and_then(|(_, about)| about["accept-loss"].as_str()?.parse().ok());
        let accept = if accept == Accept::NOTHING { accepted.unwrap_or(accept) } else { accept };
        let limits = Limits { accept, ..limits };
        let report = report(journal.map(|(_, about)| about), &freeze, &active(&record));
        tool.progress(format!(
            "the freeze {} to `{}` is under way: going on",
            freeze.id, freeze.to
        ));
        let held = (record.clone(), revision);
        let operation = Operation::adopt(tool, report, held, freeze, limits).await?;
        let exit = finish(tool, &operation.drive(no_wait_reverse).await)?;
        return Ok((Some(exit), record));
    }
    let of_a_switch =
        |journal: &&(String, Value)| is_open(journal) && !resize::is_resize(&journal.1);
    let Some((op, about)) = journals.iter().rev().find(of_a_switch) else {
        return Ok((None, record));
    };
    let held = (record.clone(), revision);
    let exit = ended(tool, held, op, about, limits, no_wait_reverse).await?;
    Ok((Some(exit), record))
}

/// The operation's freeze is over, and its journal does not say how.
async fn ended(
    tool: &Tool,
    (record, revision): (Record, Revision),
    op: &str,
    about: &Value,
    limits: Limits,
    no_wait_reverse: bool,
) -> anyhow::Result<Exit> {
    let id = FreezeId::try_from(op.to_owned())
        .map_err(|why| anyhow::anyhow!("a journal is named `{op}`: {why}"))?;
    let to = about["to"].as_str().unwrap_or_default().to_owned();
    let forks = record.forks.iter().find(|fork| fork.freeze == id);
    // The journal and the forks have what is left to know of the freeze.
    let now = topology::record::UnixMs::now();
    let cause = if about["operation"] == "failover" { Cause::Failover } else { Cause::Switchover };
    let freeze = Freeze {
        id,
        cause,
        shards: Vec::new(),
        to,
        deadline: now,
        since: now,
        rest: Default::default(),
    };
    let mut report = report(Some(about), &freeze, about["from"].as_str().unwrap_or_default());
    if !was_committed(&record, id) {
        report.epoch = Some(record.epoch.0);
        let message = format!(
            "it was rolled back: its freeze ended without a commit, nothing is lost, and {} is active at epoch {}",
            active(&record),
            record.epoch
        );
        report.close(Exit::RolledBack, Some(message));
        let mut closed = about.clone();
        closed["state"] = json!(report.outcome);
        closed["report"] = json!(report);
        closed["resumed_by"] = json!(tool.by);
        tool.service.put_journal(op, &closed).await?;
        return finish(tool, &report);
    }
    let later = forks.is_some_and(|fork| fork.epoch < record.epoch);
    tool.progress(match later {
        true => "it was committed, and others came after it; waiting for the present record",
        false => "it was committed: waiting for its members",
    });
    let operation = Operation::adopt(tool, report, (record, revision), freeze, limits).await?;
    finish(tool, &operation.finish(no_wait_reverse).await)
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
