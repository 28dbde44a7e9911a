//! Programs of the operator's that run before and after a switch. The one before may veto.
//!
//! They get no arguments; what they are told is in their environment (docs/operations.md, "Hooks").

use std::path::Path;
use std::process::Stdio;

use ops::exit::{Exit, Stop};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use crate::report::Report;
use crate::tool::Tool;

/// More of what a hook says is not kept.
const SAID_BYTES_MAX: u64 = 4096;

/// Runs a hook; what it said, or why it failed.
async fn run(tool: &Tool, program: &Path, when: &str, report: &Report) -> Result<String, String> {
    let mut command = Command::new(program);
    command
        .env("GODWIT_HOOK", when)
        .env("GODWIT_SERVICE", tool.service.name())
        .env("GODWIT_OPERATION", &report.operation)
        .env("GODWIT_FROM", &report.from)
        .env("GODWIT_TO", &report.to)
        .env("GODWIT_BY", tool.by.to_string())
        .env("GODWIT_REASON", tool.reason.as_deref().unwrap_or_default())
        .env("GODWIT_EPOCH", report.epoch.map(|e| e.to_string()).unwrap_or_default())
        .env("GODWIT_ID", report.freeze.as_deref().unwrap_or_default())
        .env("GODWIT_OUTCOME", &report.outcome)
        .env("GODWIT_EXIT", report.exit.to_string())
        .env("GODWIT_PAUSE_MS", report.pause_ms.map(|ms| ms.to_string()).unwrap_or_default())
        .env("GODWIT_MESSAGE", report.message.as_deref().unwrap_or_default())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true);
    let mut child =
        command.spawn().map_err(|why| format!("{} cannot be started: {why}", program.display()))?;
    let said = child.stdout.take();
    let limit = tool.config.hooks.timeout;
    let ended = tokio::time::timeout(limit, async {
        let mut kept = Vec::new();
        if let Some(mut said) = said {
            // What it says is for people; that it cannot be read changes nothing.
            let _ = (&mut said).take(SAID_BYTES_MAX).read_to_end(&mut kept).await;
            let _ = tokio::io::copy(&mut said, &mut tokio::io::sink()).await;
        }
        (child.wait().await, String::from_utf8_lossy(&kept).trim().to_owned())
    });
    match ended.await {
        Err(_) => Err(format!("{} took longer than {limit:?} (hook-timeout)", program.display())),
        Ok((Err(why), _)) => Err(format!("{}: {why}", program.display())),
        Ok((Ok(status), said)) if status.success() => Ok(said),
        Ok((Ok(status), said)) => {
            let said = if said.is_empty() { "it said nothing".to_owned() } else { said };
            Err(format!("{} ended with {status}: {said}", program.display()))
        }
    }
}

/// Asks the hook before a switch; an error is its veto.
pub(crate) async fn before(tool: &Tool, report: &Report) -> Result<(), Stop> {
    let Some(program) = &tool.config.hooks.before else { return Ok(()) };
    match run(tool, program, "before", report).await {
        Ok(said) => {
            tool.progress(format!("the hook before agrees {said}").trim_end());
            Ok(())
        }
        Err(why) => Err(Stop::new(
            Exit::Refused,
            format!("refused by the hook before the switch, nothing was changed: {why}"),
        )),
    }
}

/// Tells the hook after a switch how it ended; what it makes of that changes nothing.
pub(crate) async fn after(tool: &Tool, report: &Report) {
    let Some(program) = &tool.config.hooks.after else { return };
    match run(tool, program, "after", report).await {
        Ok(said) => tool.progress(format!("the hook after is done {said}").trim_end()),
        Err(why) => {
            tool.progress(format!("the hook after failed, which changes nothing: {why}"));
        }
    }
}
