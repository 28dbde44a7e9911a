//! `auto`: lets the service fail over by itself within limits, or not any more. It only writes what is
//! allowed; `watch --auto` is who acts.

use std::time::Duration;

use ops::exit::{Exit, Stop};
use ops::units::Span;
use serde_json::json;
use topology::operator::Auto;
use topology::record::UnixMs;

use crate::args::{Accept, OnOff};
use crate::tool::Tool;

/// What `auto on` is told.
#[derive(clap::Args, Clone, Debug)]
pub struct Limits {
    /// A cluster that may take over; said again for the next best
    #[arg(long = "to", value_name = "CLUSTER")]
    pub to: Vec<String>,
    /// The loss that is accepted, as by `failover --accept-loss`; if more is missing, it is refused and
    /// somebody is told
    #[arg(long, value_name = "LOSS", default_value = "0 writes")]
    pub max_loss: Accept,
    /// How long half of the observers must call a primary down before anything is done
    #[arg(long, value_name = "SPAN", default_value = "5s")]
    pub wait: Span,
    /// The least time since the last switch
    #[arg(long = "not-within", value_name = "SPAN", default_value = "10m")]
    pub min_interval: Span,
    /// Move only the primaries that are down, and leave the service split between clusters
    #[arg(long)]
    pub only_failed: bool,
}

/// The limits in a sentence.
pub(crate) fn says(auto: &Auto) -> String {
    let span = |ms| Span(Duration::from_millis(ms));
    format!(
        "to {} once a primary has been down for {}, accepting a loss of {}, not within {} of the last switch{}",
        auto.to.join(", else "),
        span(auto.wait_ms),
        auto.max_loss,
        span(auto.min_interval_ms),
        if auto.only_failed { ", only what is down" } else { "" }
    )
}

/// `auto on|off`; without either it says how it is.
pub(crate) async fn auto(
    tool: &Tool,
    state: Option<OnOff>,
    limits: Limits,
) -> anyhow::Result<Exit> {
    let (view, record, _) = tool.view()?;
    let dry = if tool.dry_run { "would be " } else { "" };
    let now = match state {
        None => view.auto.clone(),
        Some(OnOff::Off) => {
            if !tool.dry_run {
                tool.service.set_auto(None).await?;
            }
            None
        }
        Some(OnOff::On) => {
            let usage = |why: String| Stop::new(Exit::Usage, why);
            if limits.to.is_empty() {
                return Err(
                    usage("say which cluster may take over: --to CLUSTER".to_owned()).into()
                );
            }
            if let Some(none) = limits.to.iter().find(|to| !record.clusters.contains_key(*to)) {
                return Err(usage(format!("there is no cluster `{none}` in the service")).into());
            }
            let ms = |span: Span| u64::try_from(span.duration().as_millis()).unwrap_or(u64::MAX);
            let auto = Auto {
                to: limits.to,
                max_loss: limits.max_loss.to_string(),
                wait_ms: ms(limits.wait),
                min_interval_ms: ms(limits.min_interval),
                only_failed: limits.only_failed,
                by: tool.by.clone(),
                since: UnixMs::now(),
                reason: tool.reason.clone(),
            };
            if !tool.dry_run {
                tool.service.set_auto(Some(&auto)).await?;
            }
            Some(auto)
        }
    };
    let text = match &now {
        None => format!("auto {dry}off: watchers advise, and nobody acts"),
        Some(auto) => format!(
            "auto {dry}on: {}. It takes a `godwit-switchover watch --auto` that runs, best in two places",
            says(auto)
        ),
    };
    let json =
        json!({"operation": "auto", "on": now.is_some(), "auto": now, "message": text, "exit": 0});
    tool.result(&text, &json).map(|()| Exit::Done)
}
