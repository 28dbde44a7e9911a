//! `catch-up`, `apply-delay`, `apply-anyway` and `discard`: orders about what is staged here and not
//! applied.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use ops::exit::{Exit, Stop};
use ops::units::Span;
use serde::Serialize;
use tokio::time::Instant;
use topology::ShardName;

use super::{At, Form};
use crate::target::hold::{HoldState, Order, give, path_of, sources_in, waiting};

/// How long the sidecar may take to obey.
const OBEY_WITHIN: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Which stream.
#[derive(Args, Clone, Debug)]
pub struct HoldArgs {
    /// Only what comes from this shard, `a/0` [default: from all]
    #[arg(long, value_name = "SHARD")]
    source: Option<ShardName>,
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    form: Form,
}

/// `apply-delay`
#[derive(Args, Clone, Debug)]
pub struct DelayArgs {
    /// How far behind the node is kept from now on, `30m`; `0s` for not at all; without, as it was
    /// configured
    delay: Option<Span>,
    #[command(flatten)]
    hold: HoldArgs,
}

/// `apply-anyway` and `discard`
#[derive(Args, Clone, Debug)]
pub struct DecideArgs {
    /// Do it; without, say what the breaker stopped and exit 3
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    hold: HoldArgs,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Said {
    source: String,
    obeyed: bool,
    state: HoldState,
}

/// `catch-up`: the delay ends for what is staged.
pub(super) async fn catch_up(args: HoldArgs) -> anyhow::Result<Exit> {
    let sources = sources(&args)?;
    order(&args, "catch-up", &sources, &Order::CatchUp).await
}

/// `apply-delay`: another delay from now on.
pub(super) async fn delay(args: DelayArgs) -> anyhow::Result<Exit> {
    let delay_ms =
        args.delay.map(|delay| u64::try_from(delay.duration().as_millis()).unwrap_or(u64::MAX));
    let sources = sources(&args.hold)?;
    order(&args.hold, "apply-delay", &sources, &Order::Delay { delay_ms }).await
}

/// `apply-anyway`: what tripped the breaker is meant.
pub(super) async fn apply_anyway(args: DecideArgs) -> anyhow::Result<Exit> {
    decide(args, "apply-anyway", &Order::ApplyAnyway, true).await
}

/// `discard`: what tripped the breaker must never be applied here.
pub(super) async fn discard(args: DecideArgs) -> anyhow::Result<Exit> {
    decide(args, "discard", &Order::Discard, false).await
}

async fn decide(
    args: DecideArgs,
    verb: &'static str,
    what: &Order,
    discarded_too: bool,
) -> anyhow::Result<Exit> {
    let spool = args.hold.at.spool();
    let mut tripped = Vec::new();
    for source in sources(&args.hold)? {
        let state = HoldState::read(&path_of(&spool, &source))?;
        if state.tripped.is_some() || (discarded_too && state.discarded.is_some()) {
            tripped.push(source);
        }
    }
    if tripped.is_empty() {
        return Err(Stop::new(Exit::Refused, "no breaker has tripped here").into());
    }
    if !args.yes {
        let mut said = Vec::new();
        for source in &tripped {
            let state = HoldState::read(&path_of(&spool, source))?;
            let why = state.tripped.map(|t| t.to_string());
            let why = why.or(state.discarded.map(|d| d.to_string()));
            said.push(format!("{source}: {}", why.unwrap_or_default()));
        }
        let message = format!("{}\nsay `{verb} --yes` to do it", said.join("\n"));
        return Err(Stop::new(Exit::Refused, message).into());
    }
    order(&args.hold, verb, &tripped, what).await
}

fn sources(args: &HoldArgs) -> anyhow::Result<Vec<ShardName>> {
    let spool = args.at.spool();
    let mut sources = sources_in(&spool)
        .with_context(|| format!("listing what is staged in {}", spool.display()))?;
    sources.retain(|source| args.source.as_ref().is_none_or(|wanted| wanted == source));
    if sources.is_empty() {
        let why = format!("{} has a stage of no such source", spool.display());
        return Err(Stop::new(Exit::Refused, why).into());
    }
    Ok(sources)
}

/// Gives the order for each source and waits until the sidecar has obeyed.
async fn order(
    args: &HoldArgs,
    verb: &'static str,
    sources: &[ShardName],
    what: &Order,
) -> anyhow::Result<Exit> {
    let spool = args.at.spool();
    for source in sources {
        give(&spool, source, what).with_context(|| format!("giving the order about {source}"))?;
    }
    let deadline = Instant::now() + OBEY_WITHIN;
    let mut said = Vec::new();
    for source in sources {
        let obeyed = wait(&spool, source, deadline).await;
        let state = HoldState::read(&path_of(&spool, source))?;
        said.push(Said { source: source.to_string(), obeyed, state });
    }
    let obeyed = said.iter().all(|said| said.obeyed);
    let exit = if obeyed { Exit::Done } else { Exit::Incomplete };
    let mut text = String::new();
    for Said { source, obeyed, .. } in &said {
        let how = match obeyed {
            true => "obeyed",
            false => "NOT YET obeyed: the sidecar does so when it runs",
        };
        text.push_str(&format!("{verb} {source}: {how}\n"));
    }
    let json = serde_json::json!({ "operation": verb, "sources": said, "exit": exit.code() });
    args.form.result(&text, &json)?;
    Ok(exit)
}

async fn wait(spool: &Path, source: &ShardName, deadline: Instant) -> bool {
    while waiting(spool, source) {
        if Instant::now() > deadline {
            return false;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    true
}
